"""EMO Talking Faces: the whole way from a picture with several faces and their voices to a video in one node."""

from __future__ import annotations

import uuid

from comfy_api.latest import io

from . import comfy_bridge, conversions
from .schemas import as_link, schema
from .several_faces import ORDERS, expression_inputs, order_input, schedule_input, voice_inputs
from .talking_portrait import defaults
from .widgets import QUALITIES, model_input, quality_input, seed_input


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
                model_input("detects faces"),
                seed_input(),
                quality_input(),
                *map(as_link, expression_inputs()),
            ],
            outputs=[io.Video.Output(display_name="video", tooltip="The file that was written, for core's nodes.")],
            is_output_node=True,
            not_idempotent=True,
            enable_expand=True,
        )

    @classmethod
    def validate_inputs(cls, schedule: str | None = None) -> bool | str:
        return conversions.schedule_error(schedule) or True

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
        expression_a: list | None = None,
        expression_b: list | None = None,
        expression_c: list | None = None,
        expression_d: list | None = None,
    ) -> io.NodeOutput:
        """Links are handed on as they are: what did not change is not computed again."""
        conversions.schedule_of(schedule)
        conversions.check_option(order, ORDERS, "an order of voices")
        conversions.check_option(quality, QUALITIES, "a quality")
        given = {"image": picture, "voice_a": voice_a, "voice_b": voice_b, "voice_c": voice_c, "voice_d": voice_d}
        dials = zip("abcd", (expression_a, expression_b, expression_c, expression_d), strict=True)
        given |= {f"expression_{letter}": link for letter, link in dials}
        links = {name: link for name, link in given.items() if link is not None}
        graph = comfy_bridge.GraphBuilder()
        loaded = graph.node("EmoLoadModel", model_name=model).out(0)
        found = graph.node("EmoSeveralFaces", model=loaded, schedule=schedule, order=order, **links)
        sampled = {"model": loaded, "reference": found.out(0), "audio_features": found.out(1), "seed": seed}
        sampled["expression"] = found.out(4)
        clips = graph.node("EmoSampler", **defaults("EmoSampler") | sampled).out(0)
        faces = graph.node("EmoCombineFaces", clips=clips, reference=found.out(0)).out(0)
        written = {"faces": faces, "audio": found.out(2), "quality": QUALITIES[quality]}
        video = graph.node("EmoVideoCombine", **defaults("EmoVideoCombine") | written)
        return io.NodeOutput(video.out(0), expand=graph.finalize())
