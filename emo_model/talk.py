"""The public entry point: `load` a model, then `speak` yields the frames of a talking video."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .acceleration.group_norm import use_own_group_norm
from .cache.folder import CacheRun
from .cache.renderer import CachedRenderer
from .checkpoints import native
from .checkpoints.mediapipe import load_face_finder
from .checkpoints.native import Bundle
from .config import SamplingConfig
from .estimate import count_clips
from .inputs import media, portrait
from .inputs.audio import SoundFile, as_waveform, check_rate, encode_lazily
from .outputs.portrait_decoder import PortraitDecoder
from .sampling.clips import ClipRenderer, generate_clips
from .sampling.progress import StepReport, ignore
from .sampling.samplers import PredictCached
from .types import Conditions, MotionFrames, Speed, is_finite

MODELS = {"default": native.DEFAULT_WEIGHTS, "fast": native.FAST_WEIGHTS}


def load(model: str | Path = "default", device: torch.device | str = "cpu") -> Bundle:
    """Load a model in float32: 'default' or 'fast' (built-in), or a file of this pack.

    Raises FileNotFoundError or ValueError if the file or the device cannot be used.
    """
    try:
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, AssertionError, ValueError, TypeError, ImportError, AttributeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        others = " or 'cuda'" if torch.cuda.is_available() else ""
        raise ValueError(f"device '{device}' cannot be used here: {reason:.120}; use 'cpu'{others}") from None
    path = MODELS.get(model, model) if isinstance(model, str) else model
    bundle = native.load(path, dtype=torch.float32, device=device)
    if bundle.motion_decoder is None or bundle.audio_encoder is None:
        raise ValueError(
            f"{Path(path).name} contains no motion decoder and audio encoder; use it in ComfyUI, with core's loaders "
            "of VAE and audio encoder"
        )
    for part in (bundle.emo, bundle.motion_decoder):
        part.to(memory_format=torch.channels_last)
    use_own_group_norm(bundle.emo)
    return bundle


def speak(
    bundle: Bundle,
    picture: str | Path | Tensor,
    voice: str | Path | tuple[Tensor, int],
    *,
    sampling: SamplingConfig | None = None,
    face: str | int | Sequence[float] | None = None,
    long_side: int = portrait.LONG_SIDE,
    square: bool = False,
    fps: float | None = None,
    motion: MotionFrames = MotionFrames(),
) -> Iterator[np.ndarray]:
    """Yield blocks of frames (F, H, W, 3) uint8 as they are generated, at `fps` frames per second (the model's own).

    picture: a file, or pixels (1, 3, H, W) in [-1, 1]; voice: a file, or a waveform (C, T) and its sample rate.
    sampling: None for the model's own. face: 'largest', 'leftmost', 'rightmost' or its number from the left, or its
    box: left, top, right, bottom as fractions of the picture or in pixels. long_side: larger pictures are downscaled to
    it. square: only the head square. motion: latents of the last frames of the video to continue.
    Raises OSError and ValueError that say what to do.
    """
    scene = prepare(bundle, picture, voice, sampling=sampling, face=face, long_side=long_side, square=square, fps=fps)
    for latents in scene.generate(motion=motion):
        yield from scene.decoder.blocks(latents[0].transpose(0, 1))


@dataclass(frozen=True, eq=False)
class Scene:
    """A portrait and a voice, prepared for sampling.

    picture: (1, 3, H, W) in [-1, 1], at the size of the frames, H and W even; decoder: latents to frames.
    """

    bundle: Bundle
    sampling: SamplingConfig
    picture: Tensor
    conditions: Conditions
    sound: SoundFile | tuple[Tensor, int]
    decoder: PortraitDecoder

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the frames."""
        return self.decoder.size

    @property
    def clips(self) -> int:
        return count_clips(self.conditions.frames, self.bundle.config.clip_frames)

    @property
    def device(self) -> torch.device:
        return next(self.bundle.emo.parameters()).device

    @property
    def summary(self) -> str:
        """One sentence for the log."""
        (height, width), fit = self.size, self.conditions.portrait.fit
        return f"Frames of {width}x{height}; head square of {fit.side} pixels at ({fit.left}, {fit.top})."

    def generate(
        self,
        *,
        cache: CacheRun | None = None,
        weights: str | None = None,
        finished_only: bool = False,
        motion: MotionFrames = MotionFrames(),
        predict: PredictCached | None = None,
        on_step: Callable[[StepReport], None] = ignore,
    ) -> Iterator[Tensor]:
        """Scaled latents (1, C, F, h, w), clip by clip; see `ClipRenderer`, and, with a cache, `CachedRenderer`."""
        render = ClipRenderer(
            self.bundle.emo, self.conditions, self.sampling, device=self.device, predict=predict, on_step=on_step
        )
        if cache is not None:
            render = CachedRenderer(render, cache, weights=weights, finished_only=finished_only)
        return generate_clips(render, motion=motion)


def read_inputs(
    picture: str | Path | Tensor, voice: str | Path | tuple[Tensor, int] | SoundFile
) -> tuple[Tensor, SoundFile | tuple[Tensor, int]]:
    """Picture, (1, 3, H, W) in [-1, 1] or uint8, and voice; what has been read already is handed on.

    Raises as `speak` does.
    """
    if not isinstance(picture, Tensor):
        picture = media.read_pixels(picture)
    elif picture.ndim != 4 or tuple(picture.shape[:2]) != (1, 3):
        raise ValueError(f"the picture must be (1, 3, H, W), in [-1, 1] or uint8, got {tuple(picture.shape)}")
    if not is_finite(picture):
        raise ValueError("the picture has NaN or infinite pixels; use another")
    if isinstance(voice, tuple):
        check_rate(voice[1], "the voice")
        sound = as_waveform(voice[0]), voice[1]
    else:
        sound = voice if isinstance(voice, SoundFile) else SoundFile(voice)
    samples = sound[0].shape[1] if isinstance(sound, tuple) else sound.samples
    if not samples:
        name = "the voice" if isinstance(sound, tuple) else sound.path.name
        raise ValueError(f"{name} contains no sound (0 samples); use another file")
    return picture, sound


def prepare(
    bundle: Bundle,
    picture: str | Path | Tensor,
    voice: str | Path | tuple[Tensor, int] | SoundFile,
    *,
    sampling: SamplingConfig | None = None,
    face: str | int | Sequence[float] | None = None,
    long_side: int = portrait.LONG_SIDE,
    square: bool = False,
    fps: float | None = None,
) -> Scene:
    """Read picture and voice and detect the face; arguments and errors as in `speak`."""
    config, device = bundle.config, next(bundle.emo.parameters()).device
    sampling = sampling or bundle.sampling
    picture, sound = read_inputs(picture, voice)
    mesh = portrait.find_mesh(load_face_finder(), picture, face)
    if square:
        picture, mesh = portrait.cut_square(picture, mesh)
    picture, mesh = portrait.fit_to_video(picture, mesh, long_side=long_side)
    audio = encode_lazily(lambda piece: bundle.audio_encoder(piece.to(device)), sound, fps=fps or config.fps)
    shown = portrait.read_portrait(picture, mesh, config)
    conditions = Conditions(shown, portrait.face_mask(shown), audio, Speed.constant(sampling.head_speed))
    decoder = PortraitDecoder(bundle.motion_decoder, config, picture, shown, device=device)
    return Scene(bundle, sampling, picture, conditions, sound, decoder)
