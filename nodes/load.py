"""Load EMO Model: networks, audio encoder and VAE from one file, like a checkpoint loader."""

from __future__ import annotations

from comfy_api.latest import io

from . import comfy_bridge
from .custom_types import EmoModelType
from .schemas import advanced, schema


class EmoLoadModel(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="EmoLoadModel",
            display_name="Load EMO Model",
            description="Loads the networks of an EMO talking-portrait model. The built-in model ships with this pack; "
            "nothing is downloaded.",
            inputs=[
                io.Combo.Input(
                    "model_name",
                    options=comfy_bridge.model_names(),
                    default=comfy_bridge.BUILT_IN,
                    tooltip="The built-in model, its fast variant, or a file in ComfyUI/models/emo: a model of this "
                    "pack, or Hallo's net.pth.",
                ),
                advanced(
                    io.Boolean.Input(
                        "compile",
                        default=False,
                        optional=True,
                        tooltip="Compile the networks with torch.compile: the first clip takes minutes "
                        "longer, later clips take less time. Without a compiler this has no effect "
                        "and the log reports it.",
                    )
                ),
                advanced(
                    io.Boolean.Input(
                        "cuda_graphs",
                        default=False,
                        optional=True,
                        tooltip="NVIDIA only: capture the denoising step as a CUDA graph and replay it, which "
                        "avoids kernel launch overhead; uses more GPU memory. Works with or without "
                        "'compile'. If weights are offloaded this has no effect and the log reports "
                        "it.",
                    )
                ),
            ],
            outputs=[
                EmoModelType.Output(
                    display_name="model", tooltip="The networks, for EMO Reference Encoder and EMO Sampler."
                ),
                io.AudioEncoder.Output(
                    display_name="audio_encoder", tooltip="Encodes the voice; for EMO Audio Encoder."
                ),
                io.Vae.Output(
                    display_name="vae", tooltip="For EMO Reference Encoder, which returns it bound to the portrait."
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, model_name: str) -> bool | str:
        if model_name is None:  # linked: known only at execution
            return True
        try:
            comfy_bridge.model_path(model_name)
        except FileNotFoundError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, model_name: str, compile: bool = False, cuda_graphs: bool = False) -> str:  # noqa: A002
        return "" if model_name is None else comfy_bridge.fingerprint(model_name)

    @classmethod
    def execute(cls, model_name: str, compile: bool = False, cuda_graphs: bool = False) -> io.NodeOutput:  # noqa: A002
        return io.NodeOutput(*comfy_bridge.load_model(model_name, compiled=compile, cuda_graphs=cuda_graphs))
