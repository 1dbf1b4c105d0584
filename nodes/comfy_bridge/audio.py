"""Audio encoders managed by ComfyUI: the built-in one with core's interface, and core's wav2vec 2.0 in chunks."""

from __future__ import annotations

import os
from collections.abc import Callable

import comfy.model_management as management
import folder_paths
import torch
from torch import Tensor, nn

from ...emo_model.config import ModelConfig
from ...emo_model.inputs.audio import SAMPLE_RATE, STRIDE, encode_long, features_per_frame, resample
from ...emo_model.inputs.wav2vec2 import PIECE_ROWS, features_at_frame_rate, features_per_frame_in_pieces
from ...emo_model.types import AudioFeatures
from .management import Made, managed, or_smaller, patcher_of, stop_if_cancelled

WAV2VEC2_BYTES = 2**29  # activations of a chunk and of the convolutions over ten seconds (benchmarks/memory.py)


class BuiltInAudioEncoder:
    """The built-in audio encoder with the interface of core's AudioEncoderModel."""

    model_sample_rate = SAMPLE_RATE

    def __init__(self, model: nn.Module):
        self.load_device = management.text_encoder_device()
        self.dtype = torch.float32  # small network, wide dynamic range
        self.model = managed(model.to(self.dtype))
        self.patcher = patcher_of(self.model, self.load_device, management.text_encoder_offload_device())

    def layers(self, sound: Tensor) -> Tensor:
        """sound (B, T) mono 16 kHz -> (B, T50, L, D). Raises ComfyUI's exception if the user cancelled."""
        stop_if_cancelled()
        management.load_model_gpu(self.patcher)
        return self.model(sound.to(self.load_device, self.dtype))

    def encode_audio(self, audio: Tensor, sample_rate: int) -> dict:
        """audio (B, C, T) -> the output of core's AudioEncoderEncode; 'encoded_audio_all_layers' has our L layers."""
        sounds = [resample(waveform.float().cpu(), sample_rate) for waveform in audio]
        layers = torch.stack([encode_long(self.layers, sound) for sound in sounds])  # (B, T50, L, D)
        return {
            "encoded_audio": layers[:, :, -1],
            "encoded_audio_all_layers": layers.unbind(2),
            "audio_samples": sounds[0].shape[-1],
        }


def encode_audio(
    encoder,
    sound: Tensor,
    *,
    fps: float,
    seconds: float,
    config: ModelConfig | None,
    on_progress: Callable[[int, int], None],
) -> AudioFeatures:
    """sound (T,) mono 16 kHz -> features per video frame for the model of `config`.

    encoder: the built-in one or any AUDIO_ENCODER of core; config None: a model that takes layers at 50 Hz. Raises
    ValueError if the model needs another encoder.
    """
    module = _base_wav2vec2(encoder)
    if config is not None and config.audio_resampling == "convolutions":
        if module is None:
            raise ValueError(
                f"EMO '{config.name}' needs a wav2vec 2.0 of base size, which this audio encoder is not. "
                "Connect core's audio encoder loader with wav2vec2-base-960h to 'audio_encoder'."
            )
        return _in_pieces(
            encoder,
            lambda **how: features_at_frame_rate(
                module, sound, fps=fps, seconds=seconds, clip_frames=config.clip_frames, on_progress=on_progress, **how
            ),
        )
    if module is not None:
        return _in_pieces(
            encoder,
            lambda **how: features_per_frame_in_pieces(
                module, sound, fps=fps, seconds=seconds, on_progress=on_progress, **how
            ),
        )
    return features_per_frame(audio_layers(encoder, sound), fps=fps, seconds=seconds)


def _base_wav2vec2(encoder) -> nn.Module | None:
    """The network inside core's AUDIO_ENCODER if its chunked evaluation is exact, else None."""
    module = getattr(encoder, "model", None)
    is_wav2vec2 = hasattr(module, "feature_extractor") and hasattr(module, "feature_projection")
    return module if is_wav2vec2 and not module.encoder.do_stable_layer_norm else None


def _in_pieces(encoder, work: Callable[..., Made]) -> Made:
    """`work` with core's encoder on its device and a folder for large results; with smaller chunks if memory runs out.

    The encoder is fully loaded: its positional convolution is no layer of comfy.ops and would not be moved in a partial
    load.
    """
    folder = folder_paths.get_temp_directory()
    os.makedirs(folder, exist_ok=True)

    def attempt(is_short: bool) -> Made:
        management.load_models_gpu([encoder.patcher], memory_required=WAV2VEC2_BYTES, force_full_load=True)
        return work(device=encoder.load_device, folder=folder, piece_rows=PIECE_ROWS // (4 if is_short else 1))

    return or_smaller(attempt, smaller="in chunks a quarter as long")


def audio_layers(encoder, sound: Tensor) -> Tensor:
    """sound (T,) mono 16 kHz -> (T50, L, D) on the CPU, by the built-in encoder or any AUDIO_ENCODER of core (its
    blocks)."""
    if isinstance(encoder, BuiltInAudioEncoder):
        return encode_long(encoder.layers, sound)

    def layers_of_core(piece: Tensor) -> Tensor:
        outputs = encoder.encode_audio(piece[:, None], SAMPLE_RATE)["encoded_audio_all_layers"]
        layers = torch.stack(outputs[1:], dim=2)  # the first is the blocks' input
        steps = torch.arange(piece.shape[-1] // STRIDE, device=layers.device)
        return layers[:, steps.clamp(max=layers.shape[1] - 1)]  # wav2vec 2.0 outputs one less, Whisper always 30 s

    return encode_long(layers_of_core, sound, chunk_seconds=22, context_seconds=4)  # Whisper's limit is 30 s
