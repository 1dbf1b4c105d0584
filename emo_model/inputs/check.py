"""What a portrait's face mesh and pixels say about the video before it is made, one line each.

Nothing here refuses a picture; `faces.choose_face` does, where no face is found.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .face_geometry import (
    LEFT_EYE_LOWER,
    LEFT_EYE_UPPER,
    LOWER_LIP_INNER,
    OVAL,
    RIGHT_EYE_LOWER,
    RIGHT_EYE_UPPER,
    UPPER_LIP_INNER,
)
from .faces import Face

FOREHEAD, CHIN, LEFT_CHEEK, RIGHT_CHEEK = 10, 152, 234, 454
SMALL, TURNED, OPEN, SHUT, DARK, BRIGHT, ROOM = 100, 22.0, 0.035, 0.11, 0.16, 0.9, 0.2
"""Limits of `Check`, see `lines`: pixels, degrees, shares of the face's height, of an eye's width, luminance 0..1."""


@dataclass(frozen=True)
class Check:
    """What was measured on the chosen face.

    faces: how many were found; height: forehead to chin in pixels; yaw: degrees, positive if the nose points to the
    right of the picture; opening: of the inner lips, in face heights; lids: opening of the eyes in their widths, the
    wider one; luminance: mean over the face, 0..1; room_above, room_below: between face and edge of the picture, in
    face heights.
    """

    faces: int
    height: float
    yaw: float
    opening: float
    lids: float
    luminance: float
    room_above: float
    room_below: float

    @property
    def lines(self) -> list[str]:
        """One line per thing that will show in the video, and what helps; empty for a good portrait."""
        found = []
        if self.height < SMALL:
            found.append(
                f"The face is small, {self.height:.0f} pixels high: the mouth will be coarse. {SMALL} or more look "
                "better."
            )
        if abs(self.yaw) > TURNED:
            side = "right" if self.yaw > 0 else "left"
            found.append(
                f"The head is turned by {abs(self.yaw):.0f} degrees to the {side} of the picture: the far corner of "
                f"the mouth is guessed. Up to {TURNED:.0f} look best."
            )
        if self.opening > OPEN:
            found.append(
                f"The mouth is open, by {self.opening:.0%} of the face's height: the teeth of the picture stay at its "
                "edges when it shuts. A shut mouth looks best."
            )
        if self.lids < SHUT:
            found.append("The eyes are shut or nearly so: they stay shut. Take a picture with open eyes.")
        if self.luminance < DARK:
            found.append(
                f"The face is dark ({self.luminance:.0%} of white): the painted mouth stands out. Brighten it."
            )
        if self.luminance > BRIGHT:
            found.append(f"The face is overexposed ({self.luminance:.0%} of white): its movements hardly show.")
        if self.room_below < 0:
            found.append("The chin is cut off by the picture's lower edge: the jaw cannot open. Use a wider picture.")
        if self.room_above < ROOM:
            found.append(
                "There is little room above the forehead: when the head moves down, the picture's mirror image shows "
                "above it. More room looks better."
            )
        return found

    @property
    def summary(self) -> str:
        """Everything that was measured, in one line."""
        what = "1 face" if self.faces == 1 else f"{self.faces} faces"
        return (
            f"{what}; {self.height:.0f} pixels from forehead to chin, turned by {self.yaw:+.0f} degrees, mouth open by "
            f"{self.opening:.1%} of that, luminance {self.luminance:.0%}."
        )


def check_portrait(picture: Tensor, face: Face, faces: Sequence[Face] = ()) -> Check:
    """picture (1, 3, H, W) in [-1, 1]; face: the chosen one, its mesh in the picture's pixels; faces: all found."""
    mesh, (high, wide) = face.mesh.float(), picture.shape[-2:]
    height = face.height
    across = mesh[RIGHT_CHEEK] - mesh[LEFT_CHEEK]
    top, bottom = mesh[list(OVAL), 1].amin().item(), mesh[list(OVAL), 1].amax().item()
    x0, y0 = (int(max(0, edge)) for edge in mesh[list(OVAL), :2].amin(0))
    x1, y1 = (int(min(limit, edge + 1)) for limit, edge in zip((wide, high), mesh[list(OVAL), :2].amax(0), strict=True))
    weights = torch.tensor([0.299, 0.587, 0.114]).reshape(3, 1, 1)
    inside = picture[0, :, y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)].float().cpu()
    eyes = ((LEFT_EYE_UPPER, LEFT_EYE_LOWER), (RIGHT_EYE_UPPER, RIGHT_EYE_LOWER))
    return Check(
        faces=max(1, sum(one.is_sure for one in faces)),
        height=height,
        yaw=math.degrees(math.atan2(across[2].item(), math.hypot(across[0].item(), across[1].item()))),
        opening=_opening(mesh, UPPER_LIP_INNER, LOWER_LIP_INNER) / height,
        lids=max(
            _opening(mesh, upper, lower) / (mesh[upper[-1], :2] - mesh[upper[0], :2]).norm().item()
            for upper, lower in eyes
        ),
        luminance=((inside * weights).sum(0).mean().item() + 1) / 2,
        room_above=top / height,
        room_below=(high - bottom) / height,
    )


def _opening(mesh: Tensor, upper: tuple[int, ...], lower: tuple[int, ...]) -> float:
    """Distance in pixels between the middles of two rows of the mesh."""
    middle = len(upper) // 2
    return (mesh[upper[middle], :2] - mesh[lower[middle], :2]).norm().item()
