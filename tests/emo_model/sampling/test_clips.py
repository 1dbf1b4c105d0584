"""The clip loop with a recorder in place of the model, and with the tiny model."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from emo_model.config import SamplingConfig
from emo_model.estimate import count_clips
from emo_model.models.context import Context
from emo_model.models.emo import Emo, LocatedFace
from emo_model.sampling.clips import ClipRenderer, generate_clips
from emo_model.sampling.progress import StepReport
from emo_model.sampling.samplers import SAMPLERS
from emo_model.types import FaceMasks, ReferenceFeatures

PLAIN = SamplingConfig(steps=3, audio_guidance=1.0)


class Recorder:
    """Has what the loop needs of Emo, and remembers what it was given."""

    def __init__(self, config):
        self.config, self.noise_shapes = config, None
        self.portraits, self.motions, self.clips, self.masks, self.predictions = [], [], [], [], 0

    def encode_reference(self, portrait, identity=None):
        self.portraits.append(portrait)
        return ReferenceFeatures({"a": portrait})

    def locate_face(self, mask, regions, *, like):
        self.masks.append(mask)
        return LocatedFace(mask, ())

    def cache(self, context):
        return context

    def embed_timesteps(self, timesteps, like):
        return torch.tensor(timesteps)[:, None]

    def encode_motion(self, motion, *, like):
        self.motions.append(motion.latents)
        return ReferenceFeatures()

    def prepare(self, reference, motion, clip, *, face, region_weights):
        self.clips.append(clip)
        return Context(reference, motion, clip.audio, clip.speed, face.features)

    def predict(self, noisy, timestep, context):
        self.predictions += 1
        return 0.1 * noisy + len(self.clips)


@pytest.fixture
def recorder(config) -> Recorder:
    return Recorder(config)


def test_each_clip_receives_the_last_frames_of_the_one_before(config, recorder, conditions):
    clips = list(generate_clips(ClipRenderer(recorder, conditions(config, frames=12), PLAIN)))
    assert len(clips) == len(recorder.motions) == 3
    assert recorder.motions[0] is None  # zero maps
    for motion, before in zip(recorder.motions[1:], clips, strict=False):
        assert torch.equal(motion, before[:, :, -config.motion_frames :])
    assert not torch.equal(recorder.motions[1], recorder.motions[2])


def test_each_clip_hears_its_own_windows_of_the_voice(config, recorder, conditions):
    whole = conditions(config, frames=11)
    list(generate_clips(ClipRenderer(recorder, whole, PLAIN)))
    heard = torch.cat([clip.audio for clip in recorder.clips], dim=1)[:, :11]
    assert torch.equal(heard, whole.clip(0, clip_frames=11, margin_frames=config.audio_margin_frames).audio)


@pytest.mark.parametrize("frames", [1, 3, 4, 5, 8, 11])
def test_there_are_as_many_frames_as_the_voice_has(config, recorder, conditions, frames):
    clips = list(generate_clips(ClipRenderer(recorder, conditions(config, frames=frames), PLAIN)))
    assert sum(clip.shape[2] for clip in clips) == frames
    assert [clip.shape[2] for clip in clips[:-1]] == [config.clip_frames] * (len(clips) - 1)
    assert len(clips) == count_clips(frames, config.clip_frames)


def test_the_portrait_is_read_once(config, recorder, conditions):
    whole = conditions(config, frames=12)
    list(generate_clips(ClipRenderer(recorder, whole, PLAIN)))
    assert len(recorder.portraits) == 1 and torch.equal(recorder.portraits[0], whole.portrait.latents)


def test_a_mask_is_looked_at_once_as_long_as_it_holds(config, recorder, conditions):
    whole = conditions(config, frames=20)
    first, late = whole.face_mask, replace(whole.face_mask, mask=1 - whole.face_mask.mask)
    changed = replace(whole, face_mask=FaceMasks.of(first).then(10 / whole.audio.fps, late))
    list(generate_clips(ClipRenderer(recorder, changed, PLAIN)))
    assert len(recorder.masks) == 3  # of 5 clips
    assert torch.equal(torch.cat(recorder.masks), torch.cat([first.mask, torch.ones_like(first.mask), late.mask]))
    assert len(recorder.portraits) == 1


def test_given_features_of_the_portrait_are_used_and_nothing_is_read(config, recorder, conditions, seeded):
    given = ReferenceFeatures({"a": seeded(1, 4, 8)})
    seen, prepare = [], recorder.prepare
    recorder.prepare = lambda reference, *others, **more: seen.append(reference) or prepare(reference, *others, **more)
    list(generate_clips(ClipRenderer(recorder, conditions(config, frames=4), PLAIN, reference=given)))
    assert recorder.portraits == [] and torch.equal(seen[0].features["a"], given.features["a"])


def test_a_clip_is_only_made_when_it_is_asked_for(config, recorder, conditions):
    clips = generate_clips(ClipRenderer(recorder, conditions(config, frames=4000), PLAIN))
    next(clips), next(clips)
    assert recorder.predictions == 2 * PLAIN.steps


def test_every_step_is_reported_with_its_clip(config, recorder, conditions):
    told: list[StepReport] = []
    list(generate_clips(ClipRenderer(recorder, conditions(config, frames=6), PLAIN, on_step=told.append)))
    assert [(report.clip, report.clips, report.step, report.steps) for report in told] == [
        (clip, 2, step, 3) for clip in (1, 2) for step in (1, 2, 3)
    ]
    assert all(report.denoised.shape == (1, 8, 4, 4, 4) for report in told)


def test_on_step_may_raise_and_stops_the_run_at_once(config, recorder, conditions):
    def cancel(report):
        if (report.clip, report.step) == (2, 1):
            raise InterruptedError("the user pressed cancel")

    clips = generate_clips(ClipRenderer(recorder, conditions(config, frames=40), PLAIN, on_step=cancel))
    next(clips)
    with pytest.raises(InterruptedError, match="cancel"):
        next(clips)
    assert recorder.predictions == PLAIN.steps + 1


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_seed_is_a_video_and_another_seed_another(emo, config, conditions, sampler):
    whole = conditions(config, frames=6)

    def video(seed: int):
        sampling = SamplingConfig(steps=2, sampler=sampler, seed=seed)
        return torch.cat(list(generate_clips(ClipRenderer(emo, whole, sampling))), dim=2)

    torch.manual_seed(1)
    one = video(5)
    torch.manual_seed(2)  # the world's own dice do not matter
    assert torch.equal(one, video(5)) and not torch.allclose(one, video(6), atol=0.1)


def test_the_clips_of_a_video_start_from_noise_of_their_own(config, recorder, conditions):
    starts = []
    recorder.predict = lambda noisy, timestep, context: starts.append(noisy) or torch.zeros_like(noisy)
    list(generate_clips(ClipRenderer(recorder, conditions(config, frames=8), replace(PLAIN, steps=1))))
    assert len(starts) == 2 and abs(torch.corrcoef(torch.stack([start.flatten() for start in starts]))[0, 1]) < 0.2


def test_clips_begin_with_noise_of_the_scale_that_is_asked_for(config, recorder, conditions):
    starts = []
    recorder.predict = lambda noisy, timestep, context: starts.append(noisy) or torch.zeros_like(noisy)
    recorder.config = replace(config, noise_scale=1.0)
    for scale in (1.0, 0.75, 0.0):
        list(
            generate_clips(
                ClipRenderer(recorder, conditions(config, frames=4), replace(PLAIN, steps=1, noise_scale=scale))
            )
        )
    full, less, none = starts
    torch.testing.assert_close(less, 0.75 * full)
    assert full.std() > 0.9 and not none.any()
    recorder.config = replace(config, noise_scale=0.8)
    list(generate_clips(ClipRenderer(recorder, conditions(config, frames=4), replace(PLAIN, steps=1, noise_scale=0.5))))
    torch.testing.assert_close(starts[3], 0.4 * full)  # times what suits the model
    recorder.config = replace(config, noise_scale=(0.5, *[1.0] * 7))
    list(generate_clips(ClipRenderer(recorder, conditions(config, frames=4), replace(PLAIN, steps=1))))
    torch.testing.assert_close(starts[4][:, :1], 0.5 * full[:, :1])
    torch.testing.assert_close(starts[4][:, 1:], full[:, 1:])


def test_motion_frames_change_what_the_next_clip_becomes(emo, config, conditions):
    whole = conditions(config, frames=8)
    other = replace(
        whole, audio=replace(whole.audio, frames=torch.cat([-whole.audio.frames[:2], whole.audio.frames[2:]]))
    )
    one, two = (list(generate_clips(ClipRenderer(emo, voice, PLAIN))) for voice in (whole, other))
    assert whole.clip(4, clip_frames=4, margin_frames=2).audio.equal(
        other.clip(4, clip_frames=4, margin_frames=2).audio
    )
    assert not torch.allclose(one[1], two[1], atol=1e-4)  # clip 2 hears the same, but saw another end of clip 1


def test_the_model_runs_in_the_dtype_it_was_given_and_the_sampler_in_float32(config, awake, conditions):
    emo = awake(Emo(config)).to(torch.bfloat16)
    before = {name: value.clone() for name, value in emo.state_dict().items()}
    sampling = SamplingConfig(steps=2, reference_guidance=1.5)
    clips = list(generate_clips(ClipRenderer(emo, conditions(config, frames=6), sampling, dtype=torch.bfloat16)))
    assert all(clip.dtype == torch.float32 and clip.isfinite().all() for clip in clips)
    assert all(
        value.dtype == torch.bfloat16 and torch.equal(value, before[name]) for name, value in emo.state_dict().items()
    )
    assert not any(clip.requires_grad for clip in clips)


@pytest.mark.parametrize(
    ("sampler", "frames", "steps", "reference_guidance"), [("ddim", 6, 1, 1.5), ("dpmpp_2m", 3, 4, 1.0)]
)
def test_everything_follows_the_device_it_was_given(config, conditions, sampler, frames, steps, reference_guidance):
    config = replace(config, noise_shapes=0, noise_frames=())  # shapes have no numbers on this device
    with torch.device("meta"):
        emo = Emo(config)  # an operation that mixes devices raises
    sampling = SamplingConfig(steps=steps, sampler=sampler, audio_guidance=1.0, reference_guidance=reference_guidance)
    clips = list(generate_clips(ClipRenderer(emo, conditions(config, frames=frames), sampling, device="meta")))
    assert [clip.device.type for clip in clips] == ["meta"] * len(clips) and sum(
        clip.shape[2] for clip in clips
    ) == frames
