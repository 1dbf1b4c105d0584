"""The report after a run: what is read from frames, and what is said not to be known."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from emo_model.inputs.face_geometry import mean_face
from emo_model.inputs.motion_latents import LOWER_LIP
from emo_model.outputs import run_report
from emo_model.outputs.run_report import LEAST, RunReport, WatchedFace
from emo_model.types import Fit

FIT = Fit(120, 90, 30, 10, 64, 64)
MESH = mean_face() * 20 + torch.tensor([60.0, 40.0, 0.0])


@pytest.fixture(autouse=True)
def no_judge(monkeypatch):
    def missing():
        raise ModuleNotFoundError("needs dlib")

    monkeypatch.setattr(run_report, "Likeness", missing)


class Finder:
    """Reads the mouth's opening from the first pixel; a face is lost where it is white."""

    def follow(self, pixels, start):
        value = (pixels[0, 0, 0, 0].item() + 1) / 2
        mesh = start.mesh.clone()
        mesh[LOWER_LIP, 1] += 10 * value
        return [SimpleNamespace(mesh=mesh, presence=0.0 if value > 0.99 else 0.9)]


def seen(openings, heard, *, every: int = 1) -> RunReport:
    """A report of frames whose mouths are so far open, 0 to 0.9."""
    still = np.zeros((90, 120, 3), np.uint8)
    report = RunReport(Finder(), still, {"A": WatchedFace(MESH, FIT, heard)}, fps=25.0, every=every)
    for value in openings:
        frame = still.copy()
        frame[0, 0] = round(255 * float(value))
        report.see(frame[None])
    return report


def voice(frames: int) -> torch.Tensor:
    return torch.rand(frames, generator=torch.Generator().manual_seed(0)) * 0.9


def test_a_mouth_that_follows_its_voice_correlates_with_it_and_not_with_that_of_a_second_later():
    heard = voice(200)
    face = seen(heard, heard).result["faces"]["A"]
    assert face["frames_read"] == 200
    assert face["mouth_r"] > 0.98
    assert abs(face["mouth_r_shifted"]) < 0.25
    late = seen(torch.cat([heard[25:], heard[:25]]), heard).result["faces"]["A"]
    assert late["mouth_r_shifted"] > 0.98 > 0.3 > abs(late["mouth_r"])


def test_one_of_so_many_frames_is_read_and_lost_faces_are_counted():
    heard = voice(200)
    assert seen(heard, heard, every=8).result["faces"]["A"]["frames_read"] == 25
    face = seen([1.0] * 5 + heard[5:].tolist(), heard).result["faces"]["A"]
    assert (face["frames_lost"], face["frames_read"]) == (5, 195)


@pytest.mark.parametrize(
    ("frames", "heard", "why"),
    [
        (200, None, "needs a voice"),
        (LEAST - 1, voice(200), "needs 12 frames"),
        (200, torch.zeros(200), "opens no mouth"),
    ],
)
def test_what_cannot_be_told_is_skipped_with_the_reason(frames, heard, why):
    report = seen(voice(frames), heard)
    face = report.result["faces"]["A"]
    assert face["mouth_r"].startswith("skipped: ") and why in face["mouth_r"]
    assert face["likeness"] == "skipped: needs dlib"
    assert "mouth against" not in report.line


def test_pixels_outside_of_the_head_square_that_differ_are_counted():
    still = np.zeros((90, 120, 3), np.uint8)
    report = RunReport(Finder(), still, {"A": WatchedFace(MESH, FIT)}, fps=25.0)
    frame = still.copy()
    frame[20:30, 40:50] = 9
    report.see(np.repeat(frame[None], 20, 0))
    assert report.result["changed_outside"] == 0
    frame[:, 0] = 9
    other = RunReport(Finder(), still, {"A": WatchedFace(MESH, FIT)}, fps=25.0)
    other.see(np.repeat(frame[None], 20, 0))
    assert other.result["changed_outside"] == 90
    assert "90 pixels changed" in other.line and "20 frames, 0.80 s" in other.line
