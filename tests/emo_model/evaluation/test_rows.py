import math

import pytest
import torch

from emo_model.evaluation.report import reaches, table
from emo_model.evaluation.rows import rows

ABOUT = {"fps": 25, "clip_frames": 12, "threads": 1}


def _signal(seed, frames=100):
    """Smooth, between 0 and about 0.3."""
    noise = torch.randn(frames + 8, generator=torch.Generator().manual_seed(seed))
    smooth = torch.nn.functional.avg_pool1d(noise[None], 9, stride=1)[0]
    return 0.15 + 0.12 * smooth / smooth.std()


def _made(records, ceilings, group="main"):
    return {row.key: row for row in rows({group: records}, ceilings, ABOUT)}


def _main(record, generated, true, count=4, **more):
    """`count` clips of generated(seed) against true(seed)."""
    records, ceilings = {}, {}
    for seed in range(count):
        clip, ceiling = record(
            generated={"opening": generated(seed)}, true={"opening": true(seed)}, truth={"opening": true(seed)}, **more
        )
        clip["scene"] = clip["signature"] = str(seed)
        records[f"main{seed}"], ceilings[str(seed)] = clip, ceiling
    return records, ceilings


def test_videos_like_the_ceiling_reach_all_of_it(record):
    made = _made(*_main(record, _signal, _signal))
    assert made["opening_share"].value == pytest.approx(1.0)
    assert made["amplitude"].value == pytest.approx(1.0)
    assert made["lag"].value == pytest.approx(0.0, abs=0.05)
    assert made["opening_worst"].value == pytest.approx(1.0, abs=1e-3)


def test_a_planted_lag_of_three_frames_is_found(record):
    made = _made(*_main(record, lambda seed: torch.roll(_signal(seed), 3), _signal))
    assert made["lag"].value == pytest.approx(3.0, abs=0.1)
    assert made["lag"].met is False


def test_a_frozen_video_has_no_amplitude_and_no_correlation(record):
    made = _made(*_main(record, lambda seed: torch.full((100,), 0.1), _signal))
    assert made["amplitude"].value < 1e-6 and made["opening_r"].value == 0
    assert made["opening_share"].met is False


def test_twice_the_movement_is_twice_the_amplitude(record):
    made = _made(*_main(record, lambda seed: 2 * _signal(seed), _signal))
    assert made["amplitude"].value == pytest.approx(2.0, rel=1e-3)


def test_another_voice_correlates_with_itself_and_not_with_the_truth(record):
    def noise(seed):
        return 0.1 * torch.rand(100, generator=torch.Generator().manual_seed(seed))

    records, ceilings = _main(record, noise, noise, count=16)
    control = {
        key: record_ | {"reading": records[f"main{(number + 8) % 16}"]["reading"], "voice_of": str((number + 8) % 16)}
        for number, (key, record_) in enumerate(records.items())
    }
    made = {row.key: row for row in rows({"main": records, "control": control}, ceilings, ABOUT)}
    assert abs(made["control_r"].value) < 0.1
    assert made["control_other_r"].value == pytest.approx(1.0, abs=1e-3)
    assert made["control_apart"].met


def test_closures_that_the_model_misses_are_missing(record):
    closure = torch.zeros(100)
    closure[10::10] = 1
    true = torch.where(closure > 0, 0.0, 0.2)
    for generated, share in ((torch.full((100,), 0.2), 0), (true, 1)):
        clip, ceiling = record(
            generated={"opening": generated}, true={"opening": true}, truth={"closure": closure, "opening": true}
        )
        assert _made({"main0": clip}, {"a": ceiling})["closures"].value == share


def test_a_mouth_left_open_in_a_pause_is_counted(record):
    silent, true = torch.zeros(100), _signal(0)
    silent[40:60], true[40:60] = 1, 0.0
    generated = true.clone()
    generated[55:60] = 0.2
    clip, ceiling = record(generated={"opening": generated}, true={"opening": true}, truth={"silent": silent}, held=[])
    assert _made({"pauses0": clip}, {"a": ceiling}, "pauses")["pauses_shut"].value == pytest.approx(0.75)


@pytest.mark.parametrize(("opening", "share"), [(0.06, 1), (0.09, 0)])
def test_a_mouth_is_shut_that_reads_as_one_at_rest_does_where_the_head_is_turned(record, opening, share):
    silent = (torch.arange(100) < 50).float()
    generated = {"opening": torch.full((100,), opening)}
    clip, ceiling = record(generated=generated, truth={"silent": silent}, held=[0.06] * 50)
    row = _made({"pauses0": clip}, {"a": ceiling}, "pauses")["pauses_shut"]
    assert row.value == share and row.ceiling == 1


def test_pauses_read_before_the_head_was_held_make_no_row(record):
    clip, ceiling = record(truth={"silent": torch.ones(100)})
    assert "pauses_shut" not in _made({"pauses0": clip}, {"a": ceiling}, "pauses")


def test_a_frame_that_folds_lowers_the_share_by_itself(record):
    clip, ceiling = record(folds=[0.5] * 99 + [-0.1])
    assert _made({"main0": clip}, {"a": ceiling})["unfolded"].value == pytest.approx(0.99)


def test_pictures_fail_for_their_reasons(record):
    good, _ = record(outside=0, identity=[0.1, 0.2])
    del good["scene"]
    folds = good | {"folds": [-0.2, 0.3]}
    stranger = good | {"identity": [0.2, 0.5]}
    pictures = {
        "a.png": good,
        "b.png": folds,
        "c.png": stranger,
        "d.png": {"refused": "No face found in it. Use another."},
    }
    made = {row.key: row for row in rows({"portraits": pictures}, {}, ABOUT)}
    assert made["passes"].value == pytest.approx(0.25)
    assert "c.png: likeness 0.50" in made["passes"].note and "d.png: No face found in it" in made["passes"].note
    assert made["identity_worst"].value == 0.5 and made["outside"].met


def test_a_group_that_was_skipped_says_what_it_needs():
    made = rows({"sung": {"skipped": {"signature": "", "reason": "give a folder as --sung"}}}, {}, ABOUT)
    assert math.isnan(made[0].value) and "give a folder as --sung" in table(made)


@pytest.mark.parametrize(
    ("value", "bar", "met"),
    [
        (0.95, ">= 0.93", True),
        (0.92, ">= 0.93", False),
        (1.2, "0.9 to 1.15", False),
        (-0.3, "size <= 0.5", True),
        (math.nan, ">= 1", None),
    ],
)
def test_bars(value, bar, met):
    assert reaches(value, bar) is met


def test_head_speeds_are_compared_from_the_lowest_to_the_highest(record):
    groups = {}
    for speed in (2.5, 25.0, 65.0):
        turn = torch.zeros(100, 3)
        turn[:, 0] = torch.deg2rad(torch.arange(100) * speed / 25)
        clip, _ = record(generated={"turn": turn})
        groups[f"speed {speed:g}"] = {"main0": clip}
    made = {row.key: row for row in rows(groups, {}, ABOUT)}
    assert made["head_speed"].value == pytest.approx(26, rel=0.02)
    assert made["head_speed_monotone"].met
