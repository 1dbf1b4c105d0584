"""EMO Talking Portrait: the whole way from a picture and a voice to a video in one node, and EMO Example."""

from __future__ import annotations

import uuid

from comfy_api.latest import io

from ..emo_model.sampling.direction import LONGEST
from . import comfy_bridge, conversions, shipped
from .custom_types import ExpressionType
from .schemas import as_link, schema
from .widgets import QUALITIES, model_input, quality_input, seed_input


class EmoTalkingPortrait(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="EmoTalkingPortrait",
            display_name="EMO Talking Portrait",
            description="A portrait and a voice become a video, saved as an mp4. Made of the other EMO nodes, with "
            "their defaults.",
            inputs=[
                as_link(
                    io.Image.Input(
                        "portrait",
                        optional=True,
                        tooltip="One picture with a face, at any size: photograph, painting, drawing. Not connected: "
                        "the portrait that ships with this pack.",
                    )
                ),
                as_link(
                    io.Audio.Input(
                        "voice",
                        optional=True,
                        tooltip="Speech or singing; the video is as long. Not connected: the voice that ships with "
                        "this pack.",
                    )
                ),
                model_input("brings its own VAE and audio encoder"),
                seed_input(),
                quality_input(),
                as_link(
                    ExpressionType.Input(
                        "expression", optional=True, tooltip="From EMO Expression: dials, for the built-in model."
                    )
                ),
                io.Float.Input(
                    "idle_seconds",
                    default=0.0,
                    min=0.0,
                    max=LONGEST,
                    step=0.5,
                    optional=True,
                    tooltip="Above 0: no voice, the portrait waits and listens for so many seconds, as a loop without "
                    "sound.",
                ),
            ],
            outputs=[io.Video.Output(display_name="video", tooltip="The file that was written, for core's nodes.")],
            is_output_node=True,
            not_idempotent=True,
            enable_expand=True,
        )

    @classmethod
    def validate_inputs(cls, model: str | None = None) -> bool | str:
        """Names the model alone, for ComfyUI reports an answer once for each name. ComfyUI 0.33.0 checks the list of
        'quality' itself; in 0.3.64, which does not, `execute` refuses a wrong one before a model is loaded."""
        if model is not None:
            try:
                comfy_bridge.model_path(model)
            except FileNotFoundError as error:
                return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, **_) -> str:
        """Another one for each run, so that ComfyUI expands the node again: it keeps the video with the node's parts,
        which show it then without computing anything, and would show nothing for the node alone."""
        return uuid.uuid4().hex

    @classmethod
    def execute(
        cls,
        *,
        portrait: list | None = None,
        voice: list | None = None,
        model: str,
        seed: int,
        quality: str,
        expression: list | None = None,
        idle_seconds: float = 0.0,
    ) -> io.NodeOutput:
        """portrait, voice, expression are links, handed on as they are: what did not change is not computed again."""
        conversions.check_option(quality, QUALITIES, "a quality")
        graph = comfy_bridge.GraphBuilder()
        loaded = graph.node("EmoLoadModel", model_name=model).out(0)
        picture = {} if portrait is None else {"image": portrait}
        if idle_seconds and voice is not None:
            raise ValueError(
                f"Set 'idle_seconds' to 0, or disconnect 'voice': an idle portrait is silent; it is {idle_seconds:g}."
            )
        sound = {} if voice is None else {"audio": voice}
        reference = graph.node("EmoReferenceEncoder", model=loaded, **defaults("EmoReferenceEncoder"), **picture).out(0)
        if idle_seconds:
            heard = graph.node("EmoIdle", **defaults("EmoIdle") | {"model": loaded, "seconds": idle_seconds})
            track = {}
        else:
            heard = graph.node("EmoAudioEncoder", model=loaded, **defaults("EmoAudioEncoder"), **sound)
            track = {"audio": heard.out(1)}
        sampled = {"model": loaded, "reference": reference, "audio_features": heard.out(0), "seed": seed}
        sampled |= {} if expression is None else {"expression": expression}
        clips = graph.node("EmoSampler", **defaults("EmoSampler") | sampled).out(0)
        written = {"clips": clips, "reference": reference, **track, "quality": QUALITIES[quality]}
        video = graph.node("EmoVideoCombine", **defaults("EmoVideoCombine") | written)
        return io.NodeOutput(video.out(0), expand=graph.finalize())


def defaults(node_id: str) -> dict:
    """Defaults of the required widgets of a node of this pack."""
    from . import NODES  # the list that this node is in

    inputs = next(node for node in NODES if node.define_schema().node_id == node_id).define_schema().inputs
    return {one.id: one.default for one in inputs if not one.optional and hasattr(one, "default")}


class EmoExample(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="EmoExample",
            display_name="EMO Example",
            description="A portrait and a voice to try the nodes with. The person does not exist.",
            inputs=[
                io.Combo.Input(
                    "portrait",
                    options=list(shipped.PORTRAITS),
                    default=next(iter(shipped.PORTRAITS)),
                    tooltip="'photograph': a synthetic one, of nobody; 'drawing': drawn by a program; 'two people': a "
                    "picture with two faces.",
                )
            ],
            outputs=[
                io.Image.Output(display_name="image", tooltip="The portrait."),
                io.Audio.Output(display_name="audio", tooltip="6.5 seconds of speech, from a synthesiser."),
            ],
        )

    @classmethod
    def validate_inputs(cls, portrait: str | None = None) -> bool | str:
        return conversions.option_error(portrait, shipped.PORTRAITS, "an example") or True

    @classmethod
    def execute(cls, portrait: str) -> io.NodeOutput:
        conversions.check_option(portrait, shipped.PORTRAITS, "an example")
        return io.NodeOutput(conversions.images(shipped.portrait(portrait)), shipped.voice())
