"""A real ComfyUI as a throwaway server, driven through its HTTP and websocket interface. Needs aiohttp, as ComfyUI
does."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PREVIEW = 1  # kind of a binary message; the sentences in nodes come as 3


def comfyui_or_skip() -> Path:
    """The ComfyUI to test in: $COMFYUI_PATH, or the one whose custom_nodes this folder lies in."""
    named = os.environ.get("COMFYUI_PATH")
    path = Path(named) if named else ROOT.parent.parent
    if not (path / "comfy_api").is_dir() or not (named or ROOT.parent.name == "custom_nodes"):
        pytest.skip("no ComfyUI here: set COMFYUI_PATH to a ComfyUI folder, or put this one into its custom_nodes")
    missing = [
        name for name in ("aiohttp", "comfyui_frontend_package", "torchsde", "torchaudio") if find_spec(name) is None
    ]
    if missing:
        pytest.skip(
            f"this Python lacks {', '.join(missing)}: install the requirements.txt of COMFYUI_PATH ({path}), "
            "or run pytest with ComfyUI's own Python"
        )
    return path.resolve()


class ComfyServer:
    """`with ComfyServer(comfyui, base) as server: server.run(prompt)`; models, inputs and outputs live in `base`.

    with_api_nodes: without them ComfyUI also forbids its page what core's recorder of sound needs.
    """

    def __init__(self, comfyui: Path, base: Path, *flags: str, with_api_nodes: bool = False):
        self.comfyui, self.base = comfyui, base
        self.flags = flags if with_api_nodes else ("--disable-api-nodes", *flags)
        for name in ("custom_nodes", "input", "output", "temp", "user", "models/emo"):
            (base / name).mkdir(parents=True, exist_ok=True)
        (base / "custom_nodes" / "ComfyUI-EMO").symlink_to(ROOT, target_is_directory=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.url = f"http://127.0.0.1:{free.getsockname()[1]}"

    def __enter__(self) -> ComfyServer:
        command = [
            sys.executable,
            "main.py",
            "--cpu",
            "--listen",
            "127.0.0.1",
            "--port",
            self.url.rsplit(":", 1)[1],
            "--base-directory",
            str(self.base),
            "--database-url",
            "sqlite:///:memory:",
            "--disable-auto-launch",
            *self.flags,
        ]
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "HF_HUB_OFFLINE": "1"}
        with open(self.base / "server.log", "wb") as log:
            self.process = subprocess.Popen(
                command,
                cwd=self.comfyui,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + 240
        while True:
            assert self.process.poll() is None and time.monotonic() < deadline, (
                f"ComfyUI did not start:\n{self.log[-4000:]}"
            )
            try:
                self.get("/system_stats")
                return self
            except OSError:
                time.sleep(0.25)

    def __exit__(self, *_) -> None:
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    @property
    def log(self) -> str:
        return (self.base / "server.log").read_text(errors="replace")

    def get(self, path: str):
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(self.url + path, timeout=60) as reply:
            data = reply.read()
            return json.loads(data) if reply.headers.get_content_type() == "application/json" else data

    def post(self, path: str, value: dict) -> tuple[int, dict]:
        request = urllib.request.Request(
            self.url + path, json.dumps(value).encode(), {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as reply:
                return reply.status, json.loads(reply.read() or "{}")
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or "{}")

    def view(self, item: dict) -> bytes:
        """A file that a node shows: {filename, subfolder, type}."""
        return self.get("/view?" + urllib.parse.urlencode(item))

    def run(
        self, prompt: dict, *, timeout: float = 600, workflow: dict | None = None, on_progress=lambda done, total: None
    ) -> dict:
        """Queue a prompt in API form and follow it -> {status, error, outputs, progress: [(value, max)...], previews,
        preview}.

        previews: how many pictures came while it ran; preview: the bytes of the last one, None without any.
        """
        return asyncio.run(self._run(prompt, timeout, workflow, on_progress))

    async def _run(self, prompt: dict, timeout: float, workflow: dict | None, on_progress) -> dict:
        import aiohttp

        client = uuid.uuid4().hex
        result = {"status": None, "error": None, "progress": [], "previews": 0, "preview": None, "outputs": {}}
        extra = {"extra_pnginfo": {"workflow": workflow}} if workflow else {}
        async with (
            aiohttp.ClientSession(trust_env=False) as session,
            session.ws_connect(f"{self.url}/ws?clientId={client}", max_msg_size=0) as socket,
        ):
            code, answer = self.post("/prompt", {"prompt": prompt, "client_id": client, "extra_data": extra})
            if code != 200:
                return {**result, "status": "invalid", "error": answer}
            deadline = time.monotonic() + timeout
            while result["status"] is None:
                message = await socket.receive(timeout=max(deadline - time.monotonic(), 0.01))
                assert message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY), (
                    f"the server died:\n{self.log[-4000:]}"
                )
                if message.type == aiohttp.WSMsgType.BINARY:
                    if int.from_bytes(message.data[:4], "big") == PREVIEW:
                        result["previews"] += 1
                        result["preview"] = message.data[8:]  # behind the kind of message and of picture
                    continue
                event = json.loads(message.data)
                kind, data = event["type"], event.get("data") or {}
                if kind == "progress":
                    result["progress"].append((data["value"], data["max"]))
                    on_progress(data["value"], data["max"])
                elif kind == "executed":
                    result["outputs"][data["node"]] = data["output"]
                elif kind in ("execution_success", "execution_error", "execution_interrupted"):
                    result.update(status=kind.removeprefix("execution_"), error=data)
        return result
