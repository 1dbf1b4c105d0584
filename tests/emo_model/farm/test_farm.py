"""Servers that die, come back, forget, refuse and break off; the videos are right, and each is made once."""

from __future__ import annotations

import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from fake_comfyui import FakeComfyUI, video_of

from emo_model.farm.farm import OutputsTaken, find_video
from emo_model.farm.journal import read_events

from .conftest import jobs_of, many


def check_videos(folder: Path, count: int) -> None:
    """Each is that of its row, and nothing else lies beside them."""
    for n in range(count):
        expected = video_of(b"bytes of anna.jpg", b"bytes of hello.wav", n)
        assert (folder / "out" / f"v{n}.mp4").read_bytes() == expected
    names = {path.name for path in (folder / "out").iterdir()}
    assert names == {*(f"v{n}.mp4" for n in range(count)), "farm.jsonl", "farm.jsonl.lock"}


def events(folder: Path, kind: str) -> list[dict]:
    return [event for event in read_events(folder / "out" / "farm.jsonl") if event["event"] == kind]


def when(condition, act, timeout: float = 10) -> threading.Thread:
    """In a thread: act as soon as the condition holds."""

    def watch():
        end = time.monotonic() + timeout
        while not condition() and time.monotonic() < end:
            time.sleep(0.002)
        act()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


def test_two_servers_share_the_jobs_and_each_is_rendered_once(folder, farm):
    with FakeComfyUI() as one, FakeComfyUI() as two:
        assert farm(jobs_of(folder, many(12)), [one, two]).run()
        check_videos(folder, 12)
        assert 3 <= len(one.rendered) <= 9 and len({*one.rendered, *two.rendered}) == 12
        assert len(one.rendered) + len(two.rendered) == 12
        assert len(one.inputs) == len(two.inputs) == 2  # each file is uploaded once to each


def test_files_of_the_same_name_in_two_folders_are_not_mixed(folder, farm):
    for name in ("a", "b"):
        (folder / name).mkdir()
        (folder / name / "face.jpg").write_bytes(name.encode())
    table = "portrait,voice,out\na/face.jpg,hello.wav,a\nb/face.jpg,hello.wav,b\n"
    with FakeComfyUI() as server:
        assert farm(jobs_of(folder, table), [server]).run()
    for name in ("a", "b"):
        made = (folder / "out" / f"{name}.mp4").read_bytes()
        assert made == video_of(name.encode(), b"bytes of hello.wav", 0)


def test_the_server_with_the_shorter_queue_gets_the_job(folder, farm):
    with FakeComfyUI(seconds=0.3) as busy, FakeComfyUI(seconds=0.05) as free:
        jobs_of(folder, many(1))
        busy.inputs |= {"x.jpg": b"x", "y.wav": b"y"}
        others = {"1": {"class_type": "EmoTalkingPortrait", "inputs": {"image": "x.jpg", "audio": "y.wav", "seed": 1}}}
        for n in range(4):
            extra = {"emo_farm": {"prompt": f"other{n}", "job": "other"}}
            busy._queue({"prompt": others, "prompt_id": f"other{n}", "extra_data": extra})
        assert farm(jobs_of(folder, many(4)), [busy, free]).run()
        assert len(free.rendered) == 4


def test_a_job_that_only_waits_is_taken_back_for_an_idle_server(folder, farm):
    with FakeComfyUI(seconds=1.0) as slow, FakeComfyUI(seconds=0.02) as quick:
        begin = time.monotonic()
        assert farm(jobs_of(folder, many(4)), [slow, quick]).run()
        assert time.monotonic() - begin < 1.9  # the slow one rendered one of them, not two
        check_videos(folder, 4)
        assert len(slow.rendered) == 1 and len(quick.rendered) == 3


def test_a_server_that_dies_loses_nothing_and_what_it_had_goes_to_others(folder, farm):
    with FakeComfyUI() as one, FakeComfyUI() as two:
        jobs = jobs_of(folder, many(10))
        when(lambda: two.running and len(two.rendered) == 1, two.die)
        assert farm(jobs, [one, two]).run()
    check_videos(folder, 10)
    assert events(folder, "released") and not events(folder, "gave up")


def test_a_server_that_comes_back_with_nothing_gets_its_jobs_anew(folder, farm):
    with FakeComfyUI() as server:

        def restart():
            server.die()
            time.sleep(0.1)
            server.inputs.clear()
            server.start()

        when(lambda: server.running and len(server.rendered) == 1, restart)
        assert farm(jobs_of(folder, many(4)), [server], patience=60).run()
    check_videos(folder, 4)
    assert events(folder, "lost") and not events(folder, "released")


def test_what_a_server_rendered_while_the_network_was_away_is_used(folder, farm):
    with FakeComfyUI(seconds=0.2) as server:

        def cut():
            server.vanish()
            time.sleep(0.6)
            server.appear()

        when(lambda: server.running, cut)
        assert farm(jobs_of(folder, many(2)), [server], patience=0.2).run()
        check_videos(folder, 2)
        assert events(folder, "released") and len(server.rendered) == 2


def test_what_a_returned_server_still_has_is_cancelled_when_another_has_begun(folder, farm):
    with FakeComfyUI(seconds=0.4) as gone, FakeComfyUI(seconds=0.4) as other:
        other.faults["/queue"] = [500] * 4  # so that the first one gets the job

        def cut():
            gone.seconds = 30
            gone.vanish()
            when(lambda: other.running, gone.appear)

        gone.seconds = 30
        when(lambda: gone.running, cut)
        assert farm(jobs_of(folder, many(1)), [gone, other], patience=0.1, backoff=0.05).run()
        end = time.monotonic() + 1
        while gone.running and time.monotonic() < end:
            time.sleep(0.01)
        check_videos(folder, 1)
        assert gone.rendered == [] and len(other.rendered) == 1 and not gone.running


@pytest.mark.parametrize(
    "path, faults",
    [
        ("/prompt", [500, 503, "drop"]),
        ("/prompt", ["drop after", "drop after"]),
        ("/queue", [500, "drop", "cut", 502]),
        ("/history", [500, "drop", "cut"]),
        ("/view", [500, "drop", "cut", "cut"]),
        ("/upload", [500, "drop", "drop after"]),
        ("/view", [0.3]),
    ],
    ids=str,
)
def test_broken_answers_cost_time_and_no_rendering_twice(folder, farm, path, faults):
    with FakeComfyUI() as server:
        server.faults[path] = list(faults)
        assert farm(jobs_of(folder, many(2)), [server], patience=60).run()
        assert server.faults[path] == [] and Counter(server.rendered).most_common(1)[0][1] == 1
    check_videos(folder, 2)


def test_a_server_that_makes_its_own_ids_is_understood_also_when_its_answer_is_lost(folder, farm):
    with FakeComfyUI(own_ids=True) as server:
        server.faults["/prompt"] = ["drop after"]
        assert farm(jobs_of(folder, many(3)), [server]).run()
        assert len(server.rendered) == 3
    check_videos(folder, 3)


def test_what_is_wrong_with_a_job_is_said_once_and_not_tried_again(folder, farm):
    table = (
        f"portrait,voice,out,seed\nno_face.jpg,hello.wav,a,1\nanna.jpg,hello.wav,b,{2**64}\nanna.jpg,hello.wav,v0,0\n"
    )
    with FakeComfyUI() as one, FakeComfyUI() as two:
        made = farm(jobs_of(folder, table), [one, two])
        assert not made.run()
        assert [work.state for work in made.works] == ["failed", "failed", "done"]
        assert "no face" in made.works[0].reason and "Value too big" in made.works[1].reason
        sent = [event["job"] for event in events(folder, "sent")]  # one that only waits may be sent to an idle server
        assert [sent.count(work.job.key) for work in made.works[:1]] == [1] and made.works[2].job.key in sent
        later = farm(jobs_of(folder, table), [one, two])
        assert not later.run() and len(events(folder, "sent")) == len(sent)
        assert "in an earlier run" in later.works[0].reason
        assert not farm(jobs_of(folder, table), [one, two], again=True).run()
        assert len(events(folder, "sent")) >= len(sent) + 2


def test_a_server_that_lacks_a_node_is_passed_over(folder, farm):
    with FakeComfyUI() as without, FakeComfyUI() as good:
        without.missing = {"EmoTalkingPortrait"}
        assert farm(jobs_of(folder, many(4)), [without, good]).run()
        good.missing = {"EmoTalkingPortrait"}
        table = many(5)
        made = farm(jobs_of(folder, table), [without, good])
        assert not made.run() and "EmoTalkingPortrait" in made.works[4].reason
        good.missing = set()
        assert farm(jobs_of(folder, table), [without, good]).run()  # a server can be repaired
    check_videos(folder, 5)


def test_out_of_memory_is_tried_again_on_another_server_and_then_given_up(folder, farm):
    table = "portrait,voice,out\nbig.jpg,hello.wav,a\n"
    with FakeComfyUI() as one, FakeComfyUI() as two:
        made = farm(jobs_of(folder, table), [one, two], tries=3)
        assert not made.run() and "3 tries" in made.works[0].reason
        assert len({event["server"] for event in events(folder, "sent")}) == 2


def test_a_broken_server_does_not_use_up_the_jobs(folder, farm):
    with FakeComfyUI(seconds=0.001) as broken, FakeComfyUI(seconds=0.1) as good:
        broken.broken = True
        assert farm(jobs_of(folder, many(8)), [broken, good]).run()
    check_videos(folder, 8)


def test_a_missing_output_on_the_server_is_a_fault_of_the_server(folder, farm):
    with FakeComfyUI() as server:
        server.faults["/view"] = [404]
        assert farm(jobs_of(folder, many(1)), [server]).run()
        assert len(server.rendered) == 2
    check_videos(folder, 1)


def test_the_same_inputs_in_two_rows_are_not_lost_in_the_servers_cache(folder, farm):
    table = "portrait,voice,out,seed\nanna.jpg,hello.wav,v0,0\nanna.jpg,hello.wav,v1,0\n"
    with FakeComfyUI() as server:
        assert farm(jobs_of(folder, table), [server]).run()
        assert len(server.rendered) == 2
    assert (folder / "out" / "v0.mp4").read_bytes() == (folder / "out" / "v1.mp4").read_bytes()


def test_errors_name_the_file_here_and_not_the_one_on_the_server(folder, farm):
    with FakeComfyUI() as server:
        server.error = "cannot identify '/srv/input/{image}'"
        made = farm(jobs_of(folder, "portrait,voice\nno_face.jpg,hello.wav\n"), [server])
        assert not made.run() and f"cannot identify '{folder / 'no_face.jpg'}'" in made.works[0].reason


def test_without_any_server_it_stops_and_the_next_run_goes_on(folder, farm):
    jobs = jobs_of(folder, many(3))
    with FakeComfyUI() as server:
        when(lambda: len(server.rendered) == 1, server.die)
        made = farm(jobs, [server], give_up=0.5)
        assert not made.run() and "no server answered" in made.stopping
        server.start()
        assert farm(jobs, [server]).run()
    check_videos(folder, 3)


def test_outputs_that_exist_are_refused_before_anything_is_sent(folder, farm):
    (folder / "out").mkdir()
    (folder / "out" / "v1.mp4").write_bytes(b"mine")
    with FakeComfyUI() as server, pytest.raises(OutputsTaken, match="row 3.*v1.mp4"):
        farm(jobs_of(folder, many(3)), [server])
    assert server.asked == [] and (folder / "out" / "v1.mp4").read_bytes() == b"mine"


def test_an_output_that_appears_meanwhile_is_not_replaced(folder, farm):
    with FakeComfyUI(seconds=0.2) as server:
        made = farm(jobs_of(folder, many(1)), [server])
        when(lambda: server.running, lambda: (folder / "out" / "v0.mp4").write_bytes(b"mine"))
        assert not made.run() and "not replaced" in made.works[0].reason
    assert (folder / "out" / "v0.mp4").read_bytes() == b"mine"
    assert not (folder / "out" / "v0.mp4.part").exists()


def test_a_changed_row_is_another_job_and_does_not_replace_the_old_video(folder, farm):
    with FakeComfyUI() as server:
        assert farm(jobs_of(folder, many(2)), [server]).run()
        assert farm(jobs_of(folder, many(2)), [server]).run() and len(server.rendered) == 2
        with pytest.raises(OutputsTaken, match="row 2"):
            farm(jobs_of(folder, many(2).replace("v0.mp4,0", "v0.mp4,7")), [server])
        (folder / "out" / "v0.mp4").unlink()  # who removes a video wants it anew
        assert farm(jobs_of(folder, many(2)), [server]).run()
    check_videos(folder, 2)


def test_stopping_leaves_what_runs_and_the_next_run_fetches_it(folder, farm):
    jobs = jobs_of(folder, many(6))
    with FakeComfyUI(seconds=0.3) as server:
        made = farm(jobs, [server])
        when(lambda: server.running, lambda: made.stop("by the test"))
        assert not made.run()
        assert events(folder, "stopped")[0]["why"] == "by the test"
        sent = len(events(folder, "sent"))
        assert 1 <= sent <= 2
        server.seconds = 0.05
        assert farm(jobs, [server]).run()
        assert len(server.rendered) == 6
    check_videos(folder, 6)


def test_a_server_whose_history_is_broken_does_not_hold_its_jobs(folder, farm):
    with FakeComfyUI() as half, FakeComfyUI() as good:
        half.faults["/history"] = [500] * 1000
        assert farm(jobs_of(folder, many(4)), [half, good]).run()
    check_videos(folder, 4)
    assert events(folder, "released")


def test_a_server_under_another_name_is_asked_for_what_it_has(folder, farm):
    jobs = jobs_of(folder, many(2))
    with FakeComfyUI(seconds=0.3) as server:
        made = farm(jobs, [server])
        when(lambda: server.running, lambda: made.stop("by the test"))
        made.run()
        sent = len(events(folder, "sent"))
        server.url = server.url.replace("127.0.0.1", "localhost")
        assert farm(jobs, [server]).run() and len(server.rendered) == 2
        assert len(events(folder, "adopted")) == sent
    check_videos(folder, 2)


def test_a_crash_between_name_and_journal_is_mended(folder, farm):
    """The last line, 'done', is torn off; the video is there, and is the one that was downloaded."""
    jobs = jobs_of(folder, many(1))
    with FakeComfyUI() as server:
        assert farm(jobs, [server]).run()
        journal = folder / "out" / "farm.jsonl"
        data = journal.read_bytes()
        journal.write_bytes(data[: data.index(b'"done"') + 3])
        assert farm(jobs, [server]).run() and len(server.rendered) == 1
    assert len(events(folder, "done")) == 1


def test_videos_are_found_wherever_nodes_show_them():
    video = {"filename": "a.mp4", "subfolder": "", "type": "output"}
    preview = {"filename": "p.mp4", "subfolder": "", "type": "temp"}
    assert find_video({"outputs": {"1": {"images": [video]}, "2": {"gifs": [preview], "text": ["x"]}}}, None) == video
    assert find_video({"outputs": {"1": {"images": [preview]}}}, None) == preview
    two = {"outputs": {"1": {"images": [video]}, "2": {"images": [{**video, "filename": "b.mp4"}]}}}
    with pytest.raises(ValueError, match="2 videos.*--output"):
        find_video(two, None)
    assert find_video(two, "2")["filename"] == "b.mp4"
    two["outputs"] = {"1_0a1b2c3d": two["outputs"]["1"], "2_0a1b2c3d.0.0.5": two["outputs"]["2"]}
    assert find_video(two, "2")["filename"] == "b.mp4"
    with pytest.raises(ValueError, match="no video"):
        find_video({"outputs": {"1": {"images": [{"filename": "a.png"}]}}}, None)
