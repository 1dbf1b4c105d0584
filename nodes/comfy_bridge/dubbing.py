"""The first pass of dubbing in ComfyUI: progress, cancelling, and what it found."""

from __future__ import annotations

import time

from ...emo_model import talk
from ...emo_model.dubbing import DubbedVideo, read_video
from ...emo_model.inputs.video_frames import GivenFrames, VideoFrames
from .management import stop_if_cancelled
from .running import show, tell


def read_face(frames: VideoFrames | GivenFrames, which_face: str, *, hidden) -> DubbedVideo:
    """Find the face in every frame, with the built-in model; the node says how far it is. Raises as `read_video`."""
    shown_at = 0.0

    def on_frame(done: int) -> None:
        nonlocal shown_at
        stop_if_cancelled()
        if time.monotonic() - shown_at >= 1:
            shown_at = time.monotonic()
            show(hidden, f"Face read in {done} frames.")

    dubbed = read_video(talk.load(), frames, face=which_face, on_frame=on_frame)
    tell(hidden, " ".join([dubbed.summary, *dubbed.warnings]))
    return dubbed
