"""Motion latents of frames that exist as pictures only: to continue a video, or to take over the motion of another."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ..config import ModelConfig
from ..types import Fit, Portrait
from . import face_geometry
from .faces import Face, FaceFinder, NoFaceError
from .motion_latents import motion_latents
from .portrait import mesh_in_square
from .vae import to_scaled

OVERSAMPLING = 4  # pixels of flow along each side of a cell
LEAST_PRESENCE = 0.2  # of a face that speaks: a mesh that lost it has nearly 0


def motion_of_frames(finder: FaceFinder, frames: Tensor, portrait: Portrait, config: ModelConfig) -> Tensor:
    """frames (F, 3, H, W) in [-1, 1] of a video of the portrait -> its scaled latents (F, C, h, w), read from the face meshes.

    The frames show the portrait's whole picture, at any size, or only the square around the head. How lips are pressed and where
    eyes look is not in a mesh: these channels are as at rest. Raises NoFaceError if a frame has no face where the portrait's is,
    ValueError if the frames have other proportions than picture and square.
    """
    fit = _fit_of_frames(portrait.fit, *frames.shape[-2:])
    scale = fit.side / fit.size
    mesh = portrait.mesh * scale + portrait.mesh.new_tensor([fit.left, fit.top, 0.0])
    corners = (*mesh[:, :2].amin(0).tolist(), *mesh[:, :2].amax(0).tolist())
    found = finder.follow(frames, Face(corners, mesh, 1.0, 1.0, True))
    lost = [number for number, face in enumerate(found) if face.presence < LEAST_PRESENCE]
    if lost:
        raise NoFaceError(f"no face was found in frame {lost[0] + 1} of {len(frames)} where the portrait has it; give frames of "
                          "a video that was made from this portrait")
    meshes = torch.stack([mesh_in_square(face.mesh, fit) for face in found])
    points, rigidity = face_geometry.extend(portrait.mesh, fit.size)
    pixels = OVERSAMPLING * config.latent_size
    share = pixels / fit.size
    flow = torch.stack([face_geometry.flow_between(share * points, share * face_geometry.follow(points, rigidity, mesh), pixels)
                        for mesh in meshes])
    return to_scaled(motion_latents(flow, meshes, portrait.mesh, cells=config.latent_size, size=fit.size), config)


def _fit_of_frames(fit: Fit, height: int, width: int) -> Fit:
    """The square around the head in frames of another size than the picture that it was cut from, or of the square alone."""
    for whole in (fit, replace(fit, width=fit.side, height=fit.side, left=0, top=0)):
        scale = width / whole.width
        if abs(height - scale * whole.height) <= 2:
            return Fit(width, height, round(scale * whole.left), round(scale * whole.top), round(scale * whole.side), fit.size)
    raise ValueError(f"the frames are {width}x{height} pixels, which is neither the whole picture ({fit.width}x{fit.height}) nor "
                     f"the square around its head ({fit.side}x{fit.side}); give frames of a video of this portrait")
