"""EMO Dub Video in ComfyUI: a VIDEO from a file or from memory in, a file out; what cannot be dubbed is refused."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest
import torch

FRAMES = 5


@pytest.fixture
def voice() -> dict:
    time = torch.arange(3_200) / 16_000
    return {"waveform": 0.1 * torch.sin(2 * torch.pi * 220 * time)[None, None], "sample_rate": 16_000}


def settings(**changed) -> dict:
    return {"quality": "high", "filename_prefix": "video/dub", "which_face": "largest", "strength": 1.0, **changed}


def film(portrait, count: int = FRAMES):
    """A VIDEO in memory: the portrait, at 10 frames per second."""
    from comfy_api.latest import InputImpl, Types

    images = portrait.repeat(count, 1, 1, 1)
    return InputImpl.VideoFromComponents(Types.VideoComponents(images=images, audio=None, frame_rate=Fraction(10)))


def file_of(pack, portrait, path, count: int = FRAMES):
    from comfy_api.latest import InputImpl

    writer = pack["emo_model.outputs.video"].VideoWriter
    frames = pack["nodes.conversions"].frame_bytes(portrait).repeat(count, 0)
    with writer(path, fps=10, width=frames.shape[2], height=frames.shape[1]) as video:
        video.write(frames)
    return InputImpl.VideoFromFile(str(path))


def read(video) -> tuple[np.ndarray, list[float], str]:
    with av.open(video.get_stream_source()) as container:
        frames = list(container.decode(video=0))
        times, comment = [frame.time for frame in frames], container.metadata["comment"]
        return np.stack([frame.to_ndarray(format="rgb24") for frame in frames]), times, comment


@pytest.mark.parametrize("kind", ["file", "memory"])
def test_a_video_is_dubbed_frame_for_frame(pack, built_in, portrait, voice, tmp_path, kind):
    video = film(portrait) if kind == "memory" else file_of(pack, portrait, tmp_path / "film.mp4")
    (out,) = pack.run("EmoDubVideo", video=video, voice=voice, **settings()).result
    frames, times, comment = read(out)
    assert frames.shape == (FRAMES, 220, 260, 3)
    assert times == pytest.approx([n / 10 for n in range(FRAMES)])
    assert comment.startswith("Dubbed")


def test_a_video_without_a_face_is_refused(pack, built_in, voice):
    grey = torch.full((1, 96, 96, 3), 0.5)
    with pytest.raises(ValueError, match="No face was detected in the 5 frames"):
        pack.run("EmoDubVideo", video=film(grey), voice=voice, **settings())


def test_values_from_the_http_api_are_checked_before_the_video_is_read(pack):
    for wrong, says in (({"which_face": "nobody"}, "'nobody' is not a face"), ({"quality": "huge"}, "'huge' is not a")):
        with pytest.raises(ValueError, match=says):
            pack.run("EmoDubVideo", video=None, **{**settings(), **wrong})
