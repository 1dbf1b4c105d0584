"""Several faces of one picture, in the nodes: letters, voices, schedules, and one video of all."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

INPUTS = {"schedule": "", "order": "together"}
SAMPLED = {"seed": 3, "steps": 1, "sampler": "ddim", "audio_guidance": 1.0, "reference_guidance": 1.0}
WRITTEN = {"fps": 25.0, "quality": 0, "filename_prefix": "several"}


@pytest.fixture(scope="module")
def people(pack):
    """IMAGE (1, 131, 247, 3): the shipped two people, half as large."""
    import torch.nn.functional as F

    pixels = F.interpolate(pack["nodes.shipped"].portrait("two people"), size=(130, 246), mode="area")
    return pack["nodes.conversions"].images(pixels)


def sound(seconds: float, rate: int = 16_000) -> dict:
    from videos import tone

    return {"waveform": tone(seconds, rate)[None], "sample_rate": rate}


@pytest.fixture(scope="module")
def found(pack, tiny, people) -> SimpleNamespace:
    made = pack.run("EmoSeveralFaces", model=tiny.model, **INPUTS, image=people, voice_a=sound(0.4), voice_b=sound(0.3))
    references, features, audio, picture, _ = made.result
    return SimpleNamespace(references=references, features=features, audio=audio, picture=picture)


def sampled(pack, tiny, reference, features, **changes):
    how = {**SAMPLED, "reference": reference, "audio_features": features, **changes}
    return pack.run("EmoSampler", model=tiny.model, **how).result[0]


def frames_of(pack, faces, **more) -> np.ndarray:
    from videos import read_video

    (video,) = pack.run("EmoVideoCombine", **WRITTEN, faces=faces, **more).result
    return read_video(video.get_stream_source())[0]


def test_faces_are_lettered_from_the_left_and_shown_so(pack, found, people):
    import torch

    fits = [reference.portrait.fit for reference in found.references]
    assert len(fits) == 2 and fits[0].left < fits[1].left and [one.number for one in found.references] == [0, 1]
    changed = (found.picture - people).abs().amax((0, 3)) > 0.1
    assert found.picture.shape == people.shape
    for half in (changed[:, :123], changed[:, 123:]):
        assert 200 < half.sum() < 4000
    assert not torch.equal(found.picture[0, :, :123], found.picture[0, :, 123:])


def test_the_video_is_as_long_as_the_longest_voice_and_has_them_all(found):
    assert [len(one.frames) for one in found.features] == [10, 10]
    assert found.audio["waveform"].shape == (1, 1, 6400) and found.audio["sample_rate"] == 16_000
    late = found.audio["waveform"][0, 0, 5000:]
    assert 0.4 < late.abs().max() < 0.6 < found.audio["waveform"][0, 0, :4000].abs().max()


def test_one_voice_is_given_to_faces_by_a_schedule_and_silence_is_the_same_for_all(pack, tiny, people):
    import torch

    how = {"schedule": "0-0.1 B", "order": "together", "image": people}
    _, (first, second), audio, *_ = pack.run("EmoSeveralFaces", model=tiny.model, **how, voice_a=sound(0.4)).result
    quiet = tiny.audio_encoder.encode_audio(torch.zeros(1, 1, 6400), 16_000)["encoded_audio_all_layers"][0]
    assert torch.allclose(first.frames[3], quiet[0, 7], atol=1e-4) and not torch.equal(
        first.frames[2], second.frames[2]
    )
    assert torch.equal(audio["waveform"], sound(0.4)["waveform"])


def test_each_face_has_movements_of_its_own_and_the_rest_stays_the_pictures(pack, tiny, found, people):
    clips = [sampled(pack, tiny, one, voice) for one, voice in zip(found.references, found.features, strict=True)]
    (faces,) = pack.run("EmoCombineFaces", clips=clips, reference=found.references).result
    blocks = pack["nodes.comfy_bridge"].decode_together(faces, frames=10)
    frames = np.concatenate(list(blocks))
    still = (people[0].numpy() * 255).round().astype(np.uint8)
    assert frames.shape == (10, 130, 246, 3)
    outside = np.ones(still.shape[:2], dtype=bool)
    for reference in found.references:
        fit = reference.portrait.fit
        outside[max(0, fit.top) : fit.top + fit.side, max(0, fit.left) : fit.left + fit.side] = False
        middle = frames[:, fit.top + fit.side // 2, fit.left + fit.side // 2 - 8 : fit.left + fit.side // 2 + 8]
        assert (middle != middle[:1]).any()
    assert all(np.array_equal(frame[outside], still[outside]) for frame in frames)
    shown = frames_of(pack, faces, audio=found.audio)
    assert shown.shape == frames.shape and np.abs(shown.astype(int) - frames).mean() < 6
    same = sampled(pack, tiny, found.references[0], found.features[1])
    assert not np.array_equal(same.clip(0).numpy(), clips[1].clip(0).numpy())  # another seed, another portrait


def test_faces_sampled_apart_are_combined_and_the_shorter_comes_to_rest(pack, tiny, people):
    import torch

    given = {"model": tiny.model, "vae": tiny.vae, "fit": "crop", "image": people}
    made = []
    for which, seconds in (("1", 0.2), ("2", 1.0)):
        reference = pack.run("EmoReferenceEncoder", **given, which_face=which).result[0]
        features = pack.run("EmoAudioEncoder", fps=25.0, audio=sound(seconds), audio_encoder=tiny.audio_encoder).result[
            0
        ]
        made.append((sampled(pack, tiny, reference, features), reference))
    (one, first), (other, second) = made
    pairs = {"clips": [other], "reference": [second], "clips_3": [one], "reference_3": [first]}
    (faces,) = pack.run("EmoCombineFaces", **pairs).result
    assert [face.clips.frames for face in faces] == [25, 5]
    frames = np.concatenate(list(pack["nodes.comfy_bridge"].decode_together(faces, frames=25)))
    rests = frames[20:, :, :100]
    assert (frames[0, :, :100] != rests[0]).any() and all(np.array_equal(rests[0], frame) for frame in rests)
    assert (frames[23, :, 140:] != frames[24, :, 140:]).any()
    assert torch.equal(first.portrait.latents, faces[1].reference.portrait.latents)


def test_masks_and_boxes_choose_the_faces_in_their_order(pack, tiny, people, found):
    import torch

    masks = torch.zeros(2, 130, 246)
    masks[0, 30:120, 145:220] = 1
    masks[1, 30:120, 28:102] = 1
    boxes = [{"x": 145, "y": 30, "width": 75, "height": 90}]
    how = {"model": tiny.model, **INPUTS, "image": people, "voice_a": sound(0.1)}
    painted = pack.run("EmoSeveralFaces", **how, masks=masks).result[0]
    boxed = pack.run("EmoSeveralFaces", **how, boxes=boxes).result[0]
    assert [one.portrait.fit.left > 60 for one in painted] == [True, False] and len(boxed) == 1
    for one in (painted[0], boxed[0]):
        assert abs(one.portrait.fit.left - found.references[1].portrait.fit.left) < 6
    unpainted = pack.run("EmoSeveralFaces", **how, masks=torch.zeros(1, 64, 64)).result[0]
    assert [one.portrait.fit for one in unpainted] == [one.portrait.fit for one in found.references]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"schedule": "0-3 C"},
            "Change 'schedule', 'order' or the voices: the schedule names C, but there are 2 faces: A, B",
        ),
        ({"voice_c": 0.1}, "there are 3 voices for 2 faces"),
        ({"schedule": "0-x A"}, "Write 'schedule' as intervals and letters: '0-x A' at position 1"),
        ({"order": "by age"}, "'by age' is not an order of voices"),
        ({"voice_b": None}, "The link to 'voice_b' carries nothing"),
        ({"boxes": []}, "Disconnect 'boxes'"),
        ({"long_side": 3}, "Set 'long_side'"),
    ],
)
def test_what_cannot_be_is_refused_with_a_sentence(pack, tiny, people, changes, says):
    given = {key: sound(value) if isinstance(value, float) else value for key, value in changes.items()}
    how = {**INPUTS, "image": people, "voice_a": sound(0.1), "voice_b": sound(0.1), **given}
    with pytest.raises(ValueError) as error:
        pack.run("EmoSeveralFaces", model=tiny.model, **how)
    assert says in str(error.value)


def test_a_face_without_a_voice_waits_and_each_face_has_its_own_dials(pack, tiny, people):
    smiling = pack["emo_model.sampling.expression"].Expression.of(smile=1)
    made = pack.run(
        "EmoSeveralFaces", model=tiny.model, **INPUTS, image=people, voice_a=sound(0.2), expression_b=smiling
    ).result
    references, features, expressions = made[0], made[1], made[4]
    assert [one.silent for one in features] == [(), ((0.0, 0.2),)]
    assert expressions[0].is_neutral and expressions[1] is smiling
    first, second = (
        sampled(pack, tiny, *one, expression=dials)
        for *one, dials in zip(references, features, expressions, strict=True)
    )
    assert first.direction.is_neutral
    dials = next(iter(second))[0, tiny.config.latent_channels :]
    assert (dials[0] == -1).all() and (dials[1] == 1).all()


def test_a_video_of_several_faces_is_continued_face_by_face_from_the_latents_that_it_carries(
    pack, tiny, found, monkeypatch
):
    import torch
    from comfy_api.latest import InputImpl

    scaled, made = pack["emo_model.inputs.vae"].to_scaled, []
    for reference, furthest in zip(found.references, (0.3, -0.3), strict=True):
        rest = reference.portrait.latents[:, :, None]
        moves = torch.zeros(1, rest.shape[1], 6, *rest.shape[3:])
        moves[:, :1] = torch.linspace(0, furthest, 6).view(1, 1, 6, 1, 1)
        made.append(rest + scaled(moves, tiny.config))
    clips = [sampled(pack, tiny, one, voice) for one, voice in zip(found.references, found.features, strict=True)]
    size = tiny.config.clip_frames
    clips = [replace(one, frames=6, keys=(number,) * -(-6 // size)) for number, one in enumerate(clips)]
    monkeypatch.setattr(type(clips[0]), "clip", lambda self, k: made[self.keys[0]][:, :, k * size : (k + 1) * size])
    (faces,) = pack.run("EmoCombineFaces", clips=clips, reference=found.references).result
    (video,) = pack.run("EmoVideoCombine", **WRITTEN, faces=faces).result
    video = InputImpl.VideoFromFile(video.get_stream_source())
    for reference, own in zip(found.references, made, strict=True):
        motion = pack.run("EmoContinueFrom", model=tiny.model, video=video, reference=reference).result[0]
        assert motion.latents.equal(own[:, :, -tiny.config.motion_frames :].half().float())


def test_faces_that_do_not_belong_together_are_refused(pack, tiny, found, reference):
    clips = sampled(pack, tiny, found.references[0], found.features[0])
    for pairs, says in (
        ({"clips": [clips], "reference": found.references}, "there are 1 clips and 2 references"),
        ({"clips": [clips, clips], "reference": [found.references[0]] * 2}, "Connect each face once"),
        ({"clips": [clips, clips], "reference": [found.references[0], reference]}, "Make all references from the same"),
    ):
        with pytest.raises(ValueError, match=says):
            pack.run("EmoCombineFaces", **pairs)
    (faces,) = pack.run("EmoCombineFaces", clips=[clips], reference=found.references[:1]).result
    for more, says in (
        ({"frame": "head only"}, "Set 'frame' to 'whole picture'"),
        ({"clips": clips}, "'clips' and 'faces' are connected"),
    ):
        with pytest.raises(ValueError, match=says):
            pack.run("EmoVideoCombine", **WRITTEN, faces=faces, **more)
