"""EMO Dub Video: the lips of an existing video follow another voice."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from comfy_api.latest import InputImpl, io

from ..emo_model.inputs.faces import CHOICES
from ..emo_model.inputs.video_frames import GivenFrames, VideoFrames
from ..emo_model.outputs.video import DUBBED
from . import comfy_bridge, conversions, shipped
from .schemas import advanced, schema
from .widgets import QUALITIES, prefix_input, quality_input, written

BLOCK = 8  # frames that are written at a time


class EmoDubVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="EmoDubVideo",
            display_name="EMO Dub Video",
            description="Lip sync for an existing video: the mouth follows the voice, everything else stays as it was "
            "filmed. Runs on the CPU; memory does not grow with the length.",
            inputs=[
                io.Video.Input(
                    "video",
                    tooltip="A video with a face, at any size and frame rate, for example from core's Load Video.",
                ),
                quality_input(),
                prefix_input("video/EMO_dub"),
                io.Audio.Input(
                    "voice",
                    optional=True,
                    tooltip="Speech or singing, from the first frame on; it becomes the soundtrack. Shorter than the "
                    "video: the mouth rests. Longer: the last frame is held. Not connected: the voice that ships with "
                    "this pack.",
                ),
                io.Combo.Input(
                    "which_face",
                    options=list(CHOICES),
                    default=CHOICES[0],
                    optional=True,
                    tooltip="Whose mouth, if several people are seen; chosen again after every cut.",
                ),
                advanced(
                    io.Float.Input(
                        "strength",
                        default=1.0,
                        min=0.0,
                        max=2.0,
                        step=0.05,
                        optional=True,
                        tooltip="How far the mouth moves; 1 as the voice says, 0 keeps it shut.",
                    )
                ),
            ],
            outputs=[io.Video.Output(display_name="video", tooltip="The file that was written, for core's nodes.")],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo, io.Hidden.unique_id],
            is_output_node=True,
            not_idempotent=True,
        )

    @classmethod
    def execute(
        cls, video, quality: str, filename_prefix: str, voice=None, which_face: str = CHOICES[0], strength: float = 1.0
    ) -> io.NodeOutput:
        conversions.check_option(which_face, CHOICES, "a face")
        conversions.check_option(quality, QUALITIES, "a quality")
        sound = conversions.one_sound(shipped.voice() if voice is None else voice, name="voice")
        shown = _frames_of(video)
        dubbed = comfy_bridge.read_face(shown, which_face, hidden=cls.hidden)
        count = dubbed.count(sound[0].shape[1] / sound[1])
        progress = comfy_bridge.Progress(count)

        def blocks() -> Iterator[tuple[np.ndarray, list]]:
            times, pictures = [], []
            for done, (seconds, picture) in enumerate(dubbed.frames(sound, strength=strength), start=1):
                times.append(seconds)
                pictures.append(picture)
                progress.update(done)
                if len(times) == BLOCK or done == count:
                    yield np.stack(pictures), times
                    times, pictures = [], []

        path, subfolder = comfy_bridge.write_video(
            blocks(),
            frames=count,
            prefix=conversions.playable_prefix(filename_prefix),
            fps=float(shown.rate),
            audio=sound,
            quality=QUALITIES[quality],
            codec="aac",
            hidden=cls.hidden,
            tick=shown.tick,
            comment=DUBBED,
        )
        return written(path, subfolder)


def _frames_of(video) -> VideoFrames | GivenFrames:
    """The frames of a VIDEO, from its file if it has one."""
    if isinstance(video, InputImpl.VideoFromComponents):
        parts = video.get_components()
        return GivenFrames(
            lambda n: conversions.frame_bytes(parts.images[n : n + 1])[0], len(parts.images), parts.frame_rate
        )
    start, duration = video.get_active_trim_window() if hasattr(video, "get_active_trim_window") else (0.0, 0.0)
    return VideoFrames(video.get_stream_source(), since=start, until=start + duration if duration else None)
