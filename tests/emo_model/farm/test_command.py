"""`python -m emo_model.farm` as a process: killed, stopped, run twice at once, and given wrong addresses."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from fake_comfyui import FakeComfyUI, video_of

from emo_model.farm.host import parse
from emo_model.farm.journal import read_events

from .conftest import command, jobs_of, many


def wait_for(condition, timeout: float = 20) -> None:
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.005)


def run(folder, *arguments) -> tuple[int, str, str]:
    process = command(folder, "jobs.csv", "--out", "out", *arguments)
    out, said = process.communicate(timeout=60)
    return process.returncode, out, said


def test_a_farm_killed_again_and_again_makes_each_video_once(folder):
    jobs_of(folder, many(9))
    with FakeComfyUI(seconds=0.15) as one, FakeComfyUI(seconds=0.15) as two:
        for goal in (1, 4, 6):
            process = command(folder, "jobs.csv", "--out", "out", "--servers", one.url, two.url)
            wait_for(lambda goal=goal: len(one.rendered) + len(two.rendered) >= goal)
            process.kill()
            process.communicate()
        with (folder / "out" / "farm.jsonl").open("ab") as journal:
            journal.write(b'{"time": "2026-11-29T03:30:00Z", "event": "don')
        code, out, said = run(folder, "--servers", one.url, two.url)
        assert code == 0, said
        assert json.loads(out.splitlines()[-1])["done"] == 9 and "from earlier runs" in said
        assert sorted({*one.rendered, *two.rendered}) == sorted([*one.rendered, *two.rendered])
    for n in range(9):
        expected = video_of(b"bytes of anna.jpg", b"bytes of hello.wav", n)
        assert (folder / "out" / f"v{n}.mp4").read_bytes() == expected
    done = [event["out"] for event in read_events(folder / "out" / "farm.jsonl") if event["event"] == "done"]
    assert sorted(done) == sorted(set(done)) and len(done) == 9


def test_ctrl_c_sends_nothing_more_and_says_how_to_go_on(folder):
    jobs_of(folder, many(6))
    with FakeComfyUI(seconds=1) as server:
        process = command(folder, "jobs.csv", "--out", "out", "--servers", server.url)
        wait_for(lambda: server.running and server.queue)
        process.send_signal(signal.SIGINT)
        out, said = process.communicate(timeout=20)
        assert process.returncode == 130 and "Run the same command again" in said and "2 of them" in said
        assert server.running or server.rendered  # nothing was cancelled
        server.seconds = 0.01
        assert run(folder, "--servers", server.url)[0] == 0
        assert len(server.rendered) == 6


def test_failures_are_a_table_and_exit_code_1(folder):
    jobs_of(folder, "portrait,voice,out\nno_face.jpg,hello.wav,a\nanna.jpg,hello.wav,b\n")
    with FakeComfyUI() as server:
        code, out, said = run(folder, "--servers", f"{server.url}/")
    assert code == 1 and "  2  a.mp4  node 1 EmoTalkingPortrait: no face" in out
    assert json.loads(out.splitlines()[-1]) == {"done": 1, "failed": 1, "left": 0, "out": "out"}


def test_two_farms_at_once_on_one_folder(folder):
    jobs_of(folder, many(2))
    with FakeComfyUI(seconds=1) as server:
        first = command(folder, "jobs.csv", "--out", "out", "--servers", server.url)
        wait_for(lambda: server.running)
        code, _, said = run(folder, "--servers", server.url)
        assert code == 2 and "another farm works with" in said
        server.seconds = 0.01
        first.communicate(timeout=20)
        assert first.returncode == 0 and len(server.rendered) == 2


def test_progress_is_shown_on_a_page_of_this_machine(folder):
    jobs_of(folder, many(2))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with FakeComfyUI(seconds=1.5) as server:
        process = command(folder, "jobs.csv", "--out", "out", "--servers", server.url, "--page", port)
        wait_for(lambda: server.running)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        page = opener.open(f"http://127.0.0.1:{port}/").read().decode()
        assert "0 of 2 done" in page and server.url in page
        status = json.loads(opener.open(f"http://127.0.0.1:{port}/status.json").read())
        assert [job["out"] for job in status["jobs"]] == ["v0.mp4", "v1.mp4"]
        request = urllib.request.Request(f"http://127.0.0.1:{port}/", headers={"Host": "evil.example"})
        with pytest.raises(urllib.error.HTTPError, match="404"):
            opener.open(request)
        server.seconds = 0.01
        process.communicate(timeout=20)
        assert process.returncode == 0


class _Other(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.server.goes_to:
            self.send_response(301)
            self.send_header("Location", self.server.goes_to)
            return self.end_headers()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<html>not ComfyUI</html>")

    def log_message(self, *_):
        pass


@pytest.fixture
def other():
    """Some other web server."""
    with HTTPServer(("127.0.0.1", 0), _Other) as server:
        server.goes_to = None
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield server
        server.shutdown()


def test_wrong_addresses_are_said_before_anything_is_sent(folder, other):
    from emo_model.farm.__main__ import main

    jobs_of(folder, many(1))
    foreign = f"http://127.0.0.1:{other.server_port}"

    def said(*arguments):
        import contextlib
        import io

        with contextlib.redirect_stderr(io.StringIO()) as text:
            code = main([str(folder / "jobs.csv"), "--out", str(folder / "out"), *arguments])
        return code, text.getvalue()

    with FakeComfyUI(login="Basic YTpi") as server:
        closed = "http://127.0.0.1:9"
        for address, reason in (
            (foreign, "is not ComfyUI: /queue does not answer in JSON"),
            (foreign.replace("http", "https"), "does not speak https"),
            (server.url, "asks for a login (401)"),
            (f"{server.url.replace('//', '//a:b@')}/nowhere", "is not ComfyUI: /queue answers 404"),
            (closed, "connection refused"),
            ("ftp://x", "is not an address"),
            ("http://127.0.0.1:port", "is not an address"),
        ):
            code, text = said("--servers", address)
            assert code == 2 and reason in text, (address, text)
        for option, reason in (
            (["--page", str(other.server_port)], "cannot be used"),
            (["--page", "70000"], "cannot be used"),
            (["--journal", str(folder / "jobs.csv")], "is no journal"),
            (["--out", str(folder / "anna.jpg")], "is a file; name a folder"),
            (["--output", "9"], "has the nodes 1, 2, 3"),
            (["--set", "seed=3"], "write NODE.input"),
            (["--header", "x"], 'must be "NAME: VALUE"'),
        ):
            code, text = said("--servers", f"a:b@127.0.0.1:{server.port}", *option)
            assert code == 2 and reason in text, (option, text)
        shutil.rmtree(folder / "out")  # of the two ports: a journal without anything sent
        other.goes_to = "https://elsewhere/"
        assert "leads on to https://elsewhere/" in said("--servers", foreign)[1]
        assert said("--servers", server.url, "--header", "Authorization: Basic YTpi", "--dry-run")[0] == 0
        assert not (folder / "out").exists() and server.rendered == []
        code, text = said("--servers", f"a:b@127.0.0.1:{server.port}", closed)
        assert code == 0 and "a:b" not in (folder / "out" / "farm.jsonl").read_text()


@pytest.mark.parametrize(
    "typed, url",
    [
        ("127.0.0.1:8188", "http://127.0.0.1:8188"),
        (" http://Host:8188/ ", "http://host:8188"),
        ("https://user:p%40ss@pod.example/comfy/", "https://pod.example/comfy"),
        ("http://[::1]:8188", "http://[::1]:8188"),
        ("gpu1", "http://gpu1"),
        ("http://gpu1:80/#graph", "http://gpu1"),
    ],
)
def test_addresses_are_understood_as_typed(typed, url):
    assert parse(typed)[0] == url


def test_a_login_in_the_address_becomes_a_header():
    assert parse("https://user:p%40ss@h/")[1] == {"Authorization": "Basic dXNlcjpwQHNz"}
