import pytest
import torch

from emo_model.evaluation.shuffled import Amount, permuted, run


def test_mouths_that_fit_their_own_voices_are_told_from_chance():
    table = torch.randn(24, 24, generator=torch.Generator().manual_seed(0)) * 0.2
    found = permuted(table + torch.eye(24), draws=2000)
    assert found.p == pytest.approx(1 / 2001) and found.own > found.others + 0.8


def test_mouths_that_fit_no_voice_have_a_p_like_any_other():
    values = [
        permuted(torch.randn(20, 20, generator=torch.Generator().manual_seed(seed)), draws=400).p for seed in range(40)
    ]
    assert 0.3 < sum(values) / len(values) < 0.7 and min(values) > 0.002


def test_too_few_clips_are_refused(tmp_path):
    with pytest.raises(ValueError, match="at least 20"):
        run(tmp_path, [], tmp_path, Amount(clips=8))
