"""EMO Talking Faces: the whole way from a picture with several faces and their voices to a video in one node."""

from __future__ import annotations

import uuid

from comfy_api.latest import io

from ..emo_model.config import SamplingConfig
from . import comfy_bridge, conversions
from .schemas import as_link, schema
from .several_faces import ORDERS, order_input, schedule_input, voice_inputs
from .talking_portrait import QUALITIES, defaults


class EmoTalkingFaces(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="EmoTalkingFaces",
            display_name="EMO Talking Faces",
            description="Several faces of one picture speak, each with its own voice, or one voice by a schedule. "
            "Faces without a voice blink and breathe. Made of the other EMO nodes, with their defaults.",
            inputs=[
                as_link(
                    io.Image.Input(
                        "picture",
                        optional=True,
                        tooltip="One picture with several faces, which are lettered from the left. Not connected: the "
                        "two people that ship with this pack.",
                    )
                ),
                *map(as_link, voice_inputs()),
                schedule_input(),
                order_input(),
                io.Combo.Input(
                    "model",
                    options=comfy_bridge.model_names(),
                    default=comfy_bridge.BUILT_IN,
                    tooltip="The built-in model, its fast variant, or a file in ComfyUI/models/emo that detects faces.",
                ),
                io.Int.Input(
                    "seed",
                    default=SamplingConfig().seed,
                    min=0,
                    max=0xFFFF_FFFF_FFFF_FFFF,
                    control_after_generate=True,
                    tooltip="Another seed gives other movements; the same seed gives the same video.",
                ),
                io.Combo.Input(
                    "quality",
                    options=list(QUALITIES),
                    default=next(iter(QUALITIES)),
                    tooltip="Of the mp4: 'high' is visually lossless; 'small file' is about a quarter of its size.",
                ),
            ],
            outputs=[io.Video.Output(display_name="video", tooltip="The file that was written, for core's nodes.")],
            is_output_node=True,
            not_idempotent=True,
            enable_expand=True,
        )

    @classmethod
    def validate_inputs(
        cls, schedule: str | None = None, order: str | None = None, model: str | None = None, quality: str | None = None
    ) -> bool | str:
        try:
            conversions.schedule_of(schedule)
            if model is not None:
                comfy_bridge.model_path(model)
        except (ValueError, FileNotFoundError) as error:
            return str(error)
        return (
            conversions.option_error(order, ORDERS, "an order of voices")
            or conversions.option_error(quality, QUALITIES, "a quality")
            or True
        )

    @classmethod
    def fingerprint_inputs(cls, **_) -> str:
        """Another one for each run, as for EMO Talking Portrait: the parts show a video that is there already."""
        return uuid.uuid4().hex

    @classmethod
    def execute(
        cls,
        *,
        picture: list | None = None,
        voice_a: list | None = None,
        voice_b: list | None = None,
        voice_c: list | None = None,
        voice_d: list | None = None,
        schedule: str,
        order: str,
        model: str,
        seed: int,
        quality: str,
    ) -> io.NodeOutput:
        """picture and voices are links, handed on as they are: what did not change is not computed again."""
        conversions.check_option(order, ORDERS, "an order of voices")
        conversions.check_option(quality, QUALITIES, "a quality")
        given = {"image": picture, "voice_a": voice_a, "voice_b": voice_b, "voice_c": voice_c, "voice_d": voice_d}
        links = {name: link for name, link in given.items() if link is not None}
        graph = comfy_bridge.GraphBuilder()
        loaded = graph.node("EmoLoadModel", model_name=model).out(0)
        found = graph.node("EmoSeveralFaces", model=loaded, schedule=schedule, order=order, **links)
        sampled = {"model": loaded, "reference": found.out(0), "audio_features": found.out(1), "seed": seed}
        clips = graph.node("EmoSampler", **defaults("EmoSampler") | sampled).out(0)
        faces = graph.node("EmoCombineFaces", clips=clips, reference=found.out(0)).out(0)
        written = {"faces": faces, "audio": found.out(2), "quality": QUALITIES[quality]}
        video = graph.node("EmoVideoCombine", **defaults("EmoVideoCombine") | written)
        return io.NodeOutput(video.out(0), expand=graph.finalize())
