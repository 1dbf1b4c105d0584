"""A server in this process that speaks ComfyUI's HTTP interface, renders nothing, and fails as it is told to."""

from __future__ import annotations

import hashlib
import json
import re
import socket
import threading
import time
import urllib.parse
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LARGEST_SEED = 0xFFFF_FFFF_FFFF_FFFF
NODES = {"EmoTalkingPortrait", "LoadImage", "LoadAudio", "SaveVideo"}


def video_of(portrait: bytes, voice: bytes, seed: int) -> bytes:
    """What the server makes of its inputs: another for each."""
    return b"video" + hashlib.sha256(portrait + b"|" + voice + b"|%d" % seed).digest() * 2000


class FakeComfyUI:
    """`with FakeComfyUI(seconds=0.1) as server`; faults: path -> what happens to the next requests for it, in order:

    a status code; "drop", closed without an answer; "drop after", done and then closed; "cut", half of the body; a
    number of seconds as float, that it takes. The portrait's bytes choose errors: b"no face" a ValueError, b"out of
    memory" an error of the server. A prompt that it has rendered comes from a cache without a video, as ComfyUI answers
    for nodes that expand into others; ids are part of it, as of nodes that are not idempotent. Counts its renderings in
    `rendered`, as [job's key].
    """

    def __init__(self, seconds: float = 0.05, *, own_ids: bool = False, login: str | None = None):
        self.seconds, self.own_ids, self.login = seconds, own_ids, login
        self.faults: dict[str, list] = {}
        self.rendered: list[str] = []
        self.asked: list[str] = []
        self.error = ""  # message of exceptions; {image} is the portrait's name
        self.broken = False  # every rendering fails
        self.missing: set[str] = set()  # classes of nodes that it lacks
        self.outputs: dict[str, bytes] = {}
        self.inputs: dict[str, bytes] = {}
        self._age, self.http = 0, None
        self._forget()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def _forget(self) -> None:
        self.queue: list[list] = []
        self.running: list | None = None
        self.history: dict[str, dict] = {}
        self.cached = set()

    def __enter__(self) -> FakeComfyUI:
        self.start()
        return self

    def __exit__(self, *_) -> None:
        self.die()

    def start(self) -> None:
        """On the same port as ever, with an empty queue and history."""
        self._forget()
        self.appear()
        self._age += 1
        threading.Thread(target=self._render, args=(self._age,), daemon=True).start()

    def appear(self) -> None:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                fake._answer(self, None)

            def do_POST(self):
                fake._answer(self, self.rfile.read(int(self.headers.get("Content-Length", 0))))

            def log_message(self, *_):
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads, allow_reuse_address = True, True

            def handle_error(self, *_):
                pass

        self.http = Server(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def vanish(self) -> None:
        """The network goes, the server renders on; `appear` brings it back."""
        if self.http is not None:
            self.http.shutdown()
            self.http.server_close()
        self.http = None

    def die(self) -> None:
        """As a kill does: nothing listens, and nothing is rendered any more."""
        self._age += 1
        self.vanish()

    # ---- the worker

    def _render(self, age: int) -> None:
        while self._age == age:
            if not self.queue:
                time.sleep(0.005)
                continue
            self.running = item = self.queue.pop(0)
            self._interrupted = False
            end = time.monotonic() + self.seconds
            while time.monotonic() < end and self._age == age and not self._interrupted:
                time.sleep(0.005)
            if self._age != age:
                return
            self.history[item[1]] = self._made(item)
            self.running = None

    def _made(self, item: list) -> dict:
        _, name, prompt, extra, _ = item
        inputs = {key: value for node in prompt.values() for key, value in node["inputs"].items()}
        portrait, voice = self.inputs[inputs["image"]], self.inputs[inputs["audio"]]
        entry = {"prompt": item, "outputs": {}, "status": {"status_str": "success", "completed": True, "messages": []}}
        kind = {b"no face": "ValueError", b"out of memory": "torch.OutOfMemoryError"}.get(portrait)
        kind = "RuntimeError" if self.broken else kind
        if self._interrupted:
            entry["status"] |= {"status_str": "error", "messages": [["execution_interrupted", {"prompt_id": name}]]}
        elif kind:
            error = {"node_id": "1", "node_type": "EmoTalkingPortrait", "exception_type": kind}
            error["exception_message"] = self.error.format(**inputs) or f"{portrait.decode()}\non {self.port}"
            entry["status"] |= {"status_str": "error", "messages": [["execution_error", error]]}
        elif (same := json.dumps(prompt, sort_keys=True)) in self.cached:  # ComfyUI shows nothing of expanding nodes
            entry["status"]["messages"] = [["execution_cached", {"nodes": list(prompt), "prompt_id": name}]]
        else:
            self.cached.add(same)
            self.rendered.append(extra["emo_farm"]["job"])
            file = f"EMO_{len(self.outputs):05}_.mp4"
            self.outputs[file] = video_of(portrait, voice, inputs["seed"])
            shown = {"filename": file, "subfolder": "video", "type": "output"}
            (node,) = (number for number in prompt if prompt[number]["class_type"] == "EmoTalkingPortrait")
            shows = {"images": [shown], "animated": [True]}
            entry["outputs"] = {f"{node}.0.0.5": shows, node: shows}
        return entry

    # ---- the interface

    def _answer(self, request: BaseHTTPRequestHandler, body: bytes | None) -> None:
        path, _, query = request.path.partition("?")
        self.asked.append(path)
        faults = self.faults.get("/" + path.split("/")[1], [])
        fault = faults.pop(0) if faults else None
        if isinstance(fault, float):
            time.sleep(fault)
        if isinstance(fault, int):
            return self._send(request, fault, b"planted")
        if fault == "drop":
            return request.connection.shutdown(socket.SHUT_RDWR)
        if self.login and request.headers.get("Authorization") != self.login:
            return self._send(request, 401, b"login")
        code, answer = self._do(request, path, dict(urllib.parse.parse_qsl(query)), body)
        if fault == "drop after":
            return request.connection.shutdown(socket.SHUT_RDWR)
        data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self._send(request, code, data, cut=fault == "cut")

    def _send(self, request, code: int, data: bytes, *, cut: bool = False) -> None:
        request.send_response(code)
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        request.wfile.write(data[: len(data) // 2] if cut else data)

    def _do(self, request, path: str, query: dict, body: bytes | None) -> tuple[int, object]:
        if body is not None and path == "/upload/image":
            name = re.search(rb'filename="([^"]+)"', body)[1].decode()
            self.inputs[name] = body.split(b"\r\n\r\n", 1)[1].rsplit(b"\r\n--", 1)[0]
            return 200, {"name": name, "subfolder": "", "type": "input"}
        if body is not None and path == "/prompt":
            return self._queue(json.loads(body))
        if body is not None and path == "/queue":
            gone = json.loads(body).get("delete", [])
            self.queue = [item for item in self.queue if item[1] not in gone]
            return 200, b""
        if body is not None and path == "/interrupt":
            running = self.running
            if running and running[1] == json.loads(body).get("prompt_id"):
                self._interrupted = True
            return 200, b""
        if path == "/queue":
            return 200, {"queue_running": [self.running] if self.running else [], "queue_pending": list(self.queue)}
        if path == "/history":
            return 200, dict(self.history)
        if path.startswith("/history/"):
            name = path.split("/")[2]
            return 200, {name: self.history[name]} if name in self.history else {}
        if path == "/system_stats":
            return 200, {"system": {"comfyui_version": "fake"}, "devices": []}
        if path == "/view" and query.get("subfolder") == "video" and query.get("filename") in self.outputs:
            return 200, self.outputs[query["filename"]]
        return 404, b"not found"

    def _queue(self, sent: dict) -> tuple[int, object]:
        prompt, errors = sent["prompt"], {}
        for number, node in prompt.items():
            if node["class_type"] not in NODES - self.missing:
                return 400, {
                    "error": {"type": "invalid_prompt", "message": f"Node '{node['class_type']}' not found."},
                    "node_errors": {},
                }
            for name, value in node["inputs"].items():
                found = None
                if name == "seed" and value > LARGEST_SEED:
                    found = {"type": "value_bigger_than_max", "message": "Value too big", "details": "seed"}
                if name in ("image", "audio") and value not in self.inputs:
                    found = {
                        "type": "custom_validation_failed",
                        "message": "Custom validation failed",
                        "details": value,
                    }
                if found:
                    errors[number] = {"errors": [found], "class_type": node["class_type"]}
        if errors:
            return 400, {"error": {"type": "prompt_outputs_failed_validation", "message": "no"}, "node_errors": errors}
        name = str(uuid.uuid4()) if self.own_ids else sent["prompt_id"]
        self.queue.append([len(self.queue), name, prompt, sent["extra_data"], ["1"]])
        return 200, {"prompt_id": name, "number": 1, "node_errors": {}}
