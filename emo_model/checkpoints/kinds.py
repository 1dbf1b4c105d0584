"""Identifies weight files by their keys and shapes, so that errors name what a wrong file is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .files import TensorFile

NATIVE = "comfyui-emo-1"  # metadata 'format' of this pack's own models


@dataclass(frozen=True)
class Kind:
    """name: a short word; description: a noun phrase; use: what to do with the file."""

    name: str
    description: str
    use: str


def _has(*parts: str) -> Callable[[TensorFile], bool]:
    """A test whether each part occurs in some key."""
    return lambda file: all(any(part in key for key in file.shapes) for part in parts)


def _dim(file: TensorFile, ending: str, axis: int) -> int:
    """A dimension of the first tensor whose key has this ending, or 0."""
    return next((shape[axis] for key, shape in file.shapes.items() if key.endswith(ending) and len(shape) > axis), 0)


def _text_width(file: TensorFile) -> int:
    return _dim(file, "transformer_blocks.0.attn2.to_k.weight", 1)


_UNET = ("down_blocks.0.resnets.0.", "time_embedding.linear_1.")
_LDM = ("model.diffusion_model.input_blocks.0.0.weight",)

KINDS: tuple[tuple[Kind, Callable[[TensorFile], bool]], ...] = (
    (
        Kind("emo", "an EMO model of this pack", "put it into models/emo and choose it in 'Load EMO Model'"),
        lambda file: file.metadata.get("format") == NATIVE,
    ),
    (
        Kind(
            "training state",
            "the state of a training run of this pack",
            "resume the run; it writes the model at its end",
        ),
        _has("optimizer."),
    ),
    (
        Kind("lora", "a LoRA", "it is not a model by itself"),
        lambda file: any(
            part in key for key in file.shapes for part in ("lora_up.", "lora_A.", ".lora.up.", "_lora.up.")
        ),
    ),
    (
        Kind(
            "hallo",
            "Hallo's net (reference net, denoising net, face locator, projections)",
            "put it into models/emo; `python -m emo_model.checkpoints convert` makes a safetensors file of it, which "
            "loads faster",
        ),
        _has("reference_unet.", "denoising_unet.", "audioproj.", "imageproj.", "face_locator."),
    ),
    (
        Kind(
            "hallo2 or another child of Hallo",
            "a net with Hallo's denoising net, but not all of Hallo v1's parts",
            "get Hallo v1's net.pth",
        ),
        _has("denoising_unet.", "reference_unet."),
    ),
    (
        Kind(
            "animatediff",
            "an AnimateDiff motion module",
            "give it to `python -m emo_model.checkpoints init --motion-module`, with an SD 1.5 UNet; it is not a model "
            "by itself",
        ),
        _has("motion_modules.0.temporal_transformer."),
    ),
    (
        Kind(
            "motion adapter",
            "an AnimateDiff motion adapter in diffusers' layout",
            "get the original file, mm_sd_v15_v2.ckpt, whose keys start with "
            "'down_blocks.0.motion_modules.0.temporal_transformer'",
        ),
        _has("motion_modules.0.transformer_blocks.0."),
    ),
    (
        Kind("controlnet", "a ControlNet", "load it with core's ControlNet loader"),
        lambda file: (
            _has("controlnet_cond_embedding")(file) or _has("control_model.")(file) or _has("input_hint_block")(file)
        ),
    ),
    (
        Kind("sdxl checkpoint", "a Stable Diffusion XL checkpoint", "get one of Stable Diffusion 1.5"),
        lambda file: _has("conditioner.embedders.")(file) or (_has(*_LDM)(file) and _text_width(file) == 2048),
    ),
    (
        Kind("sd2 checkpoint", "a Stable Diffusion 2 checkpoint", "get one of Stable Diffusion 1.5"),
        lambda file: _has(*_LDM)(file) and _text_width(file) == 1024,
    ),
    (
        Kind(
            "sd15 checkpoint",
            "a Stable Diffusion 1.5 checkpoint (single file)",
            "give it to `python -m emo_model.checkpoints init --sd15`; its VAE comes from core's 'Load Checkpoint'",
        ),
        _has(*_LDM),
    ),
    (
        Kind("sdxl unet", "the UNet of Stable Diffusion XL (diffusers' layout)", "get the one of Stable Diffusion 1.5"),
        lambda file: _has(*_UNET)(file) and _text_width(file) == 2048,
    ),
    (
        Kind("sd2 unet", "the UNet of Stable Diffusion 2 (diffusers' layout)", "get the one of Stable Diffusion 1.5"),
        lambda file: _has(*_UNET)(file) and _text_width(file) == 1024,
    ),
    (
        Kind(
            "sd15 unet",
            "a UNet of Stable Diffusion 1.5 (diffusers' layout)",
            "give it to `python -m emo_model.checkpoints init --sd15`",
        ),
        _has(*_UNET),
    ),
    (
        Kind("vae", "a VAE", "put it into models/vae and load it with core's 'Load VAE'"),
        lambda file: (
            _has("decoder.mid_block.")(file) or _has("decoder.mid.block_1.")(file) or _has("first_stage_model.")(file)
        ),
    ),
    (
        Kind(
            "wav2vec2",
            "a wav2vec 2.0 audio encoder",
            "put it into models/audio_encoders and load it with core's 'AudioEncoderLoader'",
        ),
        lambda file: _has("feature_extractor.conv_layers.", "encoder.pos_conv_embed.")(file),
    ),
    (
        Kind(
            "whisper",
            "a Whisper audio encoder",
            "load it with core's 'AudioEncoderLoader'; Hallo needs wav2vec 2.0 instead",
        ),
        _has("encoder.embed_positions.", "encoder.conv1."),
    ),
    (
        Kind("clip", "a CLIP encoder", "choose another file: this pack needs none"),
        lambda file: _has("vision_model.")(file) or _has("text_model.encoder.")(file),
    ),
    (
        Kind("clips", "training clips of this pack", "train on it"),
        lambda file: {"latents", "stills", "landmarks"} <= set(file.shapes),
    ),
)
UNKNOWN = Kind("unknown", "of a kind that this pack does not know", "check where it comes from")


def recognise(file: TensorFile) -> Kind:
    return next((kind for kind, fits in KINDS if fits(file)), UNKNOWN)


def wrong_file(file: TensorFile, wanted: str) -> ValueError:
    """The error for a file that is not `wanted`, a noun phrase."""
    kind = recognise(file)
    some = "" if kind is not UNKNOWN else f", with tensors such as {', '.join(sorted(file.shapes)[:3])}"
    return ValueError(f"{file.path.name} is not {wanted}: this is {kind.description}{some}; {kind.use}")
