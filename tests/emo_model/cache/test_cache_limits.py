"""The limits of the clip cache come from the environment."""

from __future__ import annotations

import pytest

from emo_model.cache.folder import CacheLimits


def test_the_environment_sets_the_limits_and_the_defaults_hold_without_it(monkeypatch):
    monkeypatch.delenv("EMO_CACHE_GB", raising=False)
    monkeypatch.delenv("EMO_CACHE_DAYS", raising=False)
    assert CacheLimits.from_environment() == CacheLimits() == CacheLimits(max_gb=20, max_days=14)
    monkeypatch.setenv("EMO_CACHE_GB", "2.5")
    assert CacheLimits.from_environment() == CacheLimits(max_gb=2.5)
    monkeypatch.setenv("EMO_CACHE_DAYS", "0")
    assert CacheLimits.from_environment() == CacheLimits(max_gb=2.5, max_days=0)


@pytest.mark.parametrize("value", ["much", "-1", "nan"])
def test_a_limit_that_is_no_number_is_refused_by_name(monkeypatch, value):
    monkeypatch.setenv("EMO_CACHE_DAYS", value)
    with pytest.raises(ValueError, match=f"EMO_CACHE_DAYS is '{value}', but must be a number >= 0"):
        CacheLimits.from_environment()
