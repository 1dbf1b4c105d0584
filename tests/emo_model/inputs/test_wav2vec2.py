"""wav2vec 2.0 in pieces equals wav2vec 2.0 over the whole, at any frame rate; memory does not grow with the sound."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from emo_model.inputs.audio import features_per_frame
from emo_model.inputs.wav2vec2 import features_at_frame_rate, features_per_frame_in_pieces, wav2vec2_layers

LAYERS, WIDTH, HEADS, CONVOLUTIONS = 3, 24, 4, 16
STRIDES, KERNELS = (5, 2, 2, 2, 2, 2, 2), (10, 3, 3, 3, 3, 2, 2)


class StandIn(nn.Module):
    """wav2vec 2.0 by the book, its parts named as in transformers and ComfyUI; for where neither is installed."""

    def __init__(self):
        super().__init__()
        widths = (1, *[CONVOLUTIONS] * 7)
        self.feature_extractor, self.feature_projection, self.encoder = nn.Module(), nn.Module(), nn.Module()
        shapes = list(zip(widths, KERNELS, STRIDES, strict=False))
        self.feature_extractor.conv_layers = nn.ModuleList(
            StandInConvolution(*shape, has_norm=index == 0) for index, shape in enumerate(shapes)
        )
        self.feature_projection.layer_norm = nn.LayerNorm(CONVOLUTIONS)
        self.feature_projection.projection = nn.Linear(CONVOLUTIONS, WIDTH)
        self.feature_projection.forward = lambda x: self.feature_projection.projection(
            self.feature_projection.layer_norm(x)
        )
        self.encoder.pos_conv_embed, self.encoder.layer_norm = StandInPlaces(), nn.LayerNorm(WIDTH)
        self.encoder.layers, self.encoder.do_stable_layer_norm = (
            nn.ModuleList(StandInLayer() for _ in range(LAYERS)),
            False,
        )
        self.encoder.forward = self.hear

    def hear(self, x: Tensor) -> Tensor:
        """x (B, N, D) projected features of the convolutions -> (B, N, D)."""
        x = self.encoder.layer_norm(x + self.encoder.pos_conv_embed(x))
        for layer in self.encoder.layers:
            x = layer(x)
        return x


class StandInConvolution(nn.Module):
    def __init__(self, inside: int, kernel: int, stride: int, *, has_norm: bool):
        super().__init__()
        self.conv = nn.Conv1d(inside, CONVOLUTIONS, kernel, stride=stride, bias=False)
        if has_norm:
            self.layer_norm = nn.GroupNorm(CONVOLUTIONS, CONVOLUTIONS)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return F.gelu(self.layer_norm(x) if hasattr(self, "layer_norm") else x)


class StandInPlaces(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(WIDTH, WIDTH, 16, padding=8, groups=2)

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(self.conv(x.transpose(1, 2))[:, :, :-1]).transpose(1, 2)


class StandInLayer(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.Module()
        self.attention.num_heads = HEADS
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            self.attention.add_module(name, nn.Linear(WIDTH, WIDTH))
        self.layer_norm, self.final_layer_norm = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.feed_forward = nn.Sequential(nn.Linear(WIDTH, 48), nn.GELU(), nn.Linear(48, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        part = self.attention
        q, k, v = (to(x).unflatten(-1, (HEADS, -1)).transpose(1, 2) for to in (part.q_proj, part.k_proj, part.v_proj))
        x = self.layer_norm(x + part.out_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)))
        return self.final_layer_norm(x + self.feed_forward(x))


def of_transformers(**options):
    transformers = pytest.importorskip("transformers", reason="transformers' wav2vec 2.0 is the judge")
    return transformers.Wav2Vec2Model(
        transformers.Wav2Vec2Config(
            hidden_size=WIDTH,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            intermediate_size=48,
            conv_dim=(CONVOLUTIONS,) * 7,
            num_conv_pos_embeddings=16,
            num_conv_pos_embedding_groups=2,
            **options,
        )
    )


@pytest.fixture(scope="module", params=[StandIn, of_transformers])
def model(request):
    torch.manual_seed(0)
    model = request.param().eval()
    for name, weight in model.named_parameters():
        if "attention" in name and weight.ndim == 2:
            torch.nn.init.normal_(weight, std=0.4)  # sharp enough that places in the sound matter
    return model


def voice(seconds: float) -> torch.Tensor:
    """Loud and quiet by turns, off centre, as a normalisation would notice."""
    time = torch.arange(round(seconds * 16000)) / 16000
    noise = torch.randn(len(time), generator=torch.Generator().manual_seed(1))
    return 0.05 + 0.2 * (0.2 + torch.sin(3 * time).abs()) * (noise + torch.sin(800 * time))


@torch.no_grad()
def whole(model, sound: torch.Tensor, *, rows: int | None = None, silence: int = 0) -> torch.Tensor:
    """Hallo's way in one pass, with the model's own modules: (R, L, D)."""
    sound = F.pad((sound - sound.mean()) / (sound.var(unbiased=False) + 1e-7).sqrt(), (0, silence))
    features = sound[None, None]
    for layer in model.feature_extractor.conv_layers:
        features = layer(features)
    if rows is not None:
        features = F.interpolate(features, size=rows, mode="linear", align_corners=True)
    said = []
    hooks = [
        layer.register_forward_hook(
            lambda _, __, answer: said.append(answer if isinstance(answer, Tensor) else answer[0])
        )
        for layer in model.encoder.layers
    ]
    hidden = model.feature_projection(features.transpose(1, 2))
    model.encoder(hidden[0] if isinstance(hidden, tuple) else hidden)
    for hook in hooks:
        hook.remove()
    return torch.stack(said, dim=2)[0]


@pytest.mark.parametrize("piece_rows", [40, 97, 10_000])
@pytest.mark.parametrize("rows", [None, 300])
def test_pieces_are_the_whole(model, piece_rows, rows):
    sound = voice(11.3)
    made = wav2vec2_layers(model, sound, rows=rows, piece_rows=piece_rows)
    expected = whole(model, sound, rows=rows)
    assert made.shape == expected.shape and expected.std() > 0.3
    assert (made - expected).abs().max() < 1e-4


def test_hearing_less_than_the_whole_would_be_noticed(model):
    """What the other tests are worth: a piece heard alone differs by far more than their tolerance."""
    sound = voice(11.3)
    alone = wav2vec2_layers(model, sound[: 16000 * 6], rows=150)
    assert (alone[:75] - wav2vec2_layers(model, sound, rows=round(150 * 11.3 / 6))[:75]).abs().max() > 0.05


@pytest.mark.parametrize("seconds, fps", [(2.0, 25.0), (3.01, 25.0), (1.7, 30.0), (0.01, 25.0)])
def test_rows_fall_on_whole_clips_of_video_frames(model, seconds, fps):
    sound = voice(seconds)
    audio = features_at_frame_rate(model, sound, fps=fps, clip_frames=16)
    rows = math.ceil(len(sound) / 16000 * fps)
    padded = -(-rows // 16) * 16
    assert audio.frames.shape == (padded, LAYERS, WIDTH)
    assert len(audio.frames) - audio.padding == max(1, round(seconds * fps)) and audio.seconds == pytest.approx(
        seconds, abs=1e-4
    )
    expected = whole(model, sound, rows=padded, silence=(padded - rows) * int(16000 / fps))
    assert (audio.frames - expected).abs().max() < 1e-4


def test_a_file_for_the_tables_changes_nothing(model, tmp_path):
    sound = voice(5)
    in_file = wav2vec2_layers(model, sound, rows=125, piece_rows=50, folder=tmp_path, in_memory=0)
    assert torch.equal(in_file, wav2vec2_layers(model, sound, rows=125, piece_rows=50))
    assert in_file.dtype == torch.float32


@pytest.mark.parametrize("in_memory", [0, 2**28])
def test_layers_at_the_frame_rate_in_pieces_are_those_of_the_whole(model, tmp_path, in_memory):
    sound = voice(5.03)
    whole = features_per_frame(wav2vec2_layers(model, sound), fps=30.0, seconds=5.03)
    pieces = features_per_frame_in_pieces(
        model, sound, fps=30.0, seconds=5.03, piece_rows=40, folder=tmp_path, in_memory=in_memory
    )
    assert pieces.frames.shape == (151, LAYERS, WIDTH) and (pieces.fps, pieces.seconds) == (30, 5.03)
    assert (pieces.frames - whole.frames).abs().max() < 1e-4


@pytest.mark.parametrize("work", ["layers", "frames"])
def test_no_tensor_grows_with_the_sound(model, tmp_path, work):
    class Largest(TorchDispatchMode):
        elements = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            for tensor in tree_leaves(result):
                if (
                    isinstance(tensor, torch.Tensor)
                    and tensor.untyped_storage().nbytes() == tensor.numel() * tensor.itemsize
                ):
                    self.elements = max(self.elements, tensor.numel())
            return result

    largest = []
    for seconds in (30, 90):
        sound = voice(seconds)
        how = {"piece_rows": 250, "folder": tmp_path, "in_memory": 0}
        with Largest() as watch:
            if work == "layers":
                wav2vec2_layers(model, sound, rows=25 * seconds, **how)
            else:
                features_per_frame_in_pieces(model, sound, fps=25.0, seconds=seconds, **how)
        largest.append(watch.elements)
    assert largest[0] == largest[1]


def test_progress_counts_to_its_end_and_may_stop(model):
    seen = []
    wav2vec2_layers(model, voice(3), rows=75, piece_rows=30, on_progress=lambda done, of: seen.append((done, of)))
    assert seen == [(number, 24) for number in range(1, 25)]

    def stop(done: int, of: int) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        wav2vec2_layers(model, voice(3), on_progress=stop)


def test_a_large_wav2vec2_is_refused_with_the_name_of_a_right_one():
    with pytest.raises(ValueError, match="wav2vec2-base-960h"):
        wav2vec2_layers(of_transformers(do_stable_layer_norm=True, feat_extract_norm="layer"), voice(1))
