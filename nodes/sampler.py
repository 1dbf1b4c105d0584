"""EMO Sampler: samples the latents of a video clip by clip and caches finished clips on the disk."""

from __future__ import annotations

from comfy_api.latest import io

from ..emo_model.config import SAMPLING, SamplingConfig
from ..emo_model.inputs.face import whole_mask
from ..emo_model.inputs.portrait import face_mask as face_mask_of
from ..emo_model.sampling.direction import direct
from ..emo_model.sampling.expression import Expression
from ..emo_model.sampling.samplers import OLD_SAMPLERS, SAMPLERS
from ..emo_model.types import AudioFeatures, Conditions, FaceMask, FaceMasks, MotionFrames, Speed
from . import comfy_bridge, conversions
from .custom_types import (
    AudioFeaturesType,
    ClipsType,
    EmoModelType,
    ExpressionType,
    FaceMaskType,
    MotionType,
    OptionsType,
    Reference,
    ReferenceType,
    SpeedType,
)
from .schemas import advanced, schema
from .widgets import seed_input

DEFAULTS, HALLO = SamplingConfig(), SAMPLING["hallo"]
OWN = "model's own"
RENDER = ("all clips", "finished clips only")


class EmoSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="EmoSampler",
            display_name="EMO Sampler",
            description="Samples the video clip by clip. Finished clips are cached on the disk: after a cancel or a "
            "crash, queue again to resume.",
            inputs=[
                EmoModelType.Input("model", tooltip="From Load EMO Model."),
                ReferenceType.Input("reference", tooltip="From EMO Reference Encoder, made with the same model."),
                AudioFeaturesType.Input(
                    "audio_features", tooltip="From EMO Audio Encoder; determines the length of the video."
                ),
                seed_input("Seed of the noise: the same seed gives the same video."),
                io.Int.Input(
                    "steps",
                    default=0,
                    min=0,
                    max=200,
                    tooltip="Denoising steps per clip; time is proportional to it. 0: the model's own "
                    f"(built-in default {DEFAULTS.steps}, Hallo {HALLO.steps}).",
                ),
                advanced(
                    io.Combo.Input(
                        "sampler",
                        options=[OWN, *SAMPLERS],
                        default=OWN,
                        tooltip="How a step is taken: 'ddim' is the paper's; 'dpmpp_2m' gets as far in fewer "
                        "steps, from four on.",
                    )
                ),
                io.Float.Input(
                    "audio_guidance",
                    default=0.0,
                    min=0.0,
                    max=20.0,
                    step=0.05,
                    tooltip="Classifier-free guidance scale of the audio: above 1 the mouth follows the "
                    "voice more strongly. Values other than 1 need another evaluation per step. 0: the model's "
                    f"own (built-in default {DEFAULTS.audio_guidance:g}, Hallo {HALLO.audio_guidance:g}).",
                ),
                advanced(
                    io.Float.Input(
                        "reference_guidance",
                        default=0.0,
                        min=0.0,
                        max=20.0,
                        step=0.05,
                        tooltip="Classifier-free guidance scale of the portrait: above 1 its identity is "
                        "preserved more strongly. Values other than 1 need another evaluation per step. 0: the "
                        f"model's own (built-in default {DEFAULTS.reference_guidance:g}, Hallo "
                        f"{HALLO.reference_guidance:g}, the same as for the audio).",
                    )
                ),
                FaceMaskType.Input(
                    "face_mask",
                    optional=True,
                    tooltip="From EMO Face Mask Builder. Not connected: around the detected face; for "
                    "models without face detection, the whole square.",
                ),
                SpeedType.Input(
                    "speed",
                    optional=True,
                    tooltip=f"From EMO Head Speed. Not connected: {DEFAULTS.head_speed:g} degrees per second.",
                ),
                io.Vae.Input(
                    "vae",
                    optional=True,
                    tooltip="Decodes and re-encodes the motion frames between clips, as Hallo's reference "
                    "code does. Not connected: latents are passed on directly, which is faster.",
                ),
                MotionType.Input(
                    "motion", optional=True, tooltip="From EMO Continue From: the last frames of the video to continue."
                ),
                io.Combo.Input(
                    "render",
                    options=list(RENDER),
                    default=RENDER[0],
                    optional=True,
                    tooltip="'all clips' renders every clip that is not cached; 'finished clips only' "
                    "renders nothing and outputs the cached clips of an interrupted run, from the "
                    "first.",
                ),
                OptionsType.Input(
                    "options", optional=True, tooltip="From EMO Sampling Options. Not connected: its defaults."
                ),
                ExpressionType.Input(
                    "expression",
                    optional=True,
                    tooltip="From EMO Expression, for the built-in model. Changing it samples nothing again.",
                ),
            ],
            outputs=[
                ClipsType.Output(
                    display_name="clips", tooltip="For EMO Video Combine; EMO Clips To Latent converts it to a LATENT."
                )
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, sampler: str | None = None) -> bool | str:
        return conversions.option_error(OLD_SAMPLERS.get(sampler, sampler), (OWN, *SAMPLERS), "a sampler") or True

    @classmethod
    def fingerprint_inputs(cls, **inputs) -> str:
        """Forces re-execution if cached clips were deleted from the disk."""
        return comfy_bridge.clips_revision()

    @classmethod
    def execute(
        cls,
        model: comfy_bridge.EmoModel,
        reference: Reference,
        audio_features: AudioFeatures,
        seed: int,
        steps: int,
        sampler: str,
        audio_guidance: float,
        reference_guidance: float,
        face_mask: FaceMask | FaceMasks | None = None,
        speed: Speed | None = None,
        vae=None,
        motion: MotionFrames | None = None,
        render: str = RENDER[0],
        options: SamplingConfig = DEFAULTS,
        expression: Expression = Expression(),
    ) -> io.NodeOutput:
        sampler = OLD_SAMPLERS.get(sampler, sampler)
        conversions.check_option(sampler, (OWN, *SAMPLERS), "a sampler")
        conversions.check_option(render, RENDER, "a way to render")
        conversions.check_match(model.config, reference.portrait, audio_features, face_mask)
        config = conversions.sampling_config(
            options,
            steps=steps or model.sampling.steps,
            sampler=model.sampling.sampler if sampler == OWN else sampler,
            audio_guidance=audio_guidance or model.sampling.audio_guidance,
            reference_guidance=reference_guidance or model.sampling.reference_guidance,
            seed=seed,
        ).for_face(reference.number)
        direction, config = direct(audio_features, expression, config)
        direction.check(model.config)
        portrait = reference.portrait
        where = face_mask or (whole_mask(model.config.image_size) if portrait.mesh is None else face_mask_of(portrait))
        conditions = Conditions(portrait, where, audio_features, speed or Speed.constant(config.head_speed))
        return io.NodeOutput(
            comfy_bridge.render(
                model,
                conditions,
                config,
                reference=reference.features,
                motion=motion or MotionFrames(),
                vae=None if vae is None else comfy_bridge.resolve_vae(vae, reference),
                shown_by=reference.vae,
                picture=reference.whole.still,
                finished_only=render == RENDER[1],
                hidden=cls.hidden,
                direction=direction,
            )
        )
