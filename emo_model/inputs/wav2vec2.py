"""wav2vec 2.0 (arXiv 2006.11477) over sound of any length: in pieces, and yet what one pass over the whole gives.

Two things in it hear the whole sound at once. The norm of the first convolution does: its mean and variance are summed
up in a pass of their own. And every attention does: each piece asks all pieces, one after the other, for keys and
values, and adds up the answers under a running maximum (online softmax, arXiv 1805.02867). So nothing is approximated;
only rounding differs. What grows with the sound lies in a file. Time grows with its square; at an hour it is still
small beside the video's.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ..types import AudioFeatures
from .audio import SAMPLE_RATE, at_frames

PIECE_ROWS = 1000  # 40 s of video frames; its square for each head is the largest thing in memory
IN_MEMORY = 2**28  # bytes; larger tables lie in a file

OnProgress = Callable[[int, int], None]  # (pieces done, of all)


def features_at_frame_rate(
    model: nn.Module,
    sound: Tensor,
    *,
    fps: float,
    clip_frames: int,
    seconds: float | None = None,
    piece_rows: int = PIECE_ROWS,
    device: torch.device | str | None = None,
    folder: str | Path | None = None,
    in_memory: int = IN_MEMORY,
    on_progress: OnProgress = lambda done, of: None,
) -> AudioFeatures:
    """sound (T,) mono 16 kHz -> the layers of wav2vec 2.0 for each video frame, as Hallo hears it.

    The sound is normalised over its whole length and filled up with silence to whole clips of `clip_frames`; the
    features of the convolutions are brought to the frame rate before the transformer. seconds: of the video, where that
    is not the sound's length (a resampled sound may be a sample off); the rest: see `wav2vec2_layers`.
    """
    seconds = len(sound) / SAMPLE_RATE if seconds is None else seconds
    rows = max(1, math.ceil(len(sound) / SAMPLE_RATE * fps))
    missing = -rows % clip_frames
    layers = wav2vec2_layers(
        model,
        sound,
        rows=rows + missing,
        silence=missing * int(SAMPLE_RATE / fps),
        piece_rows=piece_rows,
        device=device,
        folder=folder,
        in_memory=in_memory,
        on_progress=on_progress,
    )
    frames = min(max(1, round(seconds * fps)), len(layers))
    return AudioFeatures(
        layers, fps=float(fps), seconds=float(seconds), padding=len(layers) - frames, resampling="convolutions"
    )


def features_per_frame_in_pieces(
    model: nn.Module,
    sound: Tensor,
    *,
    fps: float,
    seconds: float,
    piece_rows: int = PIECE_ROWS,
    device: torch.device | str | None = None,
    folder: str | Path | None = None,
    in_memory: int = IN_MEMORY,
    on_progress: OnProgress = lambda done, of: None,
) -> AudioFeatures:
    """`inputs.audio.features_per_frame` of `wav2vec2_layers`, in the memory of one piece; the rest is in files."""
    layers = wav2vec2_layers(
        model, sound, piece_rows=piece_rows, device=device, folder=folder, in_memory=in_memory, on_progress=on_progress
    )
    frames = max(1, round(seconds * fps))
    made = _Tables(layers.shape[1], frames, layers.shape[2], folder=folder, in_memory=in_memory)
    tables = made.split()
    for start in range(0, frames, piece_rows):
        piece = slice(start, min(start + piece_rows, frames))
        for table, rows in zip(
            tables, at_frames(layers, range(piece.start, piece.stop), fps=fps).unbind(1), strict=True
        ):
            table.write(piece, rows)
    return AudioFeatures(made.tensor().transpose(0, 1), fps=float(fps), seconds=float(seconds))


@torch.no_grad()
def wav2vec2_layers(
    model: nn.Module,
    sound: Tensor,
    *,
    rows: int | None = None,
    silence: int = 0,
    piece_rows: int = PIECE_ROWS,
    device: torch.device | str | None = None,
    folder: str | Path | None = None,
    in_memory: int = IN_MEMORY,
    on_progress: OnProgress = lambda done, of: None,
) -> Tensor:
    """sound (T,) mono 16 kHz -> (R, L, D) float32 on the CPU, what each of the L transformer layers says.

    model: transformers' Wav2Vec2Model or the module inside ComfyUI's AUDIO_ENCODER, its weights on `device`; rows: R,
    to which the features of the convolutions are interpolated, or None for their own 50 a second; silence: samples of
    it behind the sound;
    folder: where a temporary file is made for tables of more than `in_memory` bytes (it vanishes with the result);
    on_progress may raise to stop. Raises ValueError for a wav2vec 2.0 that norms before its attentions, as the large
    ones do.
    """
    if _norms_first(model):
        raise ValueError(
            "this wav2vec 2.0 is a large one, which norms before its attentions; load a base one, such as "
            "wav2vec2-base-960h"
        )
    device = next(model.parameters()).device if device is None else torch.device(device)
    layers, encoder, count = model.encoder.layers, model.encoder, len(model.encoder.layers)
    convolutions = _Convolutions(model, sound, silence, device)
    rows = convolutions.count if rows is None else rows
    pieces = [slice(start, min(start + piece_rows, rows)) for start in range(0, rows, piece_rows)]
    steps = iter(range(1, 2 * len(pieces) * (1 + count) + 1))

    def tick() -> None:
        on_progress(next(steps), 2 * len(pieces) * (1 + count))

    width = model.feature_projection.projection.out_features
    heard = _Tables(count, rows, width, folder=folder, in_memory=in_memory)
    keys, values = _Tables(2, rows, width, folder=folder, in_memory=in_memory).split()
    for piece in pieces:
        features = model.feature_projection(convolutions.interpolated(piece, rows)[None])
        keys.write(
            piece, (features[0] if isinstance(features, tuple) else features)[0]
        )  # the place is free until layer 0
        tick()
    margin = encoder.pos_conv_embed.conv.kernel_size[0] // 2
    *_, last = heard.split()
    for piece in pieces:
        wide = slice(max(0, piece.start - margin), min(rows, piece.stop + margin))
        x = keys.read(wide).to(device)[None]
        x = encoder.layer_norm(x + encoder.pos_conv_embed(x))[0]
        last.write(piece, x[piece.start - wide.start : piece.stop - wide.start])  # free until the last layer
        tick()
    before = last
    for layer, output in zip(layers, heard.split(), strict=True):
        for piece in pieces:
            x = before.read(piece).to(device)
            keys.write(piece, layer.attention.k_proj(x))
            values.write(piece, layer.attention.v_proj(x))
            tick()
        for piece in pieces:
            x = before.read(piece).to(device)
            x = layer.layer_norm(x + _look_at_all(layer.attention, x, keys, values, pieces))
            output.write(piece, layer.final_layer_norm(x + layer.feed_forward(x)))
            tick()
        before = output
    return heard.tensor().transpose(0, 1)


def _norms_first(model: nn.Module) -> bool:
    """ComfyUI notes it at the encoder, transformers in the config."""
    holder = model.encoder if hasattr(model.encoder, "do_stable_layer_norm") else model.config
    return holder.do_stable_layer_norm


def _look_at_all(attention: nn.Module, x: Tensor, keys: _Table, values: _Table, pieces: list[slice]) -> Tensor:
    """x (R', D), one piece, looks at all of them -> (R', D)."""

    def heads(table: Tensor) -> Tensor:
        return rearrange(table, "r (h d) -> h r d", h=attention.num_heads)

    query = heads(attention.q_proj(x))
    query = query * query.shape[-1] ** -0.5
    top = query.new_full((*query.shape[:2], 1), -math.inf)
    total, answer = torch.zeros_like(top), torch.zeros_like(query)
    for piece in pieces:
        scores = query @ heads(keys.read(piece).to(x)).transpose(1, 2)
        higher = torch.maximum(top, scores.amax(-1, keepdim=True))
        weights, shrink = scores.sub_(higher).exp_(), (top - higher).exp()
        total = total * shrink + weights.sum(-1, keepdim=True)
        answer = answer * shrink + weights @ heads(values.read(piece).to(x))
        top = higher
    return attention.out_proj(rearrange(answer / total, "h r d -> r (h d)"))


class _Convolutions:
    """What the convolutions say of a whole sound, any rows of it at a time."""

    def __init__(self, model: nn.Module, sound: Tensor, silence: int, device: torch.device):
        self.layers, self.device, self.sound = list(model.feature_extractor.conv_layers), device, sound
        self.reach, self.stride = 1, 1  # of one feature, in samples
        for layer in reversed(self.layers):
            kernel, stride = layer.conv.kernel_size[0], layer.conv.stride[0]
            self.reach, self.stride = (self.reach - 1) * stride + kernel, self.stride * stride
        self.length = max(len(sound) + silence, self.reach)
        self.count = (self.length - self.reach) // self.stride + 1
        self.mean, self.spread = _mean_and_spread(sound)
        norm = getattr(self.layers[0], "layer_norm", None)
        self.first_norm = self._sum_up(self.layers[0].conv, norm) if isinstance(norm, nn.GroupNorm) else None

    def interpolated(self, piece: slice, rows: int) -> Tensor:
        """Rows `piece` of the features stretched to `rows` rows, ends on ends -> (R', C).

        Places are float32, as in torch's interpolation of the whole.
        """
        if rows == self.count:
            return self._features(piece)
        step = torch.tensor(float(self.count - 1)) / max(rows - 1, 1)
        place = step * torch.arange(piece.start, piece.stop).float()
        low = place.long().clamp(max=self.count - 1)
        high = (low + 1).clamp(max=self.count - 1)
        features = self._features(slice(int(low[0]), int(high[-1]) + 1))
        share = (place - low).to(self.device)[:, None]
        low, high = ((row - low[0]).to(self.device) for row in (low, high))
        return features[low] * (1 - share) + features[high] * share

    def _features(self, piece: slice) -> Tensor:
        """Rows `piece` of the features, (R', C), a few seconds at a time."""
        parts = []
        for start in range(piece.start, piece.stop, 500):
            stop = min(start + 500, piece.stop)
            x = self._samples(start * self.stride, (stop - 1) * self.stride + self.reach)
            for number, layer in enumerate(self.layers):
                if number == 0 and self.first_norm is not None:
                    mean, scale, shift = self.first_norm
                    x = F.gelu((layer.conv(x) - mean) * scale + shift)
                else:
                    x = layer(x)
            parts.append(x[0].T)
        return torch.cat(parts)

    def _sum_up(self, conv: nn.Conv1d, norm: nn.GroupNorm) -> tuple[Tensor, Tensor, Tensor]:
        """(mean, scale, shift), each (C, 1), with which the first norm is norm(x) = (x - mean) * scale + shift over the
        whole."""
        if norm.num_groups != norm.num_channels:
            raise ValueError(
                f"this wav2vec 2.0 norms its {norm.num_channels} channels in {norm.num_groups} groups; a "
                "base one norms each by itself"
            )
        kernel, stride = conv.kernel_size[0], conv.stride[0]
        count = (self.length - kernel) // stride + 1
        sums = torch.zeros(2, norm.num_channels, dtype=torch.float64)
        for start in range(0, count, 32_000):
            stop = min(start + 32_000, count)
            x = conv(self._samples(start * stride, (stop - 1) * stride + kernel))[0]
            middle = x.mean(-1, keepdim=True)  # float32 keeps its digits around the middle
            off = x - middle
            middle, first, second = (part.double().cpu() for part in (middle[:, 0], off.sum(-1), off.square().sum(-1)))
            sums += torch.stack(
                [middle * (stop - start) + first, second + 2 * middle * first + middle**2 * (stop - start)]
            )
        mean, square = sums / count
        scale = norm.weight.double().cpu() * ((square - mean**2).clamp(min=0) + norm.eps).rsqrt()
        return tuple(part.float().to(self.device)[:, None] for part in (mean, scale, norm.bias.cpu()))

    def _samples(self, start: int, stop: int) -> Tensor:
        """(1, 1, stop - start) on the device: the normalised sound, silence behind it."""
        sound = (self.sound[start:stop].float().to(self.device) - self.mean) / self.spread
        return F.pad(sound, (0, stop - start - len(sound)))[None, None]


def _mean_and_spread(sound: Tensor) -> tuple[float, float]:
    """Mean and root of (variance + 1e-7), wav2vec 2.0's normalisation; a few seconds at a time."""
    parts = sound.split(10 * SAMPLE_RATE)
    mean = sum(part.double().sum().item() for part in parts) / max(1, len(sound))
    variance = sum((part.double() - mean).square().sum().item() for part in parts) / max(1, len(sound))
    return mean, math.sqrt(variance + 1e-7)


class _Tables:
    """`count` tables of (rows, width) float32, in memory or in a temporary file that vanishes with them."""

    def __init__(self, count: int, rows: int, width: int, *, folder: str | Path | None, in_memory: int):
        self.shape = (count, rows, width)
        self.memory, self.file = None, None
        if 4 * math.prod(self.shape) <= in_memory:
            self.memory = torch.empty(self.shape)
        else:
            self.file = tempfile.TemporaryFile(dir=folder, prefix="emo-audio-")
            self.file.truncate(4 * math.prod(self.shape))

    def split(self) -> list[_Table]:
        return [_Table(self, number) for number in range(self.shape[0])]

    def tensor(self) -> Tensor:
        """All of them, (count, rows, width); the pages of a file are read when they are looked at."""
        if self.memory is not None:
            return self.memory
        self.file.flush()
        return torch.from_numpy(np.memmap(self.file, dtype=np.float32, mode="r+", shape=self.shape))


class _Table:
    """One of them, written and read a piece at a time, so that a file costs no memory."""

    def __init__(self, tables: _Tables, number: int):
        self.tables, self.number = tables, number

    def write(self, piece: slice, rows: Tensor) -> None:
        rows = rows.float().cpu().contiguous()
        if self.tables.memory is not None:
            self.tables.memory[self.number, piece] = rows
        else:
            self._seek(piece.start)
            self.tables.file.write(rows.numpy().tobytes())

    def read(self, piece: slice) -> Tensor:
        if self.tables.memory is not None:
            return self.tables.memory[self.number, piece]
        width = self.tables.shape[2]
        self._seek(piece.start)
        data = bytearray(self.tables.file.read(4 * width * (piece.stop - piece.start)))
        return torch.frombuffer(data, dtype=torch.float32).view(-1, width)

    def _seek(self, row: int) -> None:
        _, rows, width = self.tables.shape
        self.tables.file.seek(4 * width * (self.number * rows + row))
