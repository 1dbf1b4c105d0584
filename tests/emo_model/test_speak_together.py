"""Several faces of one picture speak: which, when, and what stays as it is; in the library and by the command."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from videos import read_video, tone

import emo_model
from emo_model import talk
from emo_model.__main__ import EXAMPLES, main
from emo_model.checkpoints import native
from emo_model.checkpoints.mediapipe import load_face_finder
from emo_model.config import SamplingConfig
from emo_model.inputs.audio import read_audio
from emo_model.inputs.faces import from_left
from emo_model.inputs.media import read_picture, to_uint8
from emo_model.sampling.expression import Expression
from emo_model.types import MotionFrames

QUICK = SamplingConfig(steps=1, audio_guidance=1.0)
VOICE = tone(0.32, 16_000), 16_000


def crowd(count: int) -> torch.Tensor:
    """The shipped portrait, `count` times side by side, 100 pixels each: (1, 3, 140, 110 count + 60)."""
    face = F.interpolate(read_picture(EXAMPLES / "emo_portrait.jpg"), size=(100, 100), mode="area")
    noise = torch.rand(1, 3, 140, 110 * count + 60, generator=torch.Generator().manual_seed(1)) * 2 - 1
    for number in range(count):
        noise[:, :, 20:120, 30 + 110 * number : 130 + 110 * number] = face
    return noise


@pytest.mark.parametrize("count", [2, 3, 4])
def test_all_faces_move_each_in_its_own_way_and_nothing_outside_does(bundle, count):
    picture = crowd(count)
    group = talk.prepare_together(bundle, picture, [VOICE], sampling=QUICK)
    assert list(group.scenes) == list("ABCD"[:count])
    frames = np.concatenate([block for latents in group.generate() for block in group.blocks(latents)])
    still = to_uint8(picture)[0]
    outside, moves = np.ones(still.shape[:2], dtype=bool), []
    for scene in group.scenes.values():
        fit = scene.conditions.portrait.fit
        outside[max(0, fit.top) : fit.top + fit.side, max(0, fit.left) : fit.left + fit.side] = False
        y, x = fit.top + fit.side // 2, fit.left + fit.side // 2
        moves.append(frames[:, y - 20 : y + 20, x - 20 : x + 20].astype(int) - still[y - 20 : y + 20, x - 20 : x + 20])
    assert len(frames) == 8 and outside.sum() > 500
    assert all(np.array_equal(frame[outside], still[outside]) for frame in frames)
    assert all(np.abs(own).mean() > 1 for own in moves)
    assert all(np.abs(moves[0] - other).mean() > 1 for other in moves[1:])  # the same portrait, seeds of their own
    blocks = emo_model.speak_together(bundle, picture, [VOICE], sampling=QUICK)
    assert np.array_equal(np.concatenate(list(blocks)), frames)


def test_one_face_of_several_is_as_speak_makes_it(bundle):
    picture = crowd(2)
    together = emo_model.speak_together(bundle, picture, [VOICE], faces=["A"], sampling=QUICK)
    alone = emo_model.speak(bundle, picture, VOICE, face="leftmost", sampling=QUICK)
    assert np.array_equal(np.concatenate(list(together)), np.concatenate(list(alone)))


def test_a_video_of_several_faces_continues_where_it_ended(bundle):
    group = talk.prepare_together(bundle, crowd(2), [VOICE, VOICE], sampling=QUICK)
    clips = list(group.generate())
    motion = MotionFrames.last_of(clips[0], bundle.config.motion_frames)
    again = next(group.generate(motion=motion))
    assert again.shape == clips[1].shape and not torch.equal(again, clips[0])
    with pytest.raises(ValueError, match="the video to continue has 1 faces, but 2 are to move"):
        group.generate(motion=MotionFrames(motion.latents[:1]))


def test_a_face_without_a_voice_rests_its_mouth_and_a_face_may_have_dials_of_its_own(bundle):
    smiling = Expression.of(smile=1)
    how = {"sampling": QUICK, "expressions": {"A": smiling}}
    latents = next(talk.prepare_together(bundle, crowd(2), [VOICE], **how).generate())
    mouth, smile = latents[:, bundle.config.latent_channels :][:, :2].unbind(1)
    assert not mouth[0].any() and (smile[0] == 1).all()
    assert (mouth[1] == -1).all() and not smile[1].any()
    with pytest.raises(ValueError, match="there are dials of face C, but the faces are A, B"):
        talk.prepare_together(bundle, crowd(2), [VOICE], sampling=QUICK, expressions={"C": smiling})


@pytest.mark.parametrize(
    ("faces", "says"),
    [
        (["A", "1"], "a face is chosen twice in A, 1"),
        (["A", (0.1, 0.1, 0.4, 0.9)], "by boxes or by letters"),
        ([(40, 30, 120, 110), (42, 30, 122, 110)], "faces A and B are the same face"),
        (["C"], "there are 2 faces in the picture, but face C was selected"),
        ([], "no face is chosen"),
    ],
)
def test_faces_are_chosen_once_and_in_one_way(bundle, faces, says):
    with pytest.raises(ValueError, match=says):
        talk.prepare_together(bundle, crowd(2), [VOICE], faces=faces)


def test_mouths_move_in_their_intervals_and_rest_outside():
    """Read from the finished frames by the face mesh, with the built-in fast model: opening of the inner lips, spread
    over the frames in which a face speaks against those in which it is silent."""
    try:
        bundle = talk.load("fast")
    except (OSError, ValueError) as error:
        pytest.skip(f"no weights of the built-in model: {error}")
    voice, rate = read_audio(EXAMPLES / "emo_voice.wav")
    voice, spoken = (voice[:, : round(1.6 * rate)], rate), {"A": (0, 20), "B": (20, 40)}
    blocks = emo_model.speak_together(
        bundle, EXAMPLES / "emo_two_people.jpg", [voice], schedule="0-0.8 A; 0.8-1.6 B", long_side=320
    )
    frames = torch.from_numpy(np.concatenate(list(blocks))).permute(0, 3, 1, 2).float() / 127.5 - 1
    finder = load_face_finder()
    for letter, face in zip("AB", from_left(finder.find(frames[:1])), strict=True):
        seen = finder.follow(frames[::2], face)
        opening = torch.tensor([(one.mesh[13, :2] - one.mesh[14, :2]).norm().item() / one.height for one in seen])
        begin, end = (edge // 2 for edge in spoken[letter])
        speaks = torch.zeros(len(opening), dtype=torch.bool)
        speaks[begin:end] = True
        silent = ~speaks
        silent[max(0, begin - 4) : end + 4] = False  # lips open and shut around a sound
        assert opening[speaks].amax() - opening[speaks].amin() > 0.02
        assert opening[silent].amax() - opening[silent].amin() < 0.5 * (opening[speaks].amax() - opening[speaks].amin())
        places = torch.stack([one.mesh[:, :2].mean(0) for one in seen])[silent]
        assert places.std(0).norm() > 0.2  # pixels: the head is alive


@pytest.fixture
def folder(tmp_path, bundle, monkeypatch):
    from PIL import Image

    native.save(tmp_path / "tiny.safetensors", bundle)
    Image.fromarray(to_uint8(crowd(2))[0]).save(tmp_path / "two.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


COMMAND = ("-o", "talk.mp4", "--model", "tiny.safetensors", "--steps", "1", "--device", "cpu", "--clips", "clips")
A, B = (str(EXAMPLES / f"emo_voice_{letter}.wav") for letter in "ab")


def test_the_command_takes_a_voice_for_each_face_and_resumes(folder, capsys):
    assert main(["two.png", A, B, *COMMAND, "--fps", "5", "--in-turn"]) == 0
    first = json.loads(capsys.readouterr().out)
    assert (first["frames"], first["clips"], first["rendered"]) == (24, 12, 12)  # 4.845 s; two faces
    assert len(read_video("talk.mp4")[0]) == 24
    sound, rate = read_audio("talk.mp4")
    assert rate == 16_000 and abs(sound.shape[1] - 4.845 * rate) < 1100
    clips = sorted((folder / "clips").glob("*.safetensors"))
    assert len(clips) == 12
    clips[0].unlink()
    assert main(["two.png", A, B, *COMMAND, "--fps", "5", "--in-turn"]) == 0
    assert 1 <= json.loads(capsys.readouterr().out)["rendered"] <= 6  # of one face; the other is untouched


def test_the_command_reads_a_schedule_and_a_choice_of_faces(folder, capsys, caplog):
    assert main(["two.png", A, *COMMAND, "--fps", "4", "--schedule", "0-1 B", "--which-face", "B"]) == 0
    assert json.loads(capsys.readouterr().out)["clips"] == 2
    for more, says in (
        (["--schedule", "0-1 B; now A"], "'now A' at position 8 of the schedule"),
        (["--schedule", "0-1 C"], "the schedule names C, but there are 2 faces: A, B"),
        (["--which-face", "all", "--square"], "drop --square"),
        (["--in-turn"], "--in-turn needs several voices"),
        (["--which-face", "all", "--dials-of", "B", "grin=1"], "--dials-of B names 'grin'; write a face and its dials"),
        (["--which-face", "all", "--dials-of", "B", "smile=7"], "'smile' is 7, but must be 0 to 1"),
        (["--dials-of", "A", "smile=1"], "--dials-of is for several faces, and one moves"),
    ):
        assert main(["two.png", A, *COMMAND, *more]) == 2
        assert says in caplog.records[-1].getMessage()


def test_the_check_shows_the_letters(folder, capsys, caplog):
    caplog.set_level("INFO")
    assert main(["--check", "two.png"]) == 0
    letters = json.loads(capsys.readouterr().out)["letters"]
    assert list(letters) == ["A", "B"] and letters["A"]["box"][0] < letters["B"]["box"][0]
    assert "Faces from the left: A at (" in caplog.text
    assert main(["--check", "two.png", "--which-face", "all"]) == 0
    each = json.loads(capsys.readouterr().out)["letters"]
    assert each["A"]["height"] > 60 and each["B"]["warnings"]
