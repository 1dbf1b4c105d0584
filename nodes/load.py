"""Load EMO Model: networks, audio encoder and VAE from one file, like a checkpoint loader."""

from __future__ import annotations

from comfy_api.latest import io

from . import comfy_bridge
from .custom_types import EmoModelType
from .schemas import advanced, schema

OWN = "model's own"


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
                advanced(
                    io.Combo.Input(
                        "vae_name",
                        options=[OWN, *comfy_bridge.file_names("vae")],
                        default=OWN,
                        optional=True,
                        tooltip="For models without a VAE, such as Hallo: one of models/vae, that of Stable Diffusion "
                        "1.5.",
                    )
                ),
                advanced(
                    io.Combo.Input(
                        "audio_encoder_name",
                        options=[OWN, *comfy_bridge.file_names("audio_encoders")],
                        default=OWN,
                        optional=True,
                        tooltip="For models without an audio encoder, such as Hallo: one of models/audio_encoders, "
                        "wav2vec2-base-960h.",
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
    def validate_inputs(cls, model_name: str, vae_name: str = OWN, audio_encoder_name: str = OWN) -> bool | str:
        """Names the lists that `execute` checks: it reports missing files together, in one error. From here ComfyUI
        would report each answer once for each list."""
        return True

    @classmethod
    def fingerprint_inputs(
        cls,
        model_name: str,
        compile: bool = False,  # noqa: A002
        cuda_graphs: bool = False,
        vae_name: str = OWN,
        audio_encoder_name: str = OWN,
    ) -> str:
        parts = _chosen({"vae": vae_name, "audio_encoders": audio_encoder_name})
        if model_name is None or comfy_bridge.missing_files(model_name, parts):
            return ""
        return comfy_bridge.fingerprint(model_name, parts)

    @classmethod
    def execute(
        cls,
        model_name: str,
        compile: bool = False,  # noqa: A002
        cuda_graphs: bool = False,
        vae_name: str = OWN,
        audio_encoder_name: str = OWN,
    ) -> io.NodeOutput:
        parts = _chosen({"vae": vae_name, "audio_encoders": audio_encoder_name})
        if missing := comfy_bridge.missing_files(model_name, parts):
            raise FileNotFoundError(missing)
        loaded = comfy_bridge.load_model(model_name, compiled=compile, cuda_graphs=cuda_graphs, parts=parts)
        return io.NodeOutput(*loaded)


def _chosen(parts: dict[str, str | None]) -> dict[str, str]:
    """ComfyUI's folder -> the file in it, for parts that are not the model's own."""
    return {folder: name for folder, name in parts.items() if name not in (OWN, None)}
