"""Properties of any input, with fixed seeds; `python tests/fuzz.py --minutes 10` looks further."""

from __future__ import annotations

import pytest

pytest.importorskip("hypothesis", reason="hypothesis is for development: pip install -r requirements-dev.txt")

from hypothesis import HealthCheck, given, settings  # noqa: E402
from properties import CORPUS, PROPERTIES, Property  # noqa: E402

BY_NAME = {one.name: one for one in PROPERTIES}


@pytest.mark.parametrize("one", PROPERTIES, ids=lambda one: one.name)
def test_any_input_is_read_or_refused_in_a_sentence(one: Property):
    count = 100 if one.name in ("config", "exif", "wav") else 25

    @settings(
        max_examples=count, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
    )
    @given(one.inputs)
    def holds(data: bytes) -> None:
        one.check(data)

    holds()


@pytest.mark.parametrize("path", sorted(CORPUS.glob("*")), ids=lambda path: path.name)
def test_what_once_failed_holds(path):
    BY_NAME[path.name.rsplit("-", 1)[0]].check(path.read_bytes())
