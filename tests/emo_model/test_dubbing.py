"""Dubbing: every frame keeps its time, lips follow the voice, and frames without the face stay to the bit."""

from __future__ import annotations

import json
import wave
from fractions import Fraction

import numpy as np
import pytest
import torch
from videos import read_video

from emo_model import dubbing
from emo_model.__main__ import EXAMPLES, main
from emo_model.dubbing import AT_ONCE, MouthTrack
from emo_model.dubbing import read_video as read_face
from emo_model.inputs.audio import read_audio
from emo_model.inputs.face_tracks import FaceTracker
from emo_model.inputs.faces import NoFaceError
from emo_model.inputs.media import to_uint8
from emo_model.inputs.motion_latents import mouth_opening
from emo_model.inputs.portrait import fit_to_video
from emo_model.inputs.video_frames import GivenFrames, VideoFrames
from emo_model.outputs.video import DUBBED, VideoWriter
from emo_model.talk import load

RATE = 16_000
QUIET = torch.zeros(1, RATE // 5), RATE  # 0.2 s


@pytest.fixture(scope="module")
def face(photograph) -> np.ndarray:
    """The photograph at 128 pixels."""
    return to_uint8(fit_to_video(photograph.picture, photograph.mesh, long_side=128)[0])[0]


@pytest.fixture(scope="module")
def noise() -> np.ndarray:
    return np.random.default_rng(0).integers(90, 160, (128, 128, 3), np.uint8)


@pytest.fixture(scope="module")
def built_in(shipped):
    return load(shipped)


def video_of(frames: list[np.ndarray], rate: float = 25) -> GivenFrames:
    return GivenFrames(lambda number: frames[number], len(frames), rate)


def voice(seconds: float) -> tuple[torch.Tensor, int]:
    samples, rate = read_audio(EXAMPLES / "emo_voice.wav")
    return samples[:, : round(seconds * rate)], rate


def test_the_lips_follow_the_voice(built_in, face, photograph):
    said = voice(1.0)
    dubbed = read_face(built_in, video_of([face] * 24))
    frames = [picture for _, picture in dubbed.frames(said)]
    tracker = FaceTracker(photograph.finder)
    seen = torch.stack([mouth_opening(tracker.read(frame)[0]) for frame in frames])
    told = MouthTrack(built_in, said).at([Fraction(n, 25) for n in range(len(frames))], Fraction(1, 25))
    both = torch.stack([seen, told.opening * (1 - 0.92 * told.closure)])
    assert torch.corrcoef(both)[0, 1] > 0.75


def test_frames_without_the_face_stay_to_the_bit(bundle, face, noise):
    source = [face] * 6 + [noise] * 5 + [face] * 6
    dubbed = read_face(bundle, video_of(source))
    shares = dubbed._shares()
    assert not shares[6:11].any()
    frames = [picture for _, picture in dubbed.frames(QUIET)]
    assert len(frames) == len(source)
    assert all(np.array_equal(new, old) for new, old in zip(frames[6:11], source[6:11], strict=True))


def test_the_mouth_fades_where_the_face_is_lost_but_not_at_a_cut(bundle, face):
    covered = face.copy()
    covered[40:110, 20:108] = 128
    shares = read_face(bundle, video_of([face] * 8 + [covered] * 3))._shares()
    assert 0 < shares[7] < shares[5] < shares[2] == 1
    bright = np.full_like(face, 250)
    shares = read_face(bundle, video_of([face] * 8 + [bright] * 3))._shares()
    assert (shares[:8] == 1).all()


def test_each_scene_has_a_reference_of_its_own(bundle, face):
    dubbed = read_face(bundle, video_of([face] * 4 + [255 - face[:, ::-1] // 4] * 2 + [face[:, ::-1]] * 4))
    assert sorted(dubbed.references.kept) == sorted({0, dubbed.tracks.shots[-1]})
    assert "scenes" in dubbed.summary


def test_frames_are_read_only_a_little_ahead(bundle, face):
    asked = []

    def picture(number: int) -> np.ndarray:
        asked.append(number)
        return face

    dubbed = read_face(bundle, GivenFrames(picture, 20, 25))
    asked.clear()
    for done, _ in enumerate(dubbed.frames(QUIET)):
        assert max(asked) <= done + AT_ONCE


def test_a_longer_voice_holds_the_last_frame(bundle, face):
    dubbed = read_face(bundle, video_of([face] * 5, rate=10))
    times = [seconds for seconds, _ in dubbed.frames((torch.zeros(1, RATE), RATE))]
    assert times == [Fraction(n, 10) for n in range(10)]
    assert dubbed.count(1.0) == 10


def test_held_frames_are_those_that_are_drawn_one_by_one(built_in, face, monkeypatch):
    dubbed, made = read_face(built_in, video_of([face] * 3)), []
    for together in (AT_ONCE, 1):
        monkeypatch.setattr(dubbing, "AT_ONCE", together)
        made.append(np.stack([picture for _, picture in dubbed.frames(voice(0.3))]).astype(int))
    assert len(made[0]) == 7 and np.abs(made[0] - made[1]).max() <= 1
    assert len(np.unique(made[0][3:], axis=0)) == 4, "the mouth goes on"


def test_a_mouth_that_always_shows_teeth_is_warned_of_and_one_at_rest_is_not(bundle, face, photograph):
    assert not read_face(bundle, video_of([face] * 3)).warnings
    mesh, _ = FaceTracker(photograph.finder).read(face)
    corner, other = mesh[78, :2].numpy(), mesh[308, :2].numpy()
    y, x = np.mgrid[:128, :128] + 0.5
    along, middle = (other - corner) / np.linalg.norm(other - corner), (corner + other) / 2
    u = (x - middle[0]) * along[0] + (y - middle[1]) * along[1]
    v = (y - middle[1]) * along[0] - (x - middle[0]) * along[1]
    teeth = (np.abs(u) < 0.3 * np.linalg.norm(other - corner)) & (np.abs(v) < 2)
    smiling = np.where(teeth[..., None], np.uint8(245), face)
    (sentence,) = read_face(bundle, video_of([smiling] * 3)).warnings
    assert sentence.startswith("The mouth never shuts or always shows teeth")
    assert not read_face(bundle, video_of([smiling] * 3 + [face])).warnings, "one moment at rest is enough"


def test_frames_with_a_head_turned_far_are_counted_in_a_warning(bundle, face):
    dubbed = read_face(bundle, video_of([face] * 3))
    dubbed.tracks.yaws[1] = 0.7  # radians
    (sentence,) = dubbed.warnings
    assert "In 1 of the 3 frames the head is turned by more than 34 degrees" in sentence


def test_after_a_shorter_voice_the_mouth_rests(built_in):
    track = MouthTrack(built_in, voice(0.4))
    after = track.at([Fraction(1), Fraction(100)], Fraction(1, 25))
    assert not torch.cat([after.opening, after.width, after.closure, after.tuck]).any()
    assert track.at([Fraction(n, 25) for n in range(8)], Fraction(1, 25)).opening.max() > 0.05


def test_the_motion_does_not_depend_on_the_frame_rate(built_in):
    track, length = MouthTrack(built_in, voice(1.0)), Fraction(0)
    fast = track.at([Fraction(n, 60) for n in range(60)], length)
    slow = track.at([Fraction(n, 12) for n in range(12)], length)
    torch.testing.assert_close(fast.opening[::5], slow.opening)


def test_a_video_without_a_face_is_refused(bundle, noise):
    with pytest.raises(NoFaceError, match=r"No face was detected in the 3 frames of the video \(128x128\)"):
        read_face(bundle, video_of([noise] * 3))


@pytest.fixture
def film(tmp_path, face, monkeypatch) -> VideoFrames:
    times = [Fraction(n, 100) for n in (0, 4, 8, 15, 16)]
    with VideoWriter(tmp_path / "film.mp4", fps=25, width=128, height=128, tick=Fraction(1, 100)) as video:
        video.write(np.stack([face] * 5), times)
    with wave.open(str(tmp_path / "voice.wav"), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes(bytes(RATE))  # half a second
    monkeypatch.chdir(tmp_path)
    return VideoFrames(tmp_path / "film.mp4")


def test_the_command_dubs_a_video_and_keeps_its_times(film, bundle, tmp_path, capsys):
    from emo_model.checkpoints import native

    native.save(tmp_path / "tiny.safetensors", bundle)
    said = "voice.wav"
    assert main(["film.mp4", said, "-o", "new.mp4", "--model", "tiny.safetensors", "--device", "cpu"]) == 0
    report, new = json.loads(capsys.readouterr().out), VideoFrames("new.mp4")
    times = [seconds for seconds, _ in new]
    assert report["frames"] == len(times) == len(read_video("new.mp4")[0])
    assert times[:5] == [seconds for seconds, _ in film]
    assert float(times[-1]) + 1 / 25 == pytest.approx(0.5, abs=0.05)  # as long as the voice
    import av

    with av.open("new.mp4") as container:
        assert container.metadata["comment"] == DUBBED


def test_the_command_takes_one_face_of_a_video_at_a_time(film, caplog):
    said = "voice.wav"
    assert main(["film.mp4", said, said, "-o", "new.mp4"]) == 2
    assert "one face of a video is dubbed at a time" in caplog.text
