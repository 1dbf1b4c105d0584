from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from emo_model.auxiliary.audio_encoder import mel_filters
from emo_model.config import AudioEncoderConfig
from emo_model.synthetic.speech import RATE, Speech
from emo_model.synthetic.visemes import mouth_tracks
from emo_model.training import audio_encoder as module
from emo_model.training.audio_encoder import SOUNDS, AudioEncoderTask, Shares, distort, measure_audio_encoder

SMALL = AudioEncoderConfig(mel_bands=16, width=16, blocks=2, features=8)


def babble(seed: int, seconds: float = 3.0) -> Speech:
    """'a' as a low hum, 'i' as a high whistle, 'm' hardly heard: a language that is easy to learn."""
    generator = torch.Generator().manual_seed(seed)
    now, waveform, phonemes = 0.2, torch.zeros(round(seconds * RATE)), []
    time = torch.arange(len(waveform)) / RATE
    while now < seconds - 0.4:
        ipa = "aim"[int(torch.randint(3, (), generator=generator))]
        end = now + 0.15 + 0.15 * float(torch.rand((), generator=generator))
        here = slice(round(now * RATE), round(end * RATE))
        hertz, size = {"a": (400, 0.3), "i": (2500, 0.3), "m": (150, 0.05)}[ipa]
        waveform[here] = size * torch.sin(2 * torch.pi * hertz * time[here])
        phonemes.append((ipa, now, end))
        now = end
    return Speech(waveform, tuple(phonemes), f"babble:{seed % 2}", "test", "en")


@pytest.fixture(scope="module")
def task() -> AudioEncoderTask:
    return AudioEncoderTask(SMALL, [babble(seed) for seed in range(4)], batch_size=4, seconds=1.6, seed=0)


def test_batches_depend_on_the_step_alone(task):
    first, again, other = task.batch(5), task.batch(5), task.batch(6)
    assert torch.equal(first.mel, again.mel)
    assert torch.equal(first.tracks, again.tracks)
    assert not torch.equal(first.mel, other.mel)


def test_a_batch_has_the_shapes_it_says(task):
    batch = task.batch(0)
    assert batch.mel.shape == (4, 160, 16)
    assert batch.tracks.shape == (4, 80, 4)
    assert batch.sounds.shape == (4, 80)
    assert int(batch.sounds.max()) < len(SOUNDS)


def test_sound_and_mouth_of_a_batch_belong_together():
    hum = babble(1)
    quiet = Speech(hum.waveform, (), "test", "test", "en")  # a mouth that never opens
    open_mouth = AudioEncoderTask(SMALL, [hum], batch_size=8, seconds=1.6).batch(0)
    assert open_mouth.tracks[open_mouth.sounds == SOUNDS.index("a")][:, 0].mean() > 0.5
    assert open_mouth.tracks[open_mouth.sounds == SOUNDS.index("")][:, 0].mean() < 0.3
    assert AudioEncoderTask(SMALL, [quiet], batch_size=8, seconds=1.6).batch(0).tracks.abs().max() == 0


def test_it_learns_an_easy_language(task):
    optimizer = torch.optim.AdamW(task.parameters(), lr=5e-3)
    losses = []
    for step in range(80):
        loss, values = task(task.batch(step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(values["opening"])
    assert sum(losses[-10:]) < 0.5 * sum(losses[:10])
    heard = measure_audio_encoder(task.encoder, [babble(50), babble(51)])
    assert heard["all"]["opening"] > 0.6
    assert set(heard) == {"all", "babble:0", "babble:1"}


def test_a_perfect_reading_of_the_mouth_correlates_fully():
    speech = babble(0)

    class Oracle:
        def __call__(self, waveform):
            return mouth_tracks(speech, fps=50)[None]

        def mouth(self, features):
            return features

    assert measure_audio_encoder(Oracle(), [speech])["all"]["opening"] == pytest.approx(1.0)


def test_distortion_moves_nothing_in_time():
    mel = torch.full((64, 120, 40), 1e-6)
    mel[:, 60:70] = 1.0
    changed = distort(mel, torch.Generator().manual_seed(0))
    assert changed.shape == mel.shape
    assert (changed.mean(-1)[:, 60:70].mean(1) > 2 * changed.mean(-1)[:, :58].mean(1)).float().mean() > 0.9
    assert not torch.equal(changed[0], changed[1])


def test_distortion_keeps_power_a_positive_number():
    mel = torch.rand(16, 50, 40, generator=torch.Generator().manual_seed(0)) ** 8
    mel[:, :10] = 0
    changed = distort(mel, torch.Generator().manual_seed(1))
    assert changed.isfinite().all()
    assert (changed >= 0).all()


def test_clips_too_short_to_train_on_are_refused():
    with pytest.raises(ValueError, match="at least 5.2 s"):
        AudioEncoderTask(SMALL, [babble(0)], seconds=4.0)


def silence(seed: int = 0, seconds: float = 3.0) -> Speech:
    """A voice of faint noise with an open mouth: its tracks tell which pieces kept their voice."""
    waveform = 1e-3 * torch.randn(round(seconds * RATE), generator=torch.Generator().manual_seed(seed))
    return Speech(waveform, (("a", 0.0, seconds),), "test", "test", "en")


def tone(seconds: float = 3.0) -> torch.Tensor:
    return 0.1 * torch.sin(0.7 * torch.arange(round(seconds * RATE)))


def test_so_many_pieces_have_no_voice_and_a_shut_mouth():
    task = AudioEncoderTask(
        SMALL, [silence()], beds=[tone()], shares=Shares(voiceless=0.25, accompanied=0.5), batch_size=400, seconds=1.0
    )
    batch = task.batch(0)
    shut = batch.tracks.abs().amax((1, 2)) == 0
    assert 0.19 < float(shut.float().mean()) < 0.31
    assert bool((batch.sounds[shut] == 0).all())
    assert bool((batch.sounds[~shut] == SOUNDS.index("a")).all())


def test_so_many_voices_are_sung():
    sung = replace(babble(1), phonemes=(), sung=True)  # told apart by a mouth that never opens
    task = AudioEncoderTask(SMALL, [silence(), sung], shares=Shares(sung=0.3), batch_size=400, seconds=1.0)
    shut = task.batch(0).tracks.abs().amax((1, 2)) == 0
    assert 0.23 < float(shut.float().mean()) < 0.37


def test_beds_lie_under_the_voice_at_the_drawn_level(monkeypatch):
    monkeypatch.setattr(module, "distort_voice", lambda mel, generator: mel)
    monkeypatch.setattr(module, "distort_sound", lambda mel, generator: mel)
    monkeypatch.setattr(module, "_through_tract", lambda mel, spread, generator: mel)
    monkeypatch.setattr(module, "_through_microphone", lambda mel, generator: mel)
    noise = torch.randn(5 * RATE, generator=torch.Generator().manual_seed(1))
    power = {}
    for decibels in (40.0, 5.0):  # nearly nothing, and 5 dB below
        task = AudioEncoderTask(
            SMALL,
            [silence(seconds=5.0)],
            beds=[noise],
            batch_size=4,
            seconds=3.0,
            shares=Shares(voiceless=0.0, accompanied=1.0, plain=0.0, snr=(decibels, decibels)),
        )
        mel = task.batch(0).mel
        power[decibels] = float((mel @ (1 / mel_filters(mel.shape[2]).amax(1))).mean())
    assert power[5.0] / power[40.0] == pytest.approx(1 + 10**-0.5, rel=0.05)


def test_so_many_pieces_are_heard_as_they_were_recorded(monkeypatch):
    monkeypatch.setattr(module, "_through_tract", lambda mel, spread, generator: mel)
    monkeypatch.setattr(module, "distort_sound", lambda mel, generator: 1e3 + 0 * mel)
    task = AudioEncoderTask(SMALL, [silence()], shares=Shares(plain=0.25), batch_size=400, seconds=1.0)
    plain = (task.batch(0).mel < 1e2).all(2).all(1)
    assert 0.19 < float(plain.float().mean()) < 0.31


def test_batches_over_beds_depend_on_the_step_alone():
    task = AudioEncoderTask(SMALL, [babble(0)], beds=[tone(), 2 * tone()], batch_size=4, seconds=1.6)
    assert torch.equal(task.batch(3).mel, task.batch(3).mel)
    assert not torch.equal(task.batch(3).mel, task.batch(4).mel)


def test_beds_too_short_for_a_piece_are_refused():
    with pytest.raises(ValueError, match="need beds that are longer, the shortest has 1.0 s"):
        AudioEncoderTask(SMALL, [babble(0)], beds=[tone(1.0)], seconds=1.6)


def test_more_blocks_change_nothing_at_first():
    shallow = AudioEncoderTask(SMALL, [babble(0)], seconds=1.6).encoder
    deep = AudioEncoderTask(
        replace(SMALL, blocks=4), [babble(0)], seconds=1.6, start=shallow.state_dict(), seed=7
    ).encoder
    sound = babble(2).waveform[None]
    torch.testing.assert_close(deep(sound), shallow(sound))
    assert len(deep.blocks) == 4


def test_weights_of_another_width_are_refused():
    other = AudioEncoderTask(replace(SMALL, width=8), [babble(0)], seconds=1.6).encoder.state_dict()
    with pytest.raises(ValueError, match="another encoder"):
        AudioEncoderTask(SMALL, [babble(0)], seconds=1.6, start=other)


@pytest.fixture(scope="module")
def known():
    """An encoder that reads 'babble' well, as a task with its weights that keeps its features."""
    task = AudioEncoderTask(SMALL, [babble(0), babble(1)], batch_size=8, seconds=1.6)
    optimizer = torch.optim.AdamW(task.parameters(), lr=1e-2)
    for step in range(60):
        loss, _ = task(task.batch(step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    task.zero_grad()
    return task.encoder.eval()


class TestKeeping:
    def keeping(self, known, clips):
        start = {name: value.clone() for name, value in known.state_dict().items()}
        return AudioEncoderTask(SMALL, clips, start=start, keep=known, batch_size=8, seconds=1.6)

    def test_what_is_read_well_is_trusted_and_silence_is_not(self, known, monkeypatch):
        monkeypatch.setattr(module, "TRUSTED", 0.6)
        quiet = replace(babble(0), phonemes=())
        assert self.keeping(known, [babble(0), quiet]).trusted.tolist() == [True, False]

    def test_undistorted_features_have_not_moved_at_first(self, known, monkeypatch):
        monkeypatch.setattr(module, "TRUSTED", 0.0)
        task = self.keeping(known, [babble(0), babble(1)])
        batch = task.batch(0)
        _, numbers = task(replace(batch, mel=batch.clear))
        assert numbers["moved"] == pytest.approx(0, abs=1e-8)
        assert task(batch)[1]["moved"] > 1e-3

    def test_the_reading_layer_rests_and_the_kept_encoder_too(self, known, monkeypatch):
        monkeypatch.setattr(module, "TRUSTED", 0.0)
        task = self.keeping(known, [babble(0), babble(1)])
        task(task.batch(0))[0].backward()
        assert task.encoder.tracks.weight.grad is None and task.encoder.feature_norm.weight.grad is None
        assert task.encoder.narrow.weight.grad.abs().max() > 0
        assert all(value.grad is None for value in known.parameters())
        assert not any(name.startswith("kept") for name in task.state_dict())
