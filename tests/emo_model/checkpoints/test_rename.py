from __future__ import annotations

import pytest

from emo_model.checkpoints.rename import Renaming, check_fit

TABLE = Renaming((("net.{block}.inner.{i}.{rest}", "{block}.parts.{i}.{rest}"), ("head.{rest}", "out.{rest}")))


def test_a_rule_is_read_both_ways():
    for theirs, ours in (("net.down.2.inner.1.to_q.weight", "down.2.parts.1.to_q.weight"), ("head.bias", "out.bias")):
        assert TABLE.to_ours(theirs) == ours
        assert TABLE.to_theirs(ours) == theirs


def test_a_letter_is_a_number_and_a_key_without_rule_has_no_name():
    assert TABLE.to_ours("net.down.inner.x.weight") is None
    assert TABLE.to_theirs("elsewhere") is None


@pytest.mark.parametrize(
    "found, said",
    [
        ({"a": (2,)}, "1 missing (b)"),
        ({"a": (2,), "b": (3,), "c": ()}, "1 left over (c)"),
        ({"a": (2,), "b": (4, 1)}, "1 of another shape (b 4x1 for 3)"),
    ],
)
def test_what_does_not_fit_is_listed(found, said):
    with pytest.raises(ValueError, match="net.pth is not a net that fits") as raised:
        check_fit(found, {"a": (2,), "b": (3,)}, file="net.pth", what="a net")
    assert said in str(raised.value)


def test_what_fits_passes():
    check_fit({"a": [2], "b": (3,)}, {"b": (3,), "a": (2,)}, file="net.pth", what="a net")
