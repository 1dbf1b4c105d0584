"""EMO Sampling Options: optional settings of EMO Sampler."""

from __future__ import annotations

from comfy_api.latest import io

from ..emo_model.config import SamplingConfig
from . import conversions
from .custom_types import OptionsType
from .schemas import advanced, schema

DEFAULTS = SamplingConfig()


def part(name: str, tooltip: str) -> io.Float.Input:
    return io.Float.Input(name, default=getattr(DEFAULTS, name), min=0.0, max=1.0, step=0.05, tooltip=tooltip)


def weight(name: str, part: str) -> io.Float.Input:
    return io.Float.Input(
        name,
        default=1.0,
        min=0.0,
        max=3.0,
        step=0.05,
        optional=True,
        tooltip=f"For Hallo: factor of how strongly the audio moves {part} (0 to 3); 1 as trained.",
    )


class EmoSamplingOptions(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="EmoSamplingOptions",
            display_name="EMO Sampling Options",
            description="Optional trade-offs of speed, quality and motion for EMO Sampler. The defaults change "
            "nothing.",
            inputs=[
                part(
                    "audio_guidance_start",
                    "Audio guidance starts at this fraction of the steps (0 to 1); 0 is the first step.",
                ),
                part(
                    "audio_guidance_end",
                    "Audio guidance ends at this fraction of the steps (0 to 1); 1 is the last. "
                    "A step without guidance takes about half the time.",
                ),
                part("reference_guidance_start", "Reference guidance starts at this fraction of the steps (0 to 1)."),
                part("reference_guidance_end", "Reference guidance ends at this fraction of the steps (0 to 1)."),
                # workflows save widget values by order, required before optional ones: this one keeps its place
                advanced(
                    io.Int.Input(
                        "deep_cache",
                        display_name="deep_cache (no effect)",
                        default=1,
                        min=1,
                        max=10,
                        tooltip="No effect any more (1 to 10); kept so that saved workflows keep their other values.",
                    )
                ),
                io.Float.Input(
                    "noise_scale",
                    default=DEFAULTS.noise_scale,
                    min=0.0,
                    max=2.0,
                    step=0.05,
                    tooltip="Factor of the initial noise of each clip (0 to 2), relative to the model's "
                    "own. Below 1 the head moves less, above 1 more.",
                ),
                advanced(
                    io.Boolean.Input(
                        "mixed_identity",
                        default=DEFAULTS.mixed_identity,
                        tooltip="Match Hallo's reference code, which mixes conditional and unconditional "
                        "identity tokens under classifier-free guidance. No effect on other models.",
                    )
                ),
                io.Float.Input(
                    "blinks",
                    default=DEFAULTS.blinks,
                    min=0.0,
                    max=4.0,
                    step=0.1,
                    optional=True,
                    tooltip="Blink rate: 1 is one blink in about 4 seconds, 2 twice as many, 0 none but "
                    "those the model predicts. Built-in model only.",
                ),
                advanced(weight("pose_weight", "head pose")),
                advanced(weight("face_weight", "the face")),
                advanced(weight("lip_weight", "the lips")),
            ],
            outputs=[OptionsType.Output(display_name="options", tooltip="For EMO Sampler.")],
        )

    @classmethod
    def execute(
        cls,
        audio_guidance_start: float,
        audio_guidance_end: float,
        reference_guidance_start: float,
        reference_guidance_end: float,
        deep_cache: int,
        noise_scale: float,
        mixed_identity: bool,
        blinks: float = DEFAULTS.blinks,
        pose_weight: float = 1.0,
        face_weight: float = 1.0,
        lip_weight: float = 1.0,
    ) -> io.NodeOutput:
        return io.NodeOutput(
            conversions.sampling_config(
                DEFAULTS,
                audio_guidance_start=audio_guidance_start,
                audio_guidance_end=audio_guidance_end,
                reference_guidance_start=reference_guidance_start,
                reference_guidance_end=reference_guidance_end,
                noise_scale=noise_scale,
                mixed_identity=mixed_identity,
                blinks=blinks,
                region_weights=(pose_weight, face_weight, lip_weight),
            )
        )
