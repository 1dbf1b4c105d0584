"""One ComfyUI over its HTTP interface: queue, history, upload, prompt, view. Every fault is one of three exceptions.

urllib is here because the command has to reach the servers that its user names; nothing else of the pack imports this.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import ipaddress
import json
import ssl
import urllib.error
import urllib.parse
import urllib.request
import uuid
from dataclasses import dataclass
from pathlib import Path

OF_THIS_SERVER = {
    "missing_node_type",
    "value_not_in_list",
    "custom_validation_failed",
    "exception_during_validation",
    "exception_during_inner_validation",
    "invalid_prompt",
    "invalid_prompt_id",
}
"""Why a server refuses a prompt that another one may take: it lacks a node, a model or a file."""
DIGITS = 24  # of a file's sha256, in its name on the servers


class Away(Exception):
    """The server cannot be reached, broke off, or has a fault of its own; it may come back."""


class NotComfyUI(Away):
    """Something answers, but not as ComfyUI does: another address or a login is needed."""


class Refused(Exception):
    """The server does not take this prompt. own_fault: no server would."""

    def __init__(self, reason: str, own_fault: bool):
        super().__init__(reason)
        self.own_fault = own_fault


@dataclass(frozen=True)
class Queued:
    """A prompt in a server's queue, under the server's id for it."""

    server_id: str
    running: bool


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, request, file, code, message, headers, url):
        return None  # a login must not be handed on to another address


class Host:
    """url: normalised, without user and password. timeout: seconds without a byte."""

    def __init__(self, address: str, *, headers: dict[str, str] | None = None, timeout: float = 30):
        self.url, login = parse(address)
        self.timeout = timeout
        self.headers = {**login, **(headers or {})}
        handlers = [_NoRedirect]
        if _is_near(urllib.parse.urlsplit(self.url).hostname or ""):
            handlers.append(urllib.request.ProxyHandler({}))
        self._opener = urllib.request.build_opener(*handlers)

    def check(self) -> None:
        """Raises Away if nothing answers, NotComfyUI if something else does."""
        self.queue()
        if not isinstance(self._json("/system_stats").get("system"), dict):
            raise NotComfyUI("it is not ComfyUI: /system_stats has no 'system'")

    def queue(self) -> dict[str, Queued]:
        """By the farm's id of a prompt, or the server's for prompts of others."""
        answer, found = self._json("/queue"), {}
        try:
            for name in ("queue_pending", "queue_running"):
                for item in answer[name]:
                    found[_ours(item) or item[1]] = Queued(item[1], name == "queue_running")
        except (KeyError, TypeError, IndexError):
            raise NotComfyUI("it is not ComfyUI: /queue has another form") from None
        return found

    def history(self, prompt: str, server_id: str | None) -> dict | None:
        """What a finished prompt left; None if the server does not know it. server_id None: it was never told."""
        entry = self._json(f"/history/{server_id or prompt}").get(server_id or prompt)
        if entry is None and server_id is None:  # a server that makes its own ids
            entries = self._json("/history?max_items=200").values()
            entry = next((one for one in entries if isinstance(one, dict) and _ours(one.get("prompt")) == prompt), None)
        return entry if isinstance(entry, dict) else None

    def upload(self, file: Path, name: str) -> str:
        """Put a file into the server's input folder; returns its name there."""
        mark = uuid.uuid4().hex
        head = (
            f'--{mark}\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        )
        data = file.read_bytes()
        if hashlib.sha256(data).hexdigest()[:DIGITS] not in name:
            raise Refused(f"{file} has changed since the table was checked; run the farm again", True)
        body = head.encode() + data + f"\r\n--{mark}--\r\n".encode()
        try:
            answer = json.loads(self._read("/upload/image", body, f"multipart/form-data; boundary={mark}"))
            return "/".join(filter(None, (answer.get("subfolder"), answer["name"])))
        except urllib.error.HTTPError as error:
            if error.code == 413:
                size = file.stat().st_size / 1e6
                raise Refused(
                    f"{file.name} ({size:.0f} MB) is larger than the server takes; start it with a larger "
                    "--max-upload-size",
                    False,
                ) from None
            raise Away(f"/upload/image answered {error.code}") from None
        except (ValueError, KeyError, AttributeError, TypeError):
            raise Away("/upload/image answered in another form") from None

    def send(self, prompt: dict, name: str, job: str) -> str:
        """Queue a prompt under the farm's id; returns the server's id, which is the same on hosts that take one."""
        body = {"prompt": prompt, "prompt_id": name, "extra_data": {"emo_farm": {"prompt": name, "job": job}}}
        try:
            answer = json.loads(self._read("/prompt", json.dumps(body).encode(), "application/json"))
        except urllib.error.HTTPError as error:
            if error.code != 400:
                raise Away(f"/prompt answered {error.code}") from None
            raise _refusal(error) from None
        except ValueError:
            raise Away("/prompt did not answer in JSON") from None
        if not isinstance(answer, dict) or not answer.get("prompt_id"):
            raise Away("/prompt gave no prompt_id")
        return str(answer["prompt_id"])

    def download(self, item: dict, file) -> tuple[int, str]:
        """Copy a file that a node made into an open file; returns (bytes, sha256). FileNotFoundError if it is gone."""
        query = urllib.parse.urlencode({name: item.get(name, "") for name in ("filename", "subfolder", "type")})
        digest, size = hashlib.sha256(), 0
        try:
            with self._open(f"/view?{query}") as reply:
                expected = reply.headers.get("Content-Length")
                while True:
                    try:
                        block = reply.read(1 << 18)
                    except (OSError, http.client.HTTPException) as error:
                        raise Away(f"the download broke off after {size} bytes ({_reason(error)})") from None
                    if not block:
                        break
                    digest.update(block)
                    size += len(block)
                    file.write(block)
        except urllib.error.HTTPError as error:
            if error.code == 404:
                raise FileNotFoundError(f"{item.get('filename')} is not on the server any more") from None
            raise Away(f"/view answered {error.code}") from None
        if expected is not None and int(expected) != size or not size:
            raise Away(f"the download broke off after {size} of {expected} bytes")
        return size, digest.hexdigest()

    def cancel(self, queued: Queued) -> None:
        """Take a prompt out of the queue, or interrupt it; without effect if it has gone on meanwhile."""
        path, body = (
            ("/interrupt", {"prompt_id": queued.server_id})
            if queued.running
            else ("/queue", {"delete": [queued.server_id]})
        )
        try:
            self._read(path, json.dumps(body).encode(), "application/json")
        except urllib.error.HTTPError as error:
            raise Away(f"{path} answered {error.code}") from None

    def _json(self, path: str) -> dict:
        try:
            answer = json.loads(self._read(path))
        except urllib.error.HTTPError as error:
            if error.code in (401, 403, 407):
                raise NotComfyUI(
                    f"it asks for a login ({error.code}); give it as http://USER:PASSWORD@HOST or with --header"
                ) from None
            if 300 <= error.code < 400:
                raise NotComfyUI(f"it leads on to {error.headers.get('Location')}; give that address") from None
            if error.code in (404, 405, 501):
                raise NotComfyUI(
                    f"it is not ComfyUI: {path} answers {error.code}; check the address and port"
                ) from None
            raise Away(f"{path} answered {error.code}") from None
        except ValueError:
            raise NotComfyUI(f"it is not ComfyUI: {path} does not answer in JSON; check the address and port") from None
        if not isinstance(answer, dict):
            raise NotComfyUI(f"it is not ComfyUI: {path} has another form")
        return answer

    def _read(self, path: str, body: bytes | None = None, kind: str = "") -> bytes:
        with self._open(path, body, kind) as reply:
            try:
                return reply.read()
            except (OSError, http.client.HTTPException) as error:
                raise Away(_reason(error)) from None

    def _open(self, path: str, body: bytes | None = None, kind: str = ""):
        """HTTPError for an answer that is not 2xx, Away for none."""
        headers = {**self.headers, **({"Content-Type": kind} if kind else {})}
        try:
            return self._opener.open(urllib.request.Request(self.url + path, body, headers), timeout=self.timeout)
        except urllib.error.HTTPError:
            raise
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise Away(_reason(error)) from None


def parse(address: str) -> tuple[str, dict[str, str]]:
    """(URL, headers of its login) of what a user typed, such as 127.0.0.1:8188. Raises ValueError."""
    text = address.strip()
    text = text if "://" in text else f"http://{text}"
    try:
        parts = urllib.parse.urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"--servers: '{address}' is not an address ({error}); write http://127.0.0.1:8188") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or any(map(str.isspace, text)):
        raise ValueError(f"--servers: '{address}' is not an address; write http://127.0.0.1:8188")
    name = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    port = "" if port in (None, {"http": 80, "https": 443}[parts.scheme]) else f":{port}"
    login = {}
    if parts.username:
        pair = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
        login = {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}
    return f"{parts.scheme}://{name}{port}{parts.path.rstrip('/')}", login


def _is_near(name: str) -> bool:
    """Whether a host is of this machine or network, which proxies for the internet do not reach."""
    try:
        return ipaddress.ip_address(name).is_private
    except ValueError:
        return "." not in name or name.endswith(".local")


def _ours(item: object) -> str | None:
    """The farm's id of an item of queue or history: [number, id, prompt, extra data, ...]."""
    try:
        return item[3]["emo_farm"]["prompt"]
    except (KeyError, TypeError, IndexError):
        return None


def _refusal(error: urllib.error.HTTPError) -> Refused:
    """What ComfyUI says is wrong with a prompt, in one line."""
    try:
        answer = json.loads(error.read())
        top, nodes = answer["error"], answer.get("node_errors") or {}
        if isinstance(top, str):
            return Refused(top, False)
        found = [
            (one.get("type"), f"node {number} {node.get('class_type', '')}: {_text(one)}")
            for number, node in nodes.items()
            for one in node.get("errors", ())
        ] or [(top.get("type"), _text(top))]
    except (ValueError, KeyError, AttributeError, TypeError, OSError, http.client.HTTPException):
        return Refused("it answered 400 without a reason", False)
    texts = {text.rsplit(" - ", 1)[-1]: text for _, text in reversed(found)}  # a node says the same of several inputs
    return Refused("; ".join([*texts.values()][::-1][:3]), not any(kind in OF_THIS_SERVER for kind, _ in found))


def _text(error: dict) -> str:
    return " - ".join(filter(None, (str(error.get("message") or ""), str(error.get("details") or ""))))[:300]


def _reason(error: BaseException) -> str:
    """Why no answer came, in words."""
    error = getattr(error, "reason", error)
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({error.verify_message})"
    if isinstance(error, ssl.SSLError):
        return "it does not speak https; write http://"
    if isinstance(error, ConnectionRefusedError):
        return "nothing listens there (connection refused)"
    if type(error).__name__ == "gaierror":
        return "there is no host of this name"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, http.client.BadStatusLine) and not isinstance(error, ConnectionError):
        return "it does not speak http"
    return str(error) or type(error).__name__
