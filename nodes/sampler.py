"""EMO Sampler: clip by clip, portrait and voice become the latents of a video."""

from __future__ import annotations

import logging
import time

from comfy_api.latest import io

from ..emo_model.config import SAMPLING, SamplingConfig
from ..emo_model.inputs.face import whole_mask
from ..emo_model.sampling.clips import StepReport, count_clips, generate_clips
from ..emo_model.sampling.samplers import SAMPLERS
from ..emo_model.types import AudioFeatures, Conditions, FaceMask, Speed
from . import comfy_bridge, conversions
from .custom_types import AudioFeaturesType, EmoModelType, FaceMaskType, Reference, ReferenceType, SpeedType

DEFAULTS, HALLO = SamplingConfig(), SAMPLING["hallo"]


class EmoSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EmoSampler",
            display_name="EMO Sampler",
            category="EMO",
            description="Makes the video: one latent per frame, for EMO Video Combine or core's VAE Decode.",
            inputs=[
                EmoModelType.Input("model", tooltip="From Load EMO Model."),
                ReferenceType.Input("reference", tooltip="From EMO Reference Encoder, made with the same model."),
                AudioFeaturesType.Input("audio_features", tooltip="From EMO Audio Encoder; the video will be as long."),
                io.Int.Input("seed", default=DEFAULTS.seed, min=0, max=0xFFFF_FFFF_FFFF_FFFF, control_after_generate=True,
                             tooltip="Number that starts the random noise: the same seed gives the same video."),
                io.Int.Input("steps", default=DEFAULTS.steps, min=1, max=200,
                             tooltip="Number of denoising steps of each clip; the time grows in proportion. "
                                     f"The built-in model takes {DEFAULTS.steps}, Hallo {HALLO.steps}."),
                io.Combo.Input("sampler", options=list(SAMPLERS), default=DEFAULTS.sampler,
                               tooltip="How a step is taken; 'ddim' is the paper's."),
                io.Float.Input("audio_guidance", default=DEFAULTS.audio_guidance, min=0.0, max=20.0, step=0.05,
                               tooltip="Factor of how strongly the mouth follows the voice: 1 as trained, above 1 more strongly. "
                                       f"Other values than 1 take more time. For Hallo, {HALLO.audio_guidance:g}."),
                io.Float.Input("reference_guidance", default=DEFAULTS.reference_guidance, min=0.0, max=20.0, step=0.05,
                               tooltip="Factor of how strongly the portrait is kept: 1 as trained, above 1 more strongly. "
                                       "Other values than 1 take more time. For Hallo the same as 'audio_guidance', "
                                       f"{HALLO.reference_guidance:g}."),
                FaceMaskType.Input("face_mask", optional=True,
                                   tooltip="From EMO Face Mask Builder. Nothing connected: the face may be anywhere."),
                SpeedType.Input("speed", optional=True,
                                tooltip=f"From EMO Head Speed. Nothing connected: {DEFAULTS.head_speed:g} degrees per second."),
                io.Vae.Input("vae", optional=True,
                             tooltip="Sends the last frames of each clip to pictures and back before the next clip reads them, "
                                     "as Hallo's own code does. Nothing connected: they are handed on as they are, which is "
                                     "faster."),
            ],
            outputs=[io.Latent.Output(display_name="latent", tooltip="One latent per frame.")])

    @classmethod
    def validate_inputs(cls, sampler: str) -> bool | str:
        return sampler in SAMPLERS or f"'{sampler}' is not a sampler; choose one of {', '.join(SAMPLERS)}."

    @classmethod
    def execute(cls, model: comfy_bridge.EmoModel, reference: Reference, audio_features: AudioFeatures, seed: int, steps: int,
                sampler: str, audio_guidance: float, reference_guidance: float, face_mask: FaceMask | None = None,
                speed: Speed | None = None, vae=None) -> io.NodeOutput:
        conversions.check_match(model.config, reference.portrait, audio_features, face_mask)
        config = SamplingConfig(steps=steps, sampler=sampler, audio_guidance=audio_guidance,
                                reference_guidance=reference_guidance, seed=seed)
        conditions = Conditions(reference.portrait, face_mask or whole_mask(model.config.image_size), audio_features,
                                speed or Speed.constant(config.head_speed))
        clips = count_clips(conditions.frames, model.config.clip_frames)
        progress = comfy_bridge.Progress(clips * steps, config=model.config, device=model.device)

        def on_step(report: StepReport) -> None:
            progress.update((report.clip - 1) * report.steps + report.step, report.denoised)

        begin, together = time.perf_counter(), model.config.clip_frames + model.config.motion_frames
        renew = None if vae is None else model.renewing(vae, frames=together)
        with model.loaded(frames=together) as emo:
            latents = [comfy_bridge.keep(clip.float()) for clip in generate_clips(
                emo, conditions, config=config, reference=reference.features, device=model.device, dtype=model.compute,
                renew=renew, on_step=on_step)]
        seconds = time.perf_counter() - begin
        logging.info("EMO: %d frames in %.1f s (%.2f s per frame)", conditions.frames, seconds, seconds / conditions.frames)
        return io.NodeOutput(conversions.latent_of(latents, model.config))
