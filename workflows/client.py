"""Queue a talking portrait in a running ComfyUI over its HTTP API, and save the video. Standard library only.

python workflows/client.py portrait.jpg voice.wav talk.mp4 [http://127.0.0.1:8188]
"""

import json
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from pathlib import Path

WORKFLOW = Path(__file__).parent / "api" / "talking_portrait.json"


def call(url: str, data: bytes | None = None, kind: str = "application/json") -> bytes:
    try:
        return urllib.request.urlopen(urllib.request.Request(url, data, {"Content-Type": kind})).read()
    except urllib.error.HTTPError as error:
        raise SystemExit(f"ComfyUI refused it: {error.read().decode()}") from None


def upload(server: str, path: Path) -> str:
    """Put a picture or a sound into ComfyUI's input folder; returns its name there."""
    mark = uuid.uuid4().hex
    head = f'--{mark}\r\nContent-Disposition: form-data; name="image"; filename="{path.name}"\r\n\r\n'
    answer = call(
        f"{server}/upload/image",
        head.encode() + path.read_bytes() + f"\r\n--{mark}--\r\n".encode(),
        f"multipart/form-data; boundary={mark}",
    )
    return json.loads(answer)["name"]


def main(portrait: str, voice: str, out: str, server: str = "http://127.0.0.1:8188") -> None:
    prompt = json.loads(WORKFLOW.read_text(encoding="utf-8"))
    prompt["portrait"] = {"class_type": "LoadImage", "inputs": {"image": upload(server, Path(portrait))}}
    prompt["voice"] = {"class_type": "LoadAudio", "inputs": {"audio": upload(server, Path(voice))}}
    node = {value["class_type"]: value["inputs"] for value in prompt.values()}
    node["EmoReferenceEncoder"]["image"], node["EmoAudioEncoder"]["audio"] = ["portrait", 0], ["voice", 0]
    queued = json.loads(call(f"{server}/prompt", json.dumps({"prompt": prompt}).encode()))["prompt_id"]
    began = time.monotonic()
    while not (done := json.loads(call(f"{server}/history/{queued}"))):
        if queued not in call(f"{server}/queue").decode() and call(f"{server}/history/{queued}") == b"{}":
            raise SystemExit("\nthe run was taken out of ComfyUI's queue")
        sys.stderr.write(f"\rwaiting for {queued}: {time.monotonic() - began:.0f} s")
        time.sleep(0.5)
    result = done[queued]
    if result["status"]["status_str"] != "success":
        reasons = [
            detail["exception_message"] for name, detail in result["status"]["messages"] if name == "execution_error"
        ]
        raise SystemExit("\n" + (reasons or ["the run was cancelled"])[0])
    shown = [item for outputs in result["outputs"].values() for item in outputs.get("images", [])]
    videos = [item for item in shown if item["filename"].endswith(".mp4")]
    if not videos:
        raise SystemExit("\nthe run ended without a video")
    Path(out).write_bytes(call(f"{server}/view?{urllib.parse.urlencode(videos[0])}"))
    sys.stderr.write(f"\nwrote {out}\n")


if __name__ == "__main__":
    if not 4 <= len(sys.argv) <= 5:
        raise SystemExit(__doc__)
    main(*sys.argv[1:])
