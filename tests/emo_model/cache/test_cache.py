"""Clips on the disk: nothing finished is lost, nothing torn is believed, and only what changed is rendered again."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from emo_model.cache.folder import CacheLimits, ClipCache
from emo_model.cache.keys import ClipKeys, weights_of
from emo_model.cache.renderer import CachedRenderer
from emo_model.config import SamplingConfig
from emo_model.estimate import count_clips
from emo_model.sampling.clips import ClipRenderer, generate_clips
from emo_model.types import FaceMasks, MotionFrames, ReferenceFeatures, Speed

QUICK = SamplingConfig(steps=2, audio_guidance=1.0)
LONG = 30  # frames; 8 clips of 4, the last padded


@pytest.fixture
def cache(tmp_path) -> ClipCache:
    return ClipCache(tmp_path / "clips")


@pytest.fixture
def render(emo, cache):
    """render(conditions) -> (video, how many clips were rendered for it)."""

    def run(whole, *, sampling=QUICK, where=cache, finished_only=False, **how):
        with where.run() as run:
            render = CachedRenderer(ClipRenderer(emo, whole, sampling, **how), run, finished_only=finished_only)
            clips = list(generate_clips(render))
            return torch.cat(clips, dim=2) if clips else None, run.rendered

    return run


def plain(emo, whole, **how):
    return torch.cat(list(generate_clips(ClipRenderer(emo, whole, QUICK), **how)), dim=2)


def change_voice(whole, frames: slice):
    heard = whole.audio.frames.clone()
    heard[frames] += 1
    return replace(whole, audio=replace(whole.audio, frames=heard))


# ---- lost and found


def test_a_cache_changes_nothing_and_a_second_run_renders_nothing(emo, config, conditions, render, cache):
    whole = conditions(config, frames=LONG)
    first, rendered = render(whole)
    again, rendered_again = render(whole)
    assert (rendered, rendered_again) == (8, 0)
    assert torch.equal(first, plain(emo, whole)) and torch.equal(again, first)
    assert sorted(path.suffix for path in cache.folder.iterdir()) == [".lock", *[".safetensors"] * 8]


def test_nothing_is_asked_of_a_model_whose_clips_are_all_there(emo, config, conditions, render, monkeypatch):
    whole = conditions(config, frames=LONG)
    first, _ = render(whole)
    for name in ("encode_reference", "encode_motion", "prepare", "predict"):
        monkeypatch.setattr(emo, name, None)
    assert torch.equal(render(whole)[0], first)


def test_a_stopped_run_goes_on_where_it_stopped_and_becomes_the_same_video(emo, config, conditions, render, cache):
    whole = conditions(config, frames=LONG)

    def stop(report):
        if (report.clip, report.step) == (6, 1):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        render(whole, on_step=stop)
    assert len(list(cache.folder.glob("*.safetensors"))) == 5
    told = []
    resumed, rendered = render(whole, on_step=told.append)
    assert rendered == 3 and torch.equal(resumed, plain(emo, whole))
    assert [(report.clip, report.step) for report in told if report.is_cached] == [(clip, 2) for clip in range(1, 6)]
    assert [(report.clip, report.step) for report in told if not report.is_cached] == [
        (c, s) for c in (6, 7, 8) for s in (1, 2)
    ]


def test_what_is_finished_is_a_video_without_rendering(emo, config, conditions, render, monkeypatch):
    whole = conditions(config, frames=LONG)
    assert render(whole, finished_only=True) == (None, 0)

    def stop(report):
        if report.clip == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        render(whole, on_step=stop)
    part, rendered = render(whole, finished_only=True)
    assert rendered == 0 and torch.equal(part, plain(emo, whole)[:, :, :12])


def killed_runs(tmp_path, *arguments: str) -> dict:
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("killed_runs.py")), str(tmp_path), *arguments],
        capture_output=True,
        text=True,
        timeout=900,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_runs_killed_at_any_moment_lose_no_clip_and_resume_to_the_same_bits(tmp_path):
    """The other process asserts after every kill that all clips stay and are whole, and in the end that the bits are
    the same."""
    done = killed_runs(tmp_path, "kill", "8", "1")
    assert done["at random"] >= 8 and done["while saving"] >= 8
    assert len(set(done["kept"])) >= 4  # they died early and late


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_runs_at_once_on_one_cache_do_not_harm_each_other(tmp_path):
    assert len(killed_runs(tmp_path, "once")["rendered"]) == 3


# ---- what a change reaches


@pytest.mark.parametrize(
    ("changed", "first"), [(slice(29, 30), 6), (slice(24, 25), 5), (slice(26, 27), 6), (slice(0, 1), 0)]
)
def test_another_voice_renders_the_clips_that_hear_it_and_those_after(emo, config, conditions, render, changed, first):
    """A frame hears two frames to each side: frame 26 is heard by the clip that begins there and by the end of the one
    before."""
    whole = conditions(config, frames=LONG)
    render(whole)
    other = change_voice(whole, changed)
    video, rendered = render(other)
    assert rendered == 8 - first and torch.equal(video, plain(emo, other))


@pytest.mark.parametrize(("frames", "rendered"), [(31, 1), (40, 3), (29, 1), (28, 1), (26, 1), (24, 1)])
def test_a_longer_or_shorter_voice_keeps_the_clips_that_do_not_hear_its_end(
    emo, config, conditions, render, frames, rendered
):
    whole = conditions(config, frames=LONG)
    render(whole)
    heard = torch.cat([whole.audio.frames, torch.ones(10, *whole.audio.frames.shape[1:])])[:frames]
    other = replace(whole, audio=replace(whole.audio, frames=heard))
    video, count = render(other)
    assert torch.equal(video, plain(emo, other)) and count <= rendered + 1 and count < count_clips(frames, 4)


def test_another_speed_later_keeps_the_clips_before(emo, config, conditions, render):
    calm = conditions(config, frames=LONG)
    render(calm)
    knots = (0.0, 20 / 25, 21 / 25)
    turned = replace(calm, speed=Speed(knots, (12.5, 12.5, 60.0)))
    video, rendered = render(turned)
    assert rendered == 4 and torch.equal(video, plain(emo, turned))  # clip 5 looks two frames ahead


def test_another_mask_later_keeps_the_clips_before(emo, config, conditions, render):
    whole = conditions(config, frames=LONG)
    render(whole)
    elsewhere = replace(whole.face_mask, mask=1 - whole.face_mask.mask)
    changed = replace(whole, face_mask=FaceMasks.of(whole.face_mask).then(20 / 25, elsewhere))
    video, rendered = render(changed)
    assert rendered == 3 and torch.equal(video, plain(emo, changed))
    assert not torch.equal(video[:, :, 20:], plain(emo, whole)[:, :, 20:])
    later = replace(whole, face_mask=FaceMasks.of(whole.face_mask).then(22 / 25, elsewhere))
    assert render(later)[1] == 3  # in clip 6 the face may be in both, which is another mask again


def test_a_resumed_video_of_two_masks_is_the_uninterrupted_one(emo, config, conditions, render):
    whole = conditions(config, frames=LONG)
    elsewhere = replace(whole.face_mask, mask=1 - whole.face_mask.mask)
    changed = replace(whole, face_mask=FaceMasks.of(whole.face_mask).then(9 / 25, elsewhere))

    def stop(report):
        if report.clip == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        render(changed, on_step=stop)
    video, rendered = render(changed)
    assert rendered == 4 and torch.equal(video, plain(emo, changed))


def test_a_found_clip_does_not_shift_the_noise_of_the_next(emo, config, conditions, render):
    whole = conditions(config, frames=LONG)
    render(whole)
    other = change_voice(whole, slice(29, 30))
    assert torch.equal(render(other)[0], plain(emo, other))


def ingredients(whole, seeded):
    shape = whole.portrait.latents.shape
    return {
        "portrait": {"portrait": replace(whole.portrait, latents=whole.portrait.latents + 1e-6)},
        "identity": {"portrait": replace(whole.portrait, identity=torch.ones(1, 3))},
        "mask": {"face_mask": replace(whole.face_mask, mask=whole.face_mask.mask * 0.5)},
        "regions": {"face_mask": replace(whole.face_mask, regions=torch.ones(1, 3, *shape[-2:]))},
        "speed": {"speed": Speed.constant(13.0)},
    }


@pytest.mark.parametrize("name", ["portrait", "identity", "mask", "regions", "speed"])
def test_all_that_a_video_is_made_from_is_in_the_name_of_its_first_clip(config, conditions, seeded, name):
    whole = conditions(config, frames=LONG)

    def key(given):
        keys = ClipKeys(config, given.portrait, QUICK, weights="w", reference=None, device="cpu", dtype=torch.float32)
        return keys.of(0, given.clip(0, clip_frames=4, margin_frames=2), None)

    assert key(whole) == key(replace(whole, portrait=replace(whole.portrait, latents=whole.portrait.latents.clone())))
    assert key(replace(whole, **ingredients(whole, seeded)[name])) != key(whole)


@pytest.mark.parametrize(
    "change",
    [
        {"weights": "v"},
        {"batch_branches": False},
        {"dtype": torch.float16},
        {"sampling": replace(QUICK, seed=1)},
        {"sampling": replace(QUICK, steps=3)},
        {"sampling": replace(QUICK, region_weights=(1.0, 1.0, 0.9))},
        {"sampling": replace(QUICK, sampler="dpmpp_2m")},
        {"sampling": replace(QUICK, audio_guidance=1.1)},
        {"reencoding": "vae"},
        {"sampling": replace(QUICK, reference_guidance=1.1)},
        {"reference": ReferenceFeatures({"a": torch.zeros(1)})},
    ],
)
def test_how_it_is_made_is_in_the_name_too(config, conditions, change):
    whole = conditions(config, frames=LONG)
    how = {"sampling": QUICK, "weights": "w", "reference": None, "device": "cpu", "dtype": torch.float32}

    def key(**changed):
        return ClipKeys(config, whole.portrait, **{**how, **changed}).of(
            0, whole.clip(0, clip_frames=4, margin_frames=2), None
        )

    assert (
        key() == key(sampling=replace(QUICK, head_speed=50.0)) != key(**change)
    )  # head_speed: what counts is in the clips


def test_the_clip_before_is_in_the_name_of_the_next(config, conditions, seeded):
    whole = conditions(config, frames=8)
    keys = ClipKeys(config, whole.portrait, QUICK, weights="w", reference=None, device="cpu", dtype=torch.float32)
    clip = whole.clip(4, clip_frames=4, margin_frames=2)
    before = seeded(1, 8, 2, 4, 4)
    names = [keys.of(1, clip, motion) for motion in (before, before.clone(), before + 1e-6)] + [
        keys.of(2, clip, before)
    ]
    assert names[0] == names[1] and len(set(names)) == 3


def test_one_bit_of_one_weight_is_another_model(emo):
    before = weights_of(emo)
    assert weights_of(emo) == before
    with torch.no_grad():
        next(emo.parameters()).view(-1)[0] += 1e-6
    assert weights_of(emo) != before


# ---- damage


def bend(path: Path, how: str) -> None:
    data = bytearray(path.read_bytes())
    if how == "cut in half":
        data = data[: len(data) // 2]
    elif how == "empty":
        data = data[:0]
    elif how == "one bit in the latents":
        data[-5] ^= 1
    elif how == "one bit in the header":
        data[20] ^= 1
    elif how == "its length":
        data[0] ^= 255
    elif how == "zeros, as after a power cut":
        data = bytearray(len(data))
    elif how == "another clip's":
        data = bytearray(next(other for other in path.parent.glob("*.safetensors") if other != path).read_bytes())
    path.write_bytes(data)


@pytest.mark.parametrize(
    "how",
    [
        "cut in half",
        "empty",
        "one bit in the latents",
        "one bit in the header",
        "its length",
        "zeros, as after a power cut",
        "another clip's",
    ],
)
def test_a_damaged_clip_is_rendered_again_and_the_others_are_not(emo, config, conditions, render, cache, how, caplog):
    whole = conditions(config, frames=LONG)
    first, _ = render(whole)
    with cache.run() as run:
        list(generate_clips(CachedRenderer(ClipRenderer(emo, whole, QUICK), run, finished_only=True)))
        bent = cache.folder / f"{run.keys[3]}.safetensors"
    bend(bent, how)
    video, rendered = render(whole)
    assert rendered == 1 and torch.equal(video, first)
    assert f"{bent.name} is damaged" in caplog.text
    assert render(whole)[1] == 0


def test_a_file_that_cannot_be_written_stops_the_run_with_what_is_kept(
    emo, config, conditions, render, cache, monkeypatch
):
    whole, sync, calls = conditions(config, frames=LONG), os.fsync, []

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) == 5:  # two a clip: the file and the folder
            raise OSError(errno.ENOSPC, "No space left on device")
        return sync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        OSError,
        match=r"clip 3 could not be kept in .*clips: the disk is full; [\d.]+ GB are free there. "
        "The 2 clips before it are kept: make room and start again",
    ) as error:
        render(whole)
    assert error.value.errno == errno.ENOSPC
    assert not list(cache.folder.glob("*.part")) and len(list(cache.folder.glob("*.safetensors"))) == 2
    monkeypatch.undo()
    video, rendered = render(whole)
    assert rendered == 6 and torch.equal(video, plain(emo, whole))


@pytest.mark.skipif(os.name == "nt", reason="Windows has no limit for the size of files")
def test_a_disk_that_takes_half_a_file_leaves_none(config, conditions, render, cache):
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (512, before[1]))  # the system cuts the write short; a clip is larger
    try:
        with pytest.raises(OSError, match="clip 1 could not be kept"):
            render(conditions(config, frames=LONG))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(cache.folder.glob("*.part")) and not list(cache.folder.glob("*.safetensors"))
    assert render(conditions(config, frames=LONG))[1] == 8


# ---- keeping house


def aged(cache: ClipCache, days: float) -> list[Path]:
    files = sorted(cache.folder.glob("*.safetensors"))
    for path in files:
        os.utime(path, (time.time() - days * 86_400,) * 2)
    return files


def test_clips_that_were_not_used_for_long_are_removed_at_the_start_of_a_run(config, conditions, render, cache):
    render(conditions(config, frames=LONG))
    old = aged(cache, 15)
    render(conditions(config, frames=8), sampling=replace(QUICK, seed=9))
    assert not any(path.exists() for path in old) and len(list(cache.folder.glob("*.safetensors"))) == 2


def test_beyond_the_size_the_longest_unused_go_first(config, conditions, render, cache):
    render(conditions(config, frames=LONG))
    old = aged(cache, 2)
    render(conditions(config, frames=8), sampling=replace(QUICK, seed=9))
    size = old[0].stat().st_size
    aged(ClipCache(cache.folder), 1)
    for number, path in enumerate(old):
        os.utime(path, (time.time() - 2 * 86_400 + number,) * 2)
    with ClipCache(cache.folder, CacheLimits(max_gb=4.5 * size / 1e9)).run():
        pass
    assert [path.exists() for path in old] == [False] * 6 + [True] * 2 and len(
        list(cache.folder.glob("*.safetensors"))
    ) == 4


def test_a_clip_that_is_found_counts_as_used(config, conditions, render, cache):
    render(conditions(config, frames=LONG))
    aged(cache, 13)
    assert render(conditions(config, frames=LONG))[1] == 0
    assert all(time.time() - path.stat().st_mtime < 3600 for path in cache.folder.glob("*.safetensors"))


def test_a_clip_that_cannot_be_removed_or_touched_stops_no_run(config, conditions, render, cache, monkeypatch):
    """Another user's in a shared folder; on Windows, one that any program has open."""
    whole = conditions(config, frames=LONG)
    video, _ = render(whole)
    fixed, *others = aged(cache, 15)
    unlink, utime = Path.unlink, os.utime

    def refused(path, *_):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "unlink", lambda path, **how: refused(path) if path == fixed else unlink(path, **how))
    monkeypatch.setattr(os, "utime", lambda path, *when: refused(path) if path == fixed else utime(path, *when))
    with cache.run():
        assert fixed.exists() and not any(path.exists() for path in others)
    again, rendered = render(whole)
    assert torch.equal(again, video) and rendered == len(others)


def test_nothing_else_in_the_folder_is_touched(config, conditions, render, cache):
    cache.folder.mkdir()
    others = [cache.folder / name for name in ("model.safetensors", "talk.mp4", "ab.part", "0" * 64 + ".txt")]
    for path in others:
        path.write_text("mine")
        os.utime(path, (0, 0))
    render(conditions(config, frames=8), where=ClipCache(cache.folder, CacheLimits(max_gb=0, max_days=0)))
    assert all(path.read_text() == "mine" for path in others)


def test_what_a_dead_run_left_half_written_is_swept_up_and_a_living_runs_is_not(cache):
    with cache.run() as living:
        half = cache.folder / f"{'a' * 64}.{living.lease.name}.part"
        dead = cache.folder / f"{'a' * 64}.{'0' * 16}.part"
        stale = cache.folder / f"{'1' * 16}.lease"
        for path in (half, dead, stale):
            path.write_text("half")
        with cache.run():
            assert half.exists() and not dead.exists() and not stale.exists()
    assert not list(cache.folder.glob("*.lease"))


def test_clips_of_a_video_that_is_still_held_are_not_removed_by_another_run(emo, config, conditions, cache):
    whole = conditions(config, frames=LONG)
    run = cache.run()
    video = torch.cat(list(generate_clips(CachedRenderer(ClipRenderer(emo, whole, QUICK), run))), dim=2)
    clips = run.clips(wanted=LONG, fps=25.0, config=config)
    del run
    strict = ClipCache(cache.folder, CacheLimits(max_gb=0, max_days=0))
    with strict.run():
        assert torch.equal(torch.cat(list(clips), dim=2), video)
    del clips
    with strict.run():
        assert not list(cache.folder.glob("*.safetensors"))


def test_where_files_cannot_be_locked_runs_go_on_and_clips_are_safe_for_a_week(
    config, conditions, render, cache, monkeypatch
):
    from emo_model.cache import locks as module

    def no_locks(file, *, wait):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(module, "lock", no_locks)
    strict = ClipCache(cache.folder, CacheLimits(max_gb=0, max_days=0))
    with cache.run() as run:
        assert render(conditions(config, frames=LONG))[1] == 8
        with strict.run():
            assert len(list(cache.folder.glob("*.safetensors"))) == 8
        os.utime(run.lease.path, (time.time() - 8 * 86_400,) * 2)
        with strict.run():
            assert not list(cache.folder.glob("*.safetensors"))


def test_a_clip_that_another_run_saved_meanwhile_counts(emo, config, conditions, render, cache, monkeypatch):
    """Windows lets no one replace a file that is being read."""
    render(conditions(config, frames=8))

    def denied(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    with cache.run() as run:
        monkeypatch.setattr(os, "replace", denied)
        monkeypatch.setattr(run, "find", lambda *_: None)
        render = CachedRenderer(ClipRenderer(emo, conditions(config, frames=8), QUICK), run)
        video = torch.cat(list(generate_clips(render)), dim=2)
        assert len(run.keys) == 2 and torch.equal(
            torch.cat(list(run.clips(wanted=8, fps=25.0, config=config)), dim=2), video
        )


def test_the_size_of_a_cache_is_told(config, conditions, render, cache):
    render(conditions(config, frames=LONG))
    assert (
        cache.bytes == sum(path.stat().st_size for path in cache.folder.glob("*.safetensors")) > 8 * 4 * 4 * 4 * 4 * 4
    )
    assert str(cache.folder) in cache.summary and "at most 20 GB" in cache.summary and "14 days" in cache.summary


# ---- the value that travels


@pytest.fixture
def clips(emo, config, conditions, cache):
    with cache.run() as run:
        for _ in generate_clips(CachedRenderer(ClipRenderer(emo, conditions(config, frames=LONG), QUICK), run)):
            pass
        yield run.clips(wanted=LONG, fps=25.0, config=config)


@pytest.mark.parametrize("count", [1, 2, 3, 6, 7, 30])
def test_the_last_frames_are_found_over_the_borders_of_clips(clips, count):
    video = torch.cat(list(clips), dim=2)
    assert video.shape[2] == LONG == clips.frames and torch.equal(clips.last(count), video[:, :, -count:])


def test_more_frames_than_there_are_cannot_be_had(clips):
    with pytest.raises(ValueError, match="the video has 30 frames, and 31 are needed"):
        clips.last(31)


def test_a_missing_clip_is_named(clips):
    (clips.folder / f"{clips.keys[2]}.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="clip 3 of 8 is gone from .*render the video again"):
        list(clips)


def test_memory_is_told_before_it_is_taken(clips):
    assert clips.latent_bytes == 30 * 8 * 4 * 4 * 4 and clips.picture_bytes == 30 * 64 * 64 * 3 * 4


def test_a_second_video_goes_on_from_the_last_frames_of_the_first(emo, config, conditions, clips, monkeypatch):
    """Its first clip is made as the first video's next one would be: from those frames, whatever else differs."""
    seen, encode = [], emo.encode_motion
    monkeypatch.setattr(
        emo, "encode_motion", lambda motion, like: seen.append(motion.latents) or encode(motion, like=like)
    )
    motion = MotionFrames(clips.last(config.motion_frames))
    one = plain(emo, conditions(config, frames=8), motion=motion)
    assert torch.equal(seen[0], motion.latents) and torch.equal(seen[1], one[:, :, 2:4])
    assert not torch.equal(one, plain(emo, conditions(config, frames=8)))


@pytest.mark.skipif(os.name == "nt", reason="Windows has other rights")
@pytest.mark.parametrize("umask", [0o000, 0o022])
def test_clips_are_readable_by_their_owner_alone(tmp_path, umask):
    def mode(path) -> int:
        return stat.S_IMODE(path.stat().st_mode)

    before = os.umask(umask)
    try:
        with ClipCache(tmp_path / "clips").run() as run:
            run.save("0" * 64, torch.zeros(1, 1, 1, 1, 1))
            modes = {mode(path) for path in (tmp_path / "clips").iterdir()}
        assert mode(tmp_path / "clips") == 0o700 and modes == {0o600}
        for path in (tmp_path / "clips", *(tmp_path / "clips").iterdir()):  # as earlier versions left them
            path.chmod(0o755 if path.is_dir() else 0o644)
        ClipCache(tmp_path / "clips").run().lease.close()
        assert mode(tmp_path / "clips") == 0o700 and {mode(path) for path in (tmp_path / "clips").iterdir()} == {0o600}
        (tmp_path / "clips" / "letter.txt").touch()
        (tmp_path / "clips").chmod(0o755)
        ClipCache(tmp_path / "clips").run().lease.close()
        assert mode(tmp_path / "clips") == 0o755, "a folder with a user's own files is not changed"
    finally:
        os.umask(before)


def test_clips_of_a_run_survive_a_cleaner_though_the_clock_went_back(tmp_path, monkeypatch):
    cache = ClipCache(tmp_path / "clips", CacheLimits(max_gb=0))
    with cache.run() as run:
        monkeypatch.setattr(time, "time", lambda: run.lease.began - 10_000)
        run.save("0" * 64, torch.zeros(1, 1, 1, 1, 1))
        cache.run().lease.close()  # another run cleans up
        assert run.find("0" * 64) is not None
    monkeypatch.undo()
    cache.run().lease.close()
    assert not list((tmp_path / "clips").glob("*.safetensors"))


@pytest.mark.skipif(os.name == "nt", reason="no pipes")
@pytest.mark.parametrize("name", ["spool.lock", "0" * 64 + ".safetensors", "0" * 16 + ".lease"])
def test_a_pipe_in_the_folder_makes_nothing_wait(tmp_path, name):
    cache = ClipCache(tmp_path)
    os.mkfifo(tmp_path / name)
    if name == "spool.lock":
        for use in (cache.run, lambda: cache.revision):
            with pytest.raises(OSError, match="spool.lock is a folder, pipe or device in place of a file; remove it"):
                use()
        return
    with cache.run() as run:
        assert run.find("0" * 64) is None and cache.revision


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_clips_with_numbers_that_are_none_are_neither_kept_nor_found(tmp_path, bad, monkeypatch, caplog):
    latents = torch.zeros(1, 2, 3, 1, 1)
    latents[0, 1, 2] = bad
    with ClipCache(tmp_path).run() as run:
        with pytest.raises(ValueError, match="clip 1 has NaN or infinite values and is not kept"):
            run.save("0" * 64, latents)
        with monkeypatch.context() as patch:  # as an earlier version kept it
            patch.setattr("emo_model.cache.folder.is_finite", lambda _: True)
            run.save("0" * 64, latents)
        assert run.find("0" * 64) is None and "is damaged; its clip is rendered again" in caplog.text
        run.save("1" * 64, torch.zeros(1, 2, 3, 1, 1))
        assert run.find("1" * 64, (1, 2, 3, 1, 1)) is not None and run.find("1" * 64, (1, 2, 4, 1, 1)) is None


def test_a_sampler_that_makes_no_numbers_stops_with_a_sentence(emo, config, conditions, cache, monkeypatch):
    from emo_model.sampling import clips

    monkeypatch.setattr(clips, "sample", lambda *_, **__: torch.full((1, 8, 4, 4, 4), float("nan")))
    with cache.run() as run:
        render = CachedRenderer(ClipRenderer(emo, conditions(config, frames=8), QUICK), run)
        with pytest.raises(ValueError, match="the model made NaN or infinite values in clip 1.*--force-fp32"):
            list(generate_clips(render))
        assert not list(cache.folder.glob("*.safetensors"))


def test_re_encoding_without_a_name_is_refused(emo, config, conditions, cache):
    with cache.run() as run:
        render = ClipRenderer(emo, conditions(config, frames=8), QUICK, reencode=lambda latents: latents / 2)
        with pytest.raises(ValueError, match="need a name for how: set 'reencoding'"):
            CachedRenderer(render, run)
        CachedRenderer(render, run, reencoding="halved")


def test_switches_of_torch_that_change_bits_are_in_the_key(monkeypatch):
    from emo_model.cache.keys import machine_of

    plain = machine_of("cpu", torch.float32)
    monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: True)
    assert machine_of("cpu", torch.float32) == f"{plain}".replace("torch.float32", "torch.float32 deterministic True")
    monkeypatch.undo()
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: "high")
    assert "matmul precision high" in machine_of("cpu", torch.float32)
