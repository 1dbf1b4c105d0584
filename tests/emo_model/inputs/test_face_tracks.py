"""One face through a video: it is followed, lost, found again after a cut, and smoothed over time."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from emo_model.inputs.face_tracks import FaceTracker, FaceTracks, gaussian
from emo_model.inputs.media import to_uint8
from emo_model.inputs.portrait import fit_to_video


@pytest.fixture(scope="module")
def face(photograph) -> np.ndarray:
    """The photograph at 160 pixels, (160, 160, 3) uint8."""
    return to_uint8(fit_to_video(photograph.picture, photograph.mesh, long_side=160)[0])[0]


def at(face: np.ndarray, x: int, y: int, brightness: int = 110) -> np.ndarray:
    frame = np.full((220, 300, 3), brightness, np.uint8)
    frame[y : y + 160, x : x + 160] = face
    return frame


def test_a_face_is_followed_to_where_it_goes(face, photograph):
    tracker = FaceTracker(photograph.finder)
    first, last = (tracker.read(at(face, x, 20))[0] for x in (20, 32))
    torch.testing.assert_close((last - first)[:, :2].mean(0), torch.tensor([12.0, 0.0]), atol=1.0, rtol=0)


def test_a_cut_begins_a_scene_in_which_the_face_is_searched_anew(face, photograph):
    tracker = FaceTracker(photograph.finder)
    assert tracker.read(at(face, 10, 20))[1]  # the first frame is a scene's
    assert not tracker.read(at(face, 12, 20))[1]
    mesh, is_cut = tracker.read(at(face, 130, 50, brightness=230))
    assert is_cut
    assert mesh[4, 0] > 160


def test_without_a_face_there_is_no_mesh(photograph):
    noise = np.random.default_rng(0).integers(0, 255, (200, 200, 3), np.uint8)
    assert FaceTracker(photograph.finder).read(noise)[0] is None


def test_a_face_that_does_not_exist_leaves_the_frame_alone(face, photograph):
    assert FaceTracker(photograph.finder, 2).read(at(face, 20, 20))[0] is None


def tracks_of(meshes: list[torch.Tensor | None], cuts: tuple[int, ...] = ()) -> FaceTracks:
    tracks = FaceTracks()
    for number, mesh in enumerate(meshes):
        tracks.append(mesh, is_cut=number in (0, *cuts))
    return tracks


def test_runs_end_at_gaps_and_cuts(photograph):
    mesh = photograph.mesh
    tracks = tracks_of([mesh, mesh, None, mesh, mesh, mesh], cuts=(4,))
    assert tracks.runs() == [(0, 2), (3, 4), (4, 6)]
    assert list(tracks.shots) == [0, 0, 0, 0, 1, 1]


def test_meshes_come_back_as_they_were_read(photograph):
    tracks = tracks_of([photograph.mesh + number for number in range(3)])
    torch.testing.assert_close(tracks.meshes(1, 3), torch.stack([photograph.mesh + 1, photograph.mesh + 2]))


def test_smoothing_takes_trembling_and_keeps_a_steady_motion(photograph):
    noise = torch.randn(21, 468, 3, generator=torch.Generator().manual_seed(0))
    path = torch.arange(21.0)[:, None, None] * torch.tensor([3.0, 0.0, 0.0])
    tracks = tracks_of(list(photograph.mesh + path + noise))
    found = tracks.smoothed(4, 17, (0, 21)) - (photograph.mesh + path[4:17])
    shake = found.diff(n=2, dim=0).norm(dim=-1).mean() / noise[4:17].diff(n=2, dim=0).norm(dim=-1).mean()
    assert shake < 0.35
    assert found.mean((0, 1)).abs().max() < 0.3


def test_smoothing_frame_by_frame_is_smoothing_them_together(photograph):
    noise = torch.randn(16, 468, 3, generator=torch.Generator().manual_seed(1))
    tracks = tracks_of(list(photograph.mesh + noise))
    one_by_one = torch.cat([tracks.smoothed(number, number + 1, (0, 16)) for number in range(6, 9)])
    torch.testing.assert_close(one_by_one, tracks.smoothed(6, 9, (0, 16)), atol=0.02, rtol=0)


def test_a_constant_stays_constant():
    torch.testing.assert_close(gaussian(torch.full((5, 2), 3.0), 1.0), torch.full((5, 2), 3.0))
