"""EMO Expression: dials over time for the built-in model; EMO Idle: silence for a portrait that waits and listens."""

from __future__ import annotations

from dataclasses import replace

from comfy_api.latest import io

from ..emo_model.inputs.audio import resample, silence
from ..emo_model.sampling.direction import LONGEST, SHORTEST, idle_frames
from ..emo_model.sampling.expression import RANGES, Expression
from . import comfy_bridge, conversions
from .custom_types import AudioFeaturesType, CurveType, EmoModelType, ExpressionType
from .schemas import schema
from .widgets import fps_input

TEXTS = {
    "audio_strength": "how far the mouth moves; 0 keeps it shut, 1 is as sampled",
    "smile": "raises the corners of the mouth and the cheeks",
    "brows": "above 0 raised, below 0 lowered",
    "blink_rate": "factor of how often the eyes blink; whole blinks are added or left out",
    "gaze_x": "the eyes look right (above 0) or left in the picture",
    "gaze_y": "the eyes look up (above 0) or down",
    "yaw": "degrees that the head is turned right (above 0) or left in the picture",
    "pitch": "degrees that the head is turned up (above 0) or down",
    "roll": "degrees that the head is tilted clockwise (above 0) or back",
}


class EmoExpression(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        defaults = Expression()
        dials = [
            io.MultiType.Input(
                io.String.Input(
                    name,
                    default=f"{getattr(defaults, name).values[0]:g}",
                    tooltip=f"{low:g} to {high:g}: {TEXTS[name]}. A number, or keyframes such as '0: 0; 1.5: 1; 3: 0' "
                    "(seconds: value); a link may bring one number per frame.",
                ),
                [io.Float, CurveType],
            )
            for name, (low, high) in RANGES.items()
        ]
        return schema(
            node_id="EmoExpression",
            display_name="EMO Expression",
            description="Dials over time for the built-in model: mouth, smile, brows, blinks, gaze and pose. Changing "
            "them samples nothing again.",
            inputs=[
                *dials,
                io.MultiType.Input(
                    io.String.Input(
                        "blinks", default="", tooltip="Seconds of single blinks, such as '1.2, 3.5'. Empty: none."
                    ),
                    [io.Float],
                    optional=True,
                ),
            ],
            outputs=[
                ExpressionType.Output(display_name="expression", tooltip="For EMO Sampler or EMO Talking Portrait.")
            ],
        )

    @classmethod
    def execute(
        cls, audio_strength, smile, brows, blink_rate, gaze_x, gaze_y, yaw, pitch, roll, blinks=""
    ) -> io.NodeOutput:
        given = (audio_strength, smile, brows, blink_rate, gaze_x, gaze_y, yaw, pitch, roll, blinks)
        return io.NodeOutput(conversions.expression_of(dict(zip((*RANGES, "blinks"), given, strict=True))))


class EmoIdle(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="EmoIdle",
            display_name="EMO Idle",
            description="In place of EMO Audio Encoder: a portrait that waits and listens with its mouth shut, as a "
            "loop without a jump.",
            inputs=[
                EmoModelType.Input("model", tooltip="From Load EMO Model: the built-in model."),
                io.Float.Input(
                    "seconds",
                    default=20.0,
                    min=SHORTEST,
                    max=LONGEST,
                    step=0.5,
                    tooltip="Length of the loop. Its last frame leads to the first.",
                ),
                fps_input("Frame rate of the video, in frames per second."),
            ],
            outputs=[AudioFeaturesType.Output(display_name="audio_features", tooltip="Of silence, for EMO Sampler.")],
        )

    @classmethod
    def execute(cls, model: comfy_bridge.EmoModel, seconds: float, fps: float) -> io.NodeOutput:
        conversions.check_fps(fps)
        frames, fade = idle_frames(seconds, fps)
        waveform, rate = silence(frames, fps=fps)
        features = comfy_bridge.encode_audio(
            comfy_bridge.own_audio_encoder(model),
            resample(waveform, rate),
            fps=fps,
            seconds=waveform.shape[-1] / rate,
            config=model.config,
            on_progress=comfy_bridge.Progress(1).set,
        )
        return io.NodeOutput(replace(features, fade=fade))
