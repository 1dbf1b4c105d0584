"""Two threads share calls: each call is made once, in order where that matters, and none is lost."""

from __future__ import annotations

import threading

import pytest
import torch

from emo_model.outputs.shared_work import SharedWork, half_the_cores

HERE = threading.current_thread


def test_who_waits_makes_shared_calls_meanwhile():
    begun, waited = threading.Event(), threading.Event()
    with SharedWork() as work:
        long = work.submit(lambda: begun.set() or waited.wait(10) and HERE(), is_shared=False)
        begun.wait(10)
        assert work.finish(work.submit(lambda: waited.set() or HERE())) is threading.current_thread()
        assert work.finish(long) is work.helper


def test_calls_that_are_not_shared_are_made_by_the_helper_in_their_order():
    made = []
    with SharedWork() as work:
        for number in range(20):
            last = work.submit(lambda number=number: made.append((number, HERE())), is_shared=False)
        work.finish(last)
        assert made == [(number, work.helper) for number in range(20)]


def test_a_map_is_computed_by_both_threads_side_by_side_and_in_order():
    both = threading.Barrier(2)  # passed only if two threads are in the call at once
    with SharedWork() as work:
        assert work.map(lambda x: both.wait(10) is None or 10 * x, [1, 2]) == [10, 20]
        assert work.map(lambda x: 10 * x, [3]) == [30]


def test_urgent_calls_are_made_before_those_that_wait():
    made, begun, go_on = [], threading.Event(), threading.Event()
    with SharedWork() as work:
        work.submit(lambda: begun.set() or go_on.wait(10))
        begun.wait(10)
        work.submit(lambda: made.append("usual"), is_shared=False)
        work.submit(lambda: made.append("urgent"), is_urgent=True, is_shared=False)
        go_on.set()
    assert made == ["urgent", "usual"]


@pytest.mark.parametrize("is_shared", [True, False])
def test_an_exception_is_raised_where_the_result_is_wanted(is_shared):
    with SharedWork() as work, pytest.raises(ZeroDivisionError):
        work.finish(work.submit(lambda: 1 / 0, is_shared=is_shared))


def test_a_call_that_ctrl_c_interrupts_in_the_caller_is_made_again_by_the_helper():
    asked, begun, go_on = [], threading.Event(), threading.Event()

    def interrupted() -> str:
        asked.append(HERE())
        if len(asked) == 1:
            raise KeyboardInterrupt
        return "done"

    with SharedWork() as work:
        work.submit(lambda: begun.set() or go_on.wait(10), is_shared=False)  # keeps the helper busy
        begun.wait(10)
        result = work.submit(interrupted)
        with pytest.raises(KeyboardInterrupt):
            work.finish(result)
        go_on.set()
    assert result.result() == "done" and asked == [threading.current_thread(), work.helper]


def test_what_was_submitted_is_done_at_the_end_also_after_an_exception():
    made = []
    with pytest.raises(OSError), SharedWork() as work:
        for number in range(5):
            work.submit(made.append, number)
        raise OSError
    assert made == [0, 1, 2, 3, 4]


def test_both_threads_compute_on_half_of_the_cores():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(5)
        with half_the_cores("cpu"), SharedWork() as work:
            there = work.finish(work.submit(torch.get_num_threads, is_shared=False))
            assert (torch.get_num_threads(), there) == (2, 2)
        assert torch.get_num_threads() == 5
        torch.set_num_threads(1)
        with half_the_cores("cpu"):
            assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
