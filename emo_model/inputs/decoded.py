"""Latents of pictures that a VAE had decoded, nearer than its encoder gives them: to continue a video from its pictures."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..models.autoencoder import Autoencoder


def encode_again(encode: Callable[[Tensor], Tensor], decode: Callable[[Tensor], Tensor], frames: Tensor, *,
                 rounds: int = 6) -> Tensor:
    """Latents whose pictures are `frames`, which a VAE had decoded: to continue a video of which only the pictures are left.

    A VAE's way back is not quite the inverse of its way out, and what it misses would be a jump. So each round decodes what was
    found, encodes that, and adds the difference, for each frame as long as this brings its picture nearer by a twentieth: later
    rounds find more of what a codec did to the video than of the latents. encode and decode: any VAE's, in any convention.
    """
    wanted = best = encode(frames)
    shown = decode(best)
    least, is_moving = _distance(shown, frames), torch.ones(len(frames), dtype=torch.bool)
    for _ in range(rounds):
        found = best + (wanted - encode(shown))
        seen = decode(found)
        distance = _distance(seen, frames)
        is_moving &= distance < 0.95 * least
        if not is_moving.any():
            break
        best, shown, least = (_chosen(is_moving, *pair) for pair in ((found, best), (seen, shown), (distance, least)))
    return best


def trace_back(autoencoder: Autoencoder, pictures: Tensor, *, rounds: int = 4, turns: int = 16, doubt: float = 1e3) -> Tensor:
    """As `encode_again`, for the built-in autoencoder: it can be differentiated, and so comes nearer.

    pictures (B, 3, H, W) in [-1, 1] -> raw latents (B, C, h, w), float32. What the encoder does not look at is in the pictures
    all the same, so this asks the decoder: least squares by Gauss and Newton, `rounds` times with `turns` of conjugate gradients.
    doubt: what of a picture stays unexplained counts as noise, and in proportion to it latents are held where they began; else
    they would explain what a codec did to the video. No picture gets farther away than the encoder alone would leave it.
    """
    def show(latents: Tensor) -> Tensor:
        return autoencoder.decode(latents).clamp(-1, 1)

    with torch.inference_mode(False), torch.no_grad():  # ComfyUI's nodes run in inference mode, which knows no gradients
        pictures = pictures.detach().float().clone()
        begun = best = found = encode_again(autoencoder.encode, show, pictures, rounds=1)
        least, reach = _distance(show(begun), pictures), _reach(show, begun)
        for _ in range(rounds):
            found = found + _step(show, found, pictures, begun, reach, doubt, turns)
            distance = _distance(show(found), pictures)
            best, least = (_chosen(distance < least, *pair) for pair in ((found, best), (distance, least)))
    return best


def _reach(show: Callable[[Tensor], Tensor], latents: Tensor) -> Tensor:
    """(1, C, 1, 1): how much of each channel shows, as the root of what stands on the diagonal of the least squares' matrix."""
    back, shown = _pullback(show, latents)
    signs = torch.randint(0, 2, shown.shape, generator=torch.Generator().manual_seed(0)).to(shown) * 2 - 1
    return back(signs).square().mean((0, 2, 3), keepdim=True).sqrt().clamp(min=1e-6)


def _step(show: Callable[[Tensor], Tensor], found: Tensor, pictures: Tensor, begun: Tensor, reach: Tensor, doubt: float,
          turns: int) -> Tensor:
    """From `found` to the least squares of a decoder that is straight around it; solved in steps that show equally much."""
    back, shown = _pullback(show, found)
    hold, length = _like(doubt * _distance(shown, pictures), found), found.flatten(1).norm(dim=1)

    def squared(way: Tensor) -> Tensor:
        step = way / reach
        small = _like(0.01 * length / step.flatten(1).norm(dim=1).clamp(min=1e-12), step).clamp(min=1e-12)
        return back((show(found + small * step) - shown) / small) / reach + hold * way  # a difference is exact enough

    return _solve(squared, back(pictures - shown) / reach + hold * reach * (begun - found), turns) / reach


def _pullback(show: Callable[[Tensor], Tensor], latents: Tensor) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """Changes of the pictures -> changes of the latents (the transpose of the decoder's derivative), and the pictures."""
    with torch.enable_grad():
        place = latents.detach().requires_grad_()
        shown = show(place)
    return lambda change: torch.autograd.grad(shown, place, change, retain_graph=True)[0], shown.detach()


def _solve(times: Callable[[Tensor], Tensor], wanted: Tensor, turns: int) -> Tensor:
    """Where times(x) = wanted, for each frame by itself, by conjugate gradients from 0."""
    found, left = torch.zeros_like(wanted), wanted
    way, size = left, left.square().sum((1, 2, 3), keepdim=True)
    for _ in range(turns):
        pushed = times(way)
        far = size / (way * pushed).sum((1, 2, 3), keepdim=True).clamp(min=1e-20)
        found, left, before = found + far * way, left - far * pushed, size
        size = left.square().sum((1, 2, 3), keepdim=True)
        way = left + size / before.clamp(min=1e-20) * way
    return found


def _distance(shown: Tensor, frames: Tensor) -> Tensor:
    """(B,) on the CPU: mean square of what is between pictures."""
    return (shown - frames.to(shown)).square().flatten(1).mean(1).float().cpu()


def _chosen(which: Tensor, some: Tensor, others: Tensor) -> Tensor:
    """Some frames of these, the rest of others."""
    return torch.where(_like(which, some), some, others)


def _like(by_frame: Tensor, frames: Tensor) -> Tensor:
    """(B,) -> to go with (B, ...)."""
    return by_frame.to(frames.device).view(-1, *[1] * (frames.ndim - 1))
