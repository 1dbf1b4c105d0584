"""EMO Head Speed: rotation speed of the head, constant or over time."""

from __future__ import annotations

from comfy_api.latest import io

from ..emo_model.config import ModelConfig, SamplingConfig
from . import conversions
from .custom_types import SpeedType
from .schemas import schema

FASTEST = ModelConfig().speed_centres[-1] + ModelConfig().speed_radii[-1]


class EmoHeadSpeed(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="EmoHeadSpeed",
            display_name="EMO Head Speed",
            description="Sets the head's rotation speed, constant or as a curve over time.",
            inputs=[
                io.Float.Input(
                    "speed",
                    default=SamplingConfig().head_speed,
                    min=0.0,
                    max=FASTEST,
                    step=0.5,
                    tooltip="Rotation speed of the head in degrees per second: 0 is still, 12 calm, 40 lively.",
                ),
                io.String.Input(
                    "curve",
                    default="",
                    multiline=True,
                    optional=True,
                    tooltip="Keyframes 'seconds: degrees per second', for example '0: 5, 2.5: 30', "
                    "interpolated linearly. Empty: 'speed' throughout.",
                ),
            ],
            outputs=[SpeedType.Output(display_name="speed", tooltip="For EMO Sampler.")],
        )

    @classmethod
    def validate_inputs(cls, curve: str | None = None) -> bool | str:
        try:
            conversions.speed_curve(curve or "", level=0.0)
        except ValueError as error:
            return str(error)
        return True

    @classmethod
    def execute(cls, speed: float, curve: str = "") -> io.NodeOutput:
        return io.NodeOutput(conversions.speed_curve(curve, level=speed))
