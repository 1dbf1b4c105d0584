"""Prepares a portrait for models with motion latents: face mesh, head square, latents at rest."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..config import ModelConfig
from ..types import FaceMask, Fit, Portrait
from .face import apply_fit, box_mask
from .faces import Face, FaceFinder, choose_face, from_left
from .head_square import head_square
from .motion_latents import portrait_latents
from .picture_files import to_float
from .vae import to_scaled
from .voice_schedule import LETTERS

LONG_SIDE = 1920  # default limit of a video's longer side in pixels
ROOM = 0.04  # margin of the face mask around the face at rest, in face heights


def find_mesh(finder: FaceFinder, picture: Tensor, face: str | int | Sequence[float] | None = None) -> Tensor:
    """The mesh (468, 3) of `find_face`."""
    return find_face(finder, picture, face)[0].mesh


def find_face(
    finder: FaceFinder, picture: Tensor, face: str | int | Sequence[float] | None = None
) -> tuple[Face, list[Face]]:
    """The chosen face in a picture (1, 3, H, W) in [-1, 1] or uint8, in its pixels, and all that were found.

    face: 'largest' (None), 'leftmost', 'rightmost' or its number from the left; or its box: left, top, right, bottom as
    fractions of the picture, or in pixels if one of them exceeds 1. Raises NoFaceError if no face is detected or none
    is sure, ValueError for a choice that does not exist or an empty box.
    """
    if face is None or isinstance(face, (str, int)):
        faces = finder.find(picture)
        return choose_face(faces, "largest" if face is None else face), faces
    height, width = picture.shape[-2:]
    edges = [float(edge) for edge in face]
    shown = ", ".join(f"{edge:g}" for edge in edges)
    if len(edges) != 4 or not all(map(math.isfinite, edges)):
        raise ValueError(f"the face box ({shown}) must be four numbers: left, top, right, bottom")
    if max(edges) <= 1:
        if min(edges) < 0:
            raise ValueError(f"the face box ({shown}) is in fractions of the picture, which are 0 to 1")
        edges = [edge * length for edge, length in zip(edges, (width, height, width, height), strict=True)]
    elif any(0 < edge < 1 for edge in edges):
        raise ValueError(
            f"the face box ({shown}) mixes fractions of the picture (0 to 1) and pixels; state all four in one unit"
        )
    elif min(edges) < 0 or edges[2] > width + 1 or edges[3] > height + 1:
        raise ValueError(
            f"the face box ({shown}), in pixels, reaches beyond the picture of {width}x{height}; state left, top, "
            "right, bottom in the picture's own pixels, or as fractions of it (0 to 1)"
        )
    found = finder.mesh_in(picture, tuple(edges))
    return found, [found]


def find_faces(
    finder: FaceFinder, picture: Tensor, faces: Sequence[str | int | Sequence[float]] | None = None
) -> dict[str, Face]:
    """Several faces of a picture (1, 3, H, W), by letter: A, B, C, ... from the left.

    faces: which of them, as `find_face` takes one; None: all. Boxes are lettered in the order in which they are given,
    and cannot be mixed with other choices. Raises as `find_face`, and ValueError for a face that is chosen twice.
    """
    if faces is not None and not faces:
        raise ValueError("no face is chosen; name at least one")
    boxes = [face for face in faces or () if not isinstance(face, (str, int))]
    if boxes:
        if len(boxes) < len(faces):
            raise ValueError("faces are chosen by boxes or by letters, not by both; use one way for all")
        chosen = [find_face(finder, picture, box)[0] for box in boxes]
        names = dict(zip(LETTERS, chosen, strict=False))
    else:
        found = finder.find(picture)
        names = dict(zip(LETTERS, from_left(found), strict=False))
        if faces is not None:
            chosen = [choose_face(found, face) for face in faces]
            if len({id(face) for face in chosen}) < len(chosen):
                raise ValueError(f"a face is chosen twice in {', '.join(map(str, faces))}; name each once")
            names = {letter: face for letter, face in names.items() if any(face is one for one in chosen)}
    for number, (letter, one) in enumerate(names.items()):
        for other, two in list(names.items())[:number]:
            if _is_same(one, two):
                raise ValueError(f"faces {other} and {letter} are the same face of the picture; choose each once")
    return names


def _is_same(one: Face, other: Face) -> bool:
    """Whether two meshes lie on each other: their middles are nearer than a quarter of a face."""
    middles = [face.mesh[:, :2].mean(0) for face in (one, other)]
    return (middles[0] - middles[1]).norm().item() < 0.25 * min(one.height, other.height)


def fit_to_video(picture: Tensor, mesh: Tensor, *, long_side: int = LONG_SIDE) -> tuple[Tensor, Tensor]:
    """A picture (1, 3, H, W) in [-1, 1] or uint8 and its face mesh (..., 468, 3) -> both, in [-1, 1], downscaled if a
    side exceeds `long_side`, with even sides.

    Of uint8 pixels one channel at a time becomes float, since pictures may be large. An odd last row or column is
    repeated, since H.264 requires even sides.
    """
    height, width = picture.shape[-2:]
    scale = long_side / max(height, width)
    if scale < 1:
        size = tuple(max(2, 2 * round(length * scale / 2)) for length in (height, width))
        channels = (picture,) if picture.is_floating_point() else picture.split(1, dim=1)
        smaller = (
            F.interpolate(to_float(one), size=size, mode="bicubic", align_corners=False, antialias=True).clamp(-1, 1)
            for one in channels
        )
        picture = torch.cat(list(smaller), dim=1)
        mesh = mesh * mesh.new_tensor([size[1] / width, size[0] / height, scale])
    picture = to_float(picture)
    missing = picture.shape[-1] % 2, picture.shape[-2] % 2
    if any(missing):
        picture = F.pad(picture, (0, missing[0], 0, missing[1]), mode="replicate")
    return picture, mesh


def cut_square(picture: Tensor, mesh: Tensor) -> tuple[Tensor, Tensor]:
    """The head square (1, 3, S, S) in [-1, 1] at the picture's resolution, and the mesh in its pixels."""
    fit = head_square(mesh, width=picture.shape[-1], height=picture.shape[-2], size=1)
    return apply_fit(picture, replace(fit, size=fit.side)), mesh - mesh.new_tensor([fit.left, fit.top, 0])


def read_portrait(picture: Tensor, mesh: Tensor, config: ModelConfig) -> Portrait:
    """picture (1, 3, H, W) in [-1, 1], its face mesh (468, 3) in pixels -> Portrait for models with motion latents."""
    fit = head_square(mesh, width=picture.shape[-1], height=picture.shape[-2], size=config.image_size)
    own = mesh_in_square(mesh, fit)
    raw = portrait_latents(own, cells=config.latent_size, size=config.image_size)
    return Portrait(to_scaled(raw, config), apply_fit(picture, fit).clamp(-1, 1), fit, mesh=own)


def mesh_in_square(mesh: Tensor, fit: Fit) -> Tensor:
    """mesh (..., 468, 3) in pixels of the picture -> in pixels of the scaled square."""
    moved = mesh.float() - mesh.new_tensor([fit.left, fit.top, 0.0])
    return moved * (fit.size / fit.side)


def face_mask(portrait: Portrait) -> FaceMask:
    """Face mask over the portrait's square: the bounding box of its mesh with a margin."""
    flat, size = portrait.mesh[:, :2], portrait.fit.size
    room = ROOM * (flat[:, 1].amax() - flat[:, 1].amin())
    return box_mask(size, tuple(((flat.amin(0) - room) / size).tolist() + ((flat.amax(0) + room) / size).tolist()))
