"""LATENTs, unscaled, to scaled ones; frames of a video: of the square, or of the whole picture."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from ...emo_model.cache.folder import CachedClips
from ...emo_model.config import ModelConfig
from ...emo_model.inputs.face import apply_fit, fit_picture, mirrored
from ...emo_model.inputs.vae import to_raw, to_scaled
from ...emo_model.outputs.paste_back import PasteBack
from ...emo_model.types import Fit, is_finite
from .pictures import frame_bytes, images, picture_of, three_channels
from .settings import check_one_given

FRAMES = ("whole picture", "head only")
"""Output regions of a video."""


def latent_of(clips: list[Tensor], config: ModelConfig) -> dict:
    """Clips of scaled latents (1, C, F, h, w) -> LATENT with samples (F, C, h, w), unscaled."""
    return {"samples": rearrange(to_raw(torch.cat(clips, dim=2), config), "1 c f h w -> f c h w").contiguous()}


def frames_to_write(
    clips: CachedClips | None, latent: dict | None, vae, pictures: Tensor | None, *, block: int
) -> tuple[int, Iterator[Tensor]]:
    """Exactly one of EMO_CLIPS, LATENT (both with a VAE) and IMAGE -> (number of frames, blocks of them).

    Blocks are samples (f, C, h, w) to decode, or IMAGE.
    """
    check_one_given({"clips": clips, "latent": latent, "images": pictures}, "Nothing to write")
    if pictures is None and vae is None:
        raise ValueError(
            f"'{'latent' if clips is None else 'clips'}' must be decoded: connect 'reference' of "
            "'EMO Reference Encoder'."
        )
    if clips is not None:
        return clips.frames, (latent_of([clip], clips.config)["samples"] for clip in clips)
    frames = pictures if latent is None else latent["samples"]
    if frames.ndim != 4:
        raise ValueError(
            f"'latent' has {frames.ndim} axes {tuple(frames.shape)}, but EMO's have four, one latent per "
            "frame. Decode it with 'VAE Decode' and connect the result to 'images'."
        )
    if not len(frames):
        raise ValueError("There are no frames to write: 'latent' or 'images' is empty. Connect another input.")
    if latent is not None and not is_finite(frames):
        broken = (~frames.isfinite()).sum().item()
        raise ValueError(f"{broken} values of 'latent' are NaN or infinite. Run the sampler again, or connect another.")
    return len(frames), iter(frames.split(block))


def check_whole_picture(frame: str) -> None:
    """Raises ValueError for an output region that a video of several faces does not have."""
    if frame != FRAMES[0]:
        raise ValueError(f"Set 'frame' to '{FRAMES[0]}': a video of several faces shows all of them.")


def fitted_frames(frames: Tensor, config: ModelConfig, count: int, fit: Fit | None = None) -> Tensor:
    """IMAGE (F, H, W, C) -> IMAGE (count, size, size, 3), cropped to the model's square.

    fit: crop of the portrait if the frames show the whole picture; None: frames of the square.
    """
    if len(frames) < count:
        raise ValueError(
            f"Connect a longer video: this one has {len(frames)} frames, and {count} are needed to continue it."
        )
    pixels = rearrange(three_channels(frames).float().clamp(0, 1) * 2 - 1, "b h w c -> b c h w")
    if fit is not None:  # files are padded to even sizes
        return images(apply_fit(pixels[..., : fit.height, : fit.width], fit))
    return images(torch.cat([fit_picture(one[None], config.image_size)[0] for one in pixels]))


def whole_frames(frames: Tensor, count: int, picture: Tensor, fit: Fit) -> Tensor:
    """Frames of a video of a portrait, IMAGE (F, H, W, C) -> IMAGE (count, height, width, 3) of the whole picture.

    picture: (1, 3, height, width) in [-1, 1]. The frames may show it at any size, or only the head square of `fit`.
    Raises ValueError for too few frames, and for another aspect ratio.
    """
    if len(frames) < count:
        raise ValueError(
            f"Connect a longer video: this one has {len(frames)} frames, and {count} are needed to continue it."
        )
    frames = three_channels(frames).float()
    high, wide = frames.shape[1:3]
    height, width = picture.shape[2:]
    if (high, wide) == (height, width):
        return frames
    if high == wide and (width != height or wide == even(fit.side)):
        return torch.cat([picture_of(one) for one in PasteBack(picture, fit).paste(frame_bytes(frames))])
    if abs(wide * height - high * width) <= 2 * max(wide, high, width, height):  # beyond rounding to even sizes
        return (
            F.interpolate(
                frames.movedim(-1, 1), size=(height, width), mode="bicubic", align_corners=False, antialias=True
            )
            .clamp(0, 1)
            .movedim(1, -1)
        )
    raise ValueError(
        f"The video is {wide}x{high} pixels, the portrait's picture {width}x{height}: they do not match. "
        "Connect the 'vae' of the 'EMO Reference Encoder' with this video's portrait."
    )


def even(length: int) -> int:
    """The next even length: H.264 requires even sizes."""
    return length + length % 2


@dataclass(frozen=True)
class Framing:
    """How the frames of a video relate to the portrait's picture.

    fit: its head square, None if no portrait is known; whole: pastes frames of the square back into it; is_whole:
    whether the frames show the whole picture; None: decided by their size.
    """

    fit: Fit | None = None
    whole: PasteBack | None = None
    is_whole: bool | None = False


def framed(pictures: np.ndarray, frame: str, framing: Framing) -> Iterator[np.ndarray]:
    """Frames (F, H, W, 3) uint8 -> blocks of the output region `frame`, one of `FRAMES`.

    Raises ValueError for 'head only' if the head square is unknown.
    """
    fit, (height, width) = framing.fit, pictures.shape[1:3]
    is_whole = (height, width) == (fit.height, fit.width) if framing.is_whole is None else framing.is_whole
    if is_whole:
        yield pictures if frame == FRAMES[0] else head_only(pictures, fit)
    elif frame == FRAMES[0] and framing.whole is not None:
        yield from framing.whole.paste(pictures)
    elif frame == FRAMES[1] and fit is None and height != width:
        raise ValueError(
            f"Connect 'reference' of 'EMO Reference Encoder', or set 'frame' to '{FRAMES[0]}': the head "
            f"square in frames of {width}x{height} pixels is unknown."
        )
    else:
        yield pictures


def head_only(pictures: np.ndarray, fit: Fit) -> np.ndarray:
    """Crop frames (F, H, W, 3) of the whole picture to the head square, with even sides, mirrored beyond the edges."""
    rows, columns = (
        mirrored(first, first + even(fit.side), length).numpy()
        for first, length in ((fit.top, fit.height), (fit.left, fit.width))
    )
    return pictures[:, rows][:, :, columns]


def motion_latents(latents: Tensor, config: ModelConfig) -> Tensor:
    """Unscaled latents (n, C, h, w) -> scaled (1, C, n, h, w)."""
    return rearrange(to_scaled(latents, config), "n c h w -> 1 c n h w")
