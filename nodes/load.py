"""Load EMO Model: one file holds the networks, the audio encoder and the VAE, as a checkpoint does."""

from __future__ import annotations

from comfy_api.latest import io

from . import comfy_bridge
from .custom_types import EmoModelType


class EmoLoadModel(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EmoLoadModel",
            display_name="Load EMO Model",
            category="EMO",
            description="Loads EMO, which makes a portrait speak. The built-in model comes with this pack and needs no download.",
            inputs=[
                io.Combo.Input("model_name", options=comfy_bridge.model_names(), default=comfy_bridge.BUILT_IN,
                               tooltip="The built-in model, its fast variant (in EMO Sampler: 2 steps, audio_guidance 1), or a "
                                       "file of ComfyUI/models/emo: of this pack, or Hallo's net.pth."),
                io.Boolean.Input("compile", default=False, optional=True,
                                 tooltip="Compile the networks with torch.compile: the first clip takes minutes longer, all "
                                         "clips after it less time. Where there is no compiler, the log says so and nothing "
                                         "changes."),
                io.Boolean.Input("cuda_graphs", default=False, optional=True,
                                 tooltip="NVIDIA only: record each kind of step once and replay it as a single order to the GPU, "
                                         "which helps where the CPU cannot keep it busy; takes more of its memory. Goes with "
                                         "'compile' or without. Where not all weights fit onto the GPU, the log says so and "
                                         "nothing changes."),
            ],
            outputs=[
                EmoModelType.Output(display_name="model", tooltip="The networks, for EMO Reference Encoder and EMO Sampler."),
                io.AudioEncoder.Output(display_name="audio_encoder", tooltip="Hears the voice, for EMO Audio Encoder."),
                io.Vae.Output(display_name="vae", tooltip="For EMO Reference Encoder, which hands it on, knowing the portrait."),
            ])

    @classmethod
    def validate_inputs(cls, model_name: str) -> bool | str:
        if model_name is None:  # linked, and not known yet
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
