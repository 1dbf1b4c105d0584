"""What becomes of videos: clips of the right frames with the right sound, or a row with the reason."""

from __future__ import annotations

import io
import json
import tarfile
import wave

import av
import numpy as np
import pytest
import torch

from emo_model.training.footage import shards
from emo_model.training.footage.preparing import read_mp4
from emo_model.training.footage.report import write_report

from .conftest import FPS, FRAMES, write


def only_sample(folder) -> shards.Sample:
    (tar,) = (folder / "clips").glob("*.tar")
    (sample,) = shards.samples_of(tar)
    return sample


def test_a_clip_has_the_crops_the_motion_the_sound_and_the_boxes_of_its_frames(talking, first):
    video, (row, folder) = talking(0), first
    assert row["status"] == "prepared" and row["clips"] == 1 and row["kept_seconds"] == pytest.approx(FRAMES / FPS)
    assert abs(row["offset_seconds"]) < 0.5 / FPS and row["agreement"] > 0.5
    clip = only_sample(folder)
    crops = read_mp4(clip.read("mp4"))
    assert crops.shape == (FRAMES, 192, 192, 3)
    opening = torch.from_numpy(clip.array("latents.npy").astype(np.float32))[:, 2].flatten(1).amax(1)
    assert torch.corrcoef(torch.stack([opening, video.opening]))[0, 1] > 0.85
    with wave.open(io.BytesIO(clip.read("wav"))) as sound:
        samples = np.frombuffer(sound.readframes(sound.getnframes()), np.int16) / 32768
        assert sound.getframerate() == 16000 and len(samples) == len(video.sound)
    offset = round(row["offset_seconds"] * 16000)  # of AAC's and the estimate's own
    kept = slice(2000, -2000)
    truth = video.sound.numpy()[kept.start + offset : len(video.sound) + kept.stop + offset]
    assert np.corrcoef(samples[kept], truth)[0, 1] > 0.95
    about, boxes = clip.about(), clip.array("boxes.npy")
    assert about["frames"] == FRAMES and boxes.shape == (FRAMES, 4)
    assert about["union"] == pytest.approx([*boxes[:, :2].min(0), *boxes[:, 2:].max(0)], abs=1e-3)
    assert 0.05 < clip.array("rotation.npy").mean() * FPS < 30  # degrees per second, of a puppet that turns at 8
    assert clip.array("audio.npy").shape == (FRAMES, 1, 32) and clip.array("stills.npy").shape == (1, 8, 16, 16)


@pytest.mark.parametrize("late", [-0.2])  # two seconds are too short to be sure of any
def test_sound_that_is_off_is_moved_back_to_the_lips(talking, prepared, tmp_path, late):
    video = talking(0)
    shift = round(late * 16000)
    sound = torch.zeros_like(video.sound)
    if shift > 0:
        sound[shift:] = video.sound[:-shift]
    else:
        sound[:shift] = video.sound[-shift:]
    row, _ = prepared(write(tmp_path / "late.mp4", video.frames, sound))
    assert row["status"] == "prepared" and row["offset_seconds"] == pytest.approx(late, abs=0.5 / FPS)


def test_another_voice_is_refused_with_the_correlation_that_was_found(talking, prepared, tmp_path):
    reversed_sound = talking(0).sound.flip(0)
    row, _ = prepared(write(tmp_path / "dubbed.mp4", talking(1).frames, reversed_sound))
    assert row["status"] == "refused" and row["reason"] in ("offset", "lips disagree")
    assert row["rejected"].get("offset", 0) + row["rejected"].get("lips disagree", 0) > 1


def test_two_faces_a_cut_and_a_small_face_are_counted_by_their_reasons(talking, prepared, tmp_path):
    video = talking(0)
    pair = np.concatenate([video.frames[:26], video.frames[:26]], axis=2)
    small = np.full_like(pair, 128)
    small[:, 48:144, 144:240] = video.frames[26:52, ::2, ::2]
    row, _ = prepared(write(tmp_path / "mixed.mp4", np.concatenate([pair, small]), video.sound))
    assert set(row["rejected"]) <= {"several faces", "small face", "no face"} and row["status"] == "refused"
    assert row["rejected"]["several faces"] == pytest.approx(26 / FPS, abs=0.1)
    assert row["rejected"]["small face"] == pytest.approx(26 / FPS, abs=0.2)
    assert {"several_faces", "small_face"} == {name.split("-")[1][:-4] for name in row["pictures"].values()}


def broken_files(folder):
    """(name, reason) of files that no clip can be made of."""
    rng = np.random.default_rng(0)
    grey = np.full((10, 48, 64, 3), 100, np.uint8)
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "text.mp4").write_text("no video")
    (folder / "noise.mkv").write_bytes(rng.bytes(5000))
    write(folder / "mute.mp4", grey, None)
    write(folder / "silent.mp4", grey, torch.zeros(6400))
    write(folder / "nobody.mp4", grey, torch.randn(6400) * 0.1)
    with av.open(str(folder / "surround.mkv"), "w") as file:
        pictures = file.add_stream("libx264", rate=25)
        pictures.width, pictures.height, pictures.pix_fmt = 64, 48, "yuv420p10le"
        sound = file.add_stream("pcm_s16le", rate=48000, layout="5.1")
        for pixels in grey:
            file.mux(pictures.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        frame = av.AudioFrame.from_ndarray(
            rng.integers(-900, 900, (1, 6 * 9600), dtype=np.int16), format="s16", layout="5.1"
        )
        frame.rate = 48000
        file.mux(sound.encode(frame))
        file.mux(pictures.encode(None))
        file.mux(sound.encode(None))
    return {
        "empty.mp4": "unreadable",
        "text.mp4": "unreadable",
        "noise.mkv": "unreadable",
        "mute.mp4": "no sound",
        "silent.mp4": "no sound",
        "nobody.mp4": "no face",
        "surround.mkv": "no face",
        "missing.mp4": "unreadable",
    }


def test_files_that_cannot_be_used_get_a_row_and_are_counted_in_the_report(prepared, tmp_path):
    expected = broken_files(tmp_path)
    rows = {}
    for name in expected:
        rows[name], folder = prepared(tmp_path / name)
    assert {name: row["reason"] for name, row in rows.items()} == expected
    assert all(row["message"] or row["rejected"] for row in rows.values())
    report = write_report(folder)
    assert report["videos"] == len(expected) and report["refused_videos"] == {
        "no face": 2,
        "no sound": 2,
        "unreadable": 4,
    }
    assert report == json.loads((folder / "report.json").read_text())
    pages = [(folder / name).read_text() for name in ("report.md", "report.html")]
    assert all(name in page for name in expected for page in pages) and "<img " in pages[1]


def test_a_video_that_ended_the_process_three_times_is_refused(talking, prepared):
    from emo_model.training.footage.preparing import content_key

    video = talking(0)
    _, folder = prepared(video.path.with_name("missing.mp4"))
    attempts = folder / "videos" / f"{content_key(video.path)}.attempts"
    attempts.write_bytes(b"...")
    row, _ = prepared(video.path)
    assert row["status"] == "refused" and "ended 3 times" in row["message"] and not attempts.exists()


def test_webdatasets_way_of_reading_a_tar_gives_the_samples(first):
    """Files of one sample lie on end and share the name up to the first dot."""
    _, folder = first
    (tar,) = (folder / "clips").glob("*.tar")
    groups: dict[str, list[str]] = {}
    with tarfile.open(tar) as file:
        members = list(file)
        for member in members:
            groups.setdefault(member.name.split(".", 1)[0], []).append(member.name.split(".", 1)[1])
        arrays = {m.name: np.load(io.BytesIO(file.extractfile(m).read())) for m in members if m.name.endswith(".npy")}
    assert all((m.mtime, m.uid, m.gid, m.uname) == (0, 0, 0, "") for m in members)
    ((name, extensions),) = groups.items()
    assert {"json", "wav", "mp4", "latents.npy", "audio.npy"} <= set(extensions)
    sample = only_sample(folder)
    assert np.array_equal(sample.array("latents.npy", 5, 3), arrays[f"{name}.latents.npy"][5:8])
