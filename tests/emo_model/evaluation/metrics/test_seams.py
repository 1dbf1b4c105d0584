import math

import pytest
import torch

from emo_model.evaluation.metrics import seams


def moving(frames):
    """A video that brightens by one grey level a frame, and its latents by 0.1."""
    steps = torch.arange(frames, dtype=torch.float32)[:, None, None, None]
    return (steps / 127.5 - 0.5).expand(-1, 3, 8, 8).clone(), (0.1 * steps).expand(-1, 4, 2, 2).clone()


def test_borders_are_where_clips_begin():
    assert seams.borders(37, 12) == [12, 24, 36] and seams.borders(12, 12) == []


def test_a_video_that_moves_steadily_has_no_seams(still_readings):
    pictures, latents = moving(24)
    found = seams.measure(seams.changes(pictures, latents, still_readings(24), fps=25), {"borders": seams.borders(24, 12)})
    for kind in ("picture", "latents"):
        assert found[kind]["borders"] == pytest.approx(found[kind]["inside"], rel=1e-3)
    assert found["picture"]["inside"] == pytest.approx(1, rel=1e-3) and found["latents"]["inside"] == pytest.approx(0.1, rel=1e-3)


def test_a_planted_jump_is_found_where_it_is_and_nowhere_else(still_readings):
    pictures, latents = moving(36)
    pictures[24:] += 10 / 127.5
    latents[24:] += 1
    turned = (torch.arange(36) >= 24) * math.radians(3)
    said = still_readings(36, yaw=turned, opening=(torch.arange(36) >= 24) * 0.5)
    found = seams.measure(seams.changes(pictures, latents, said, fps=25), {"borders": [12], "middle": [24]})
    assert found["picture"]["middle"] == pytest.approx(11, rel=1e-3) and found["picture"]["borders"] == pytest.approx(1, rel=1e-3)
    assert found["latents"]["middle"] == pytest.approx(1.1, rel=1e-3)
    assert found["head"] == pytest.approx({"borders": 0, "middle": 75, "inside": 0}, abs=0.05)
    assert found["opening"] == pytest.approx({"borders": 0, "middle": 0.5, "inside": 0})
    assert found["colour"]["middle"] > 5 * found["colour"]["inside"]
