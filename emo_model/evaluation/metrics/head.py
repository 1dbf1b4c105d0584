"""How fast the head turns, and whether it jerks where one clip ends and the next begins."""

from __future__ import annotations

import torch
from torch import Tensor

from ..drawn import head_speed_degrees
from ..instruments import Readings


def measure(said: Readings, *, clip_frames: int, fps: float) -> dict[str, float]:
    """speed: mean rotation of the smoothed pose in degrees per second; joins, inside: of the pose as read, between the last frame
    of a clip and the first of the next, and elsewhere (joins: nan in a video of one clip)."""
    between = speed(said, fps, smooth=False)  # (T - 1,)
    at_join = (torch.arange(1, len(said)) % clip_frames) == 0
    return {"speed": speed(said, fps, smooth=True).mean().item(), "joins": between[at_join].mean().item(),
            "inside": between[~at_join].mean().item()}


def speed(said: Readings, fps: float, *, smooth: bool) -> Tensor:
    """Degrees per second between frames; smooth: over three frames, against the reading's own noise."""
    pose = torch.stack([said.yaw, said.pitch, said.roll])
    if smooth:
        kernel = torch.tensor([0.25, 0.5, 0.25])
        pose = torch.nn.functional.conv1d(pose[:, None], kernel[None, None])[:, 0]
    return head_speed_degrees(*pose, fps)
