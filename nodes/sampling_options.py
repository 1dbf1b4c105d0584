"""EMO Sampling Options: optional settings of the sampler."""

from __future__ import annotations

from comfy_api.latest import io

from ..emo_model.config import SamplingConfig
from .custom_types import OptionsType

DEFAULTS = SamplingConfig()


def part(name: str, tooltip: str) -> io.Float.Input:
    return io.Float.Input(name, default=getattr(DEFAULTS, name), min=0.0, max=1.0, step=0.05, tooltip=tooltip)


def weight(name: str, part: str) -> io.Float.Input:
    return io.Float.Input(name, default=1.0, min=0.0, max=3.0, step=0.05, optional=True,
                          tooltip=f"For Hallo: factor of how strongly the audio moves {part} (0 to 3); 1 as trained.")


class EmoSamplingOptions(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EmoSamplingOptions",
            display_name="EMO Sampling Options",
            category="EMO",
            description="Trades a little fidelity for time or calm, for EMO Sampler. As it comes, it changes nothing.",
            inputs=[
                part("audio_guidance_start", "Guidance by the voice begins at this part of the steps (0 to 1); 0 is the first."),
                part("audio_guidance_end", "Guidance by the voice ends at this part of the steps (0 to 1); 1 is the last. A step "
                                           "without guidance takes about half the time."),
                part("reference_guidance_start", "Guidance by the portrait begins at this part of the steps (0 to 1)."),
                part("reference_guidance_end", "Guidance by the portrait ends at this part of the steps (0 to 1)."),
                # workflows save the values of widgets by their order, required before optional ones: this one keeps its place
                io.Int.Input("deep_cache", display_name="deep_cache (no effect)", default=1, min=1, max=10,
                             tooltip="Has no effect any more (1 to 10); kept so that saved workflows keep their other values."),
                io.Float.Input("noise_scale", default=DEFAULTS.noise_scale, min=0.0, max=2.0, step=0.05,
                               tooltip="Factor of the noise that each clip begins with (0 to 2); 1 suits the model. Below, "
                                       "the head is calmer; above, it moves more."),
                io.Boolean.Input("mixed_identity", default=DEFAULTS.mixed_identity,
                                 tooltip="For Hallo under reference guidance: batch identity tokens as Hallo's own code does. "
                                         "Other models have no such tokens."),
                io.Float.Input("blinks", default=DEFAULTS.blinks, min=0.0, max=4.0, step=0.1, optional=True,
                               tooltip="How often the eyes blink: 1 is once in about 3.6 seconds, 2 twice as often, 0 only where "
                                       "the model itself lets them. Only the built-in model uses it."),
                weight("pose_weight", "the head's pose"),
                weight("face_weight", "the face"),
                weight("lip_weight", "the lips"),
            ],
            outputs=[OptionsType.Output(display_name="options", tooltip="For EMO Sampler.")])

    @classmethod
    def validate_inputs(cls, audio_guidance_start: float | None, audio_guidance_end: float | None,
                        reference_guidance_start: float | None, reference_guidance_end: float | None) -> bool | str:
        for kind, start, end in (("audio", audio_guidance_start, audio_guidance_end),
                                 ("reference", reference_guidance_start, reference_guidance_end)):
            given = [value for value in (start, end) if value is not None]  # a linked one is not known yet
            if any(not 0 <= value <= 1 for value in given) or given != sorted(given):
                return (f"Guidance by {kind} goes from {start} to {end}: both are parts of the steps from 0 to 1, and the first "
                        "is not above the second.")
        return True

    @classmethod
    def execute(cls, audio_guidance_start: float, audio_guidance_end: float, reference_guidance_start: float,
                reference_guidance_end: float, deep_cache: int, noise_scale: float, mixed_identity: bool,
                blinks: float = DEFAULTS.blinks, pose_weight: float = 1.0, face_weight: float = 1.0,
                lip_weight: float = 1.0) -> io.NodeOutput:
        return io.NodeOutput(SamplingConfig(
            audio_guidance_start=audio_guidance_start, audio_guidance_end=audio_guidance_end,
            reference_guidance_start=reference_guidance_start, reference_guidance_end=reference_guidance_end,
            noise_scale=noise_scale, mixed_identity=mixed_identity, blinks=blinks,
            region_weights=(pose_weight, face_weight, lip_weight)))
