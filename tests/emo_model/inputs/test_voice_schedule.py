"""Who speaks when: parsed, merged, and heard."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from emo_model.inputs.voice_schedule import FADE, VoiceSchedule, audible

TENTHS = st.integers(0, 600)
ENTRIES = st.lists(st.tuples(st.sampled_from("ABCD"), TENTHS, st.integers(1, 100)), min_size=1, max_size=8)


def test_intervals_may_overlap_and_come_in_any_order_and_on_lines_of_their_own():
    parsed = VoiceSchedule.parse("0.0-3.2 A; 3.0-7.5 B\n 9 - 10s a+C ;; 0:12.5-1:02 B; 63- A")
    assert parsed.letters == ("A", "B", "C")
    assert parsed.spans("A") == ((0, 3.2), (9, 10), (63, math.inf))
    assert parsed.spans("B") == ((3, 7.5), (12.5, 62)) and parsed.spans("C") == ((9, 10),) and parsed.spans("D") == ()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "the schedule is empty"),
        (" ;\n", "the schedule is empty"),
        ("0-3 A; x-4 B", "'x-4 B' at position 8"),
        ("0-3 A;\n  3,5-4 B", "'3,5-4 B' at position 10"),
        ("0-3", "'0-3' at position 1"),
        ("0-x A", "'0-x A' at position 1"),
        ("1-2 Anna", "'1-2 Anna' at position 1"),
        ("0-3 4", "'0-3 4' at position 1"),
        ("-1-3 A", "'-1-3 A' at position 1"),
        ("2-5 B; 3-3 A", "'3-3 A' at position 8 of the schedule ends at 3 s, not after its begin"),
        ("nan-3 A", "'nan-3 A' at position 1"),
    ],
)
def test_an_error_names_the_position_and_shows_what_to_write(text, says):
    with pytest.raises(ValueError) as error:
        VoiceSchedule.parse(text)
    assert says in str(error.value) and "0.0-3.2 A; 3.0-7.5 B" in str(error.value)


@given(ENTRIES)
@settings(max_examples=60, deadline=None)
def test_what_is_written_is_heard_and_nothing_else(entries):
    """By tenths of a second, against a plain table; spans are disjoint and in order."""
    text = "; ".join(f"{begin / 10:g}-{(begin + length) / 10:g} {letter}" for letter, begin, length in entries)
    parsed = VoiceSchedule.parse(text)
    for letter in "ABCD":
        said = torch.zeros(720, dtype=torch.bool)
        for name, begin, length in entries:
            if name == letter:
                said[begin : begin + length] = True
        spans = parsed.spans(letter)
        assert all(early[1] < late[0] for early, late in zip(spans, spans[1:], strict=False))
        heard = audible(spans, 0, 7200, 100).view(720, 10)
        assert torch.equal(heard.amax(1) > 0, said)
        middles = heard[:, 5]  # a tenth is longer than two fades
        assert torch.equal(middles == 1, said)


@given(ENTRIES, st.lists(st.integers(1, 400), min_size=1, max_size=5))
@settings(max_examples=30, deadline=None)
def test_blocks_are_heard_as_the_whole_is(entries, lengths):
    spans = VoiceSchedule(tuple((a, b / 10, (b + c) / 10) for a, b, c in entries)).spans("A")
    whole, position = audible(spans, 0, 8000, 100), 0
    for count in (*lengths, 8000 - sum(lengths)):
        assert torch.equal(audible(spans, position, count, 100), whole[position : position + count])
        position += count


def test_a_voice_fades_inside_its_interval():
    heard = audible(((1.0, 2.0),), 0, 48_000, 16_000)
    assert not heard[:16_000].any() and not heard[32_000:].any()
    inside = heard[16_000:32_000]
    fade = round(FADE * 16_000)
    assert (inside[fade:-fade] == 1).all() and (inside[:fade].diff() >= 0).all() and inside[:fade].diff().max() < 0.01
