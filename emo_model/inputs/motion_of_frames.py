"""Motion latents of video frames, read from their face meshes: to continue a video, or to transfer its motion."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ..config import ModelConfig
from ..types import Fit, Portrait
from . import face_geometry
from .faces import FaceFinder, NoFaceError, as_face
from .motion_latents import motion_latents
from .portrait import mesh_in_square
from .vae import to_scaled

OVERSAMPLING = 4  # flow samples per cell, along each side
LEAST_PRESENCE = 0.2  # presence score of a tracked face; a lost one scores nearly 0


def motion_of_frames(finder: FaceFinder, frames: Tensor, portrait: Portrait, config: ModelConfig) -> Tensor:
    """frames (F, 3, H, W) in [-1, 1] of a video of the portrait -> scaled motion latents (F, C, h, w).

    The frames show the portrait's whole picture, at any size, or only the head square. Lip press and gaze are not in a
    mesh: their channels are those at rest. Raises NoFaceError if a frame has no face where the portrait has it,
    ValueError if the aspect ratio matches neither the picture nor the square.
    """
    fit = _fit_of_frames(portrait.fit, *frames.shape[-2:])
    scale = fit.side / fit.size
    mesh = portrait.mesh * scale + portrait.mesh.new_tensor([fit.left, fit.top, 0.0])
    found = finder.follow(frames, as_face(mesh))
    lost = [number for number, face in enumerate(found) if face.presence < LEAST_PRESENCE]
    if lost:
        raise NoFaceError(
            f"no face was detected in frame {lost[0] + 1} of {len(frames)} where the portrait has it; "
            "use frames of a video made from this portrait"
        )
    meshes = torch.stack([mesh_in_square(face.mesh, fit) for face in found])
    return motion_of_meshes(meshes, portrait.mesh, config)


def motion_of_meshes(meshes: Tensor, rest: Tensor, config: ModelConfig, *, press: Tensor | None = None) -> Tensor:
    """meshes (F, 468, 3) of frames and the portrait's (468, 3), in pixels of the square at the working size -> scaled
    motion latents (F, C, h, w).

    press: (F,) lip press minus tuck, which no mesh shows; None: 0. Gaze is 0.
    """
    size, cells = config.image_size, config.latent_size
    points, rigidity = face_geometry.extend(rest, size)
    pixels = OVERSAMPLING * cells
    share = pixels / size
    flow = torch.stack(
        [
            face_geometry.flow_between(share * points, share * face_geometry.follow(points, rigidity, mesh), pixels)
            for mesh in meshes
        ]
    )
    return to_scaled(motion_latents(flow, meshes, rest, cells=cells, size=size, press=press), config)


def _fit_of_frames(fit: Fit, height: int, width: int) -> Fit:
    """The head square in frames of the whole picture at another size, or of the square alone."""
    for whole in (fit, replace(fit, width=fit.side, height=fit.side, left=0, top=0)):
        scale = width / whole.width
        if abs(height - scale * whole.height) <= 2:
            return Fit(
                width, height, round(scale * whole.left), round(scale * whole.top), round(scale * whole.side), fit.size
            )
    raise ValueError(
        f"the frames are {width}x{height} pixels, but the portrait's picture is {fit.width}x{fit.height} "
        f"and its head square {fit.side}x{fit.side}; use frames of a video made from this portrait"
    )
