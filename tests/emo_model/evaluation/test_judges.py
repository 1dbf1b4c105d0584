import numpy as np
import pytest
import torch

from emo_model.evaluation.judges import ARCFACE, ARCFACE_POINTS, Clips, LipsAndVoice, Resemblance, aligned
from emo_model.inputs.face_geometry import mean_face


class _Numbers:
    """Lips and voice that look and sound like the number of their moment."""

    @staticmethod
    def _circle(number):
        angles = number[:, None] * torch.tensor([0.7, 1.3, 2.1])
        return torch.cat([angles.cos(), angles.sin(), torch.zeros(len(number), 1018)], 1)

    def lips(self, frames):
        return self._circle(frames[:, 0, 0].mean((1, 2)) / 2)

    def voice(self, mfcc):
        return self._circle(mfcc[:, 0, 0, 0])


@pytest.mark.parametrize(("fps", "late"), [(25.0, 0), (25.0, 3), (50.0, 3)])
def test_syncnet_finds_how_late_lips_are_at_any_frame_rate(fps, late):
    judge = LipsAndVoice(_Numbers(), torch.zeros(16000 * 3), fps=fps)
    judge.mfcc = torch.arange(300).div(4, rounding_mode="floor").float().expand(13, -1)
    mesh = mean_face() * 10 + torch.tensor([16.0, 16.0, 0.0])
    for number in range(round(2.6 * fps)):
        moment = int((number + 0.5) / fps * 25)
        frame = np.full((1, 32, 32, 3), max(0, 2 * (moment - late)), np.uint8)
        judge(frame, mesh[None], number)
    assert judge.found["syncnet_delay"] == 40 * late
    assert judge.found["syncnet_confidence"] > 0.5 and judge.found["syncnet_distance"] < 0.3


def test_faces_are_placed_on_arcfaces_template():
    mesh = torch.zeros(468, 3)
    spots = torch.tensor(ARCFACE) @ torch.tensor([[0.0, 1.6], [-1.6, 0.0]]) + torch.tensor([220.0, 30.0])  # turned
    frame = np.zeros((240, 240, 3), np.uint8)
    for points, (x, y) in zip(ARCFACE_POINTS, spots.tolist(), strict=True):
        mesh[list(points), :2] = torch.tensor([x, y])
        frame[round(y) - 3 : round(y) + 3, round(x) - 3 : round(x) + 3] = 255
    picture = aligned(frame[None], mesh[None])[0].mean(0)
    for x, y in ARCFACE:
        assert picture[round(y), round(x)] > 0.9
    assert picture.mean() < -0.9


def test_resemblance_is_1_with_the_first_frame_and_falls_for_another():
    class Network:
        def __call__(self, pictures):
            return torch.stack([pictures.mean((1, 2, 3)) > 0, pictures.mean((1, 2, 3)) <= 0], 1).float()

    mesh = (mean_face() * 20 + torch.tensor([32.0, 32.0, 0.0])).expand(4, -1, -1)
    frames = np.full((4, 64, 64, 3), 200, np.uint8)
    same, other = (Resemblance(Network(), None, every=1) for _ in range(2))
    same(frames, mesh, 0)
    assert same.found == {"fsim": 1.0}
    frames[2:] = 20
    other(frames, mesh, 0)
    assert other.found["fsim"] == pytest.approx(1 / 3)


def test_clips_of_16_frames_do_not_overlap():
    taken = []
    clips = Clips(taken.append)
    clips(
        np.arange(40, dtype=np.uint8)[:, None, None, None] * np.ones((1, 8, 8, 3), np.uint8), torch.zeros(40, 468, 3), 0
    )
    assert [tuple(clip.shape) for clip in taken] == [(1, 3, 16, 224, 224)] * 2
    assert taken[1][0, 0, :, 0, 0].tolist() == list(range(16, 32))
