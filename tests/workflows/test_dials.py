"""EMO Expression and idle videos in a real ComfyUI."""

from __future__ import annotations

import io

import av

PORTRAIT = {"class_type": "EmoTalkingPortrait", "inputs": {"model": "tiny.safetensors", "seed": 5, "quality": "medium"}}
DIALS = {
    "audio_strength": "1",
    "smile": "0: 0; 0.5: 1",
    "brows": "",
    "blink_rate": "2",
    "gaze_x": "-0.5",
    "gaze_y": "0",
    "yaw": ["3", 0],
    "pitch": "0",
    "roll": "0",
    "blinks": "0.2",
}


def idle(**changes) -> dict:
    """A portrait that waits for a second, with dials, one of them from a core node."""
    return {
        "1": {**PORTRAIT, "inputs": {**PORTRAIT["inputs"], "idle_seconds": 1.0, "expression": ["2", 0]}},
        "2": {"class_type": "EmoExpression", "inputs": {**DIALS, **changes}},
        "3": {"class_type": "PrimitiveFloat", "inputs": {"value": 6.0}},
    }


def test_an_idle_portrait_with_dials_is_a_silent_loop_and_another_dial_samples_nothing_again(server):
    result = server.run(idle())
    assert result["status"] == "success", result["error"]
    shown = [one for output in result["outputs"].values() for one in output.get("images", ())]
    with av.open(io.BytesIO(server.view(next(one for one in shown if one["filename"].endswith(".mp4"))))) as file:
        assert sum(1 for _ in file.decode(video=0)) == 25
        assert not file.streams.audio
    begin = len(server.log)
    assert server.run(idle(brows="1"))["status"] == "success"
    log = server.log[begin:]
    assert "25 of 25 frames were finished before; nothing was rendered" in log
    assert "25 frames, 1.00 s" in log and "0 pixels changed outside" in log


def test_a_dial_out_of_range_is_refused_before_a_model_is_loaded(server):
    result = server.run(idle(smile="3"))
    assert result["status"] == "error" and result["error"]["node_id"] == "2"
    assert "'smile' is 3" in result["error"]["exception_message"] and set(result["error"]["executed"]) <= {"3"}
