"""The portrait as the built-in model reads it: the square around the head, its face mesh, its latents at rest."""

from __future__ import annotations

from torch import Tensor

from ..config import ModelConfig
from ..types import Fit, Portrait
from .face import apply_fit
from .head_square import head_square
from .motion_latents import portrait_latents
from .vae import to_scaled


def read_portrait(picture: Tensor, mesh: Tensor, config: ModelConfig) -> Portrait:
    """picture (1, 3, H, W) in [-1, 1] and the face mesh (468, 3) in its pixels -> the portrait of a model with motion latents."""
    fit = head_square(mesh, width=picture.shape[-1], height=picture.shape[-2], size=config.image_size)
    own = mesh_in_square(mesh, fit)
    raw = portrait_latents(own, cells=config.latent_size, size=config.image_size)
    return Portrait(to_scaled(raw, config), apply_fit(picture, fit), fit, mesh=own)


def mesh_in_square(mesh: Tensor, fit: Fit) -> Tensor:
    """mesh (..., 468, 3) in pixels of the picture -> in pixels of the fitted square."""
    moved = mesh.float() - mesh.new_tensor([fit.left, fit.top, 0.0])
    return moved * (fit.size / fit.side)
