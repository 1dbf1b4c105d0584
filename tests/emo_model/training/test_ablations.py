"""Small models with and without EMO's parts: the command, what leaving out does, and what is read."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from emo_model.inputs.media import to_uint8
from emo_model.models.emo import Emo
from emo_model.synthetic.puppet_store import cut_person, is_held_out_face, write_store
from emo_model.training.__main__ import main
from emo_model.training.ablations import clips, page, readings, run
from emo_model.training.ablations.variants import FULL, MODEL, STAGES, WITHOUT
from emo_model.training.clips import ClipStore
from emo_model.training.loop import OutOfTime

pytest.importorskip("accelerate")
pytest.importorskip("numba")
PARTS, NAMES = ("speed layers",), ("full", "speed_layers")
TINY = run.Amount(clips=2, frames=8, videos=2, video_clips=2, pace_clips=1, scale=0.002, steps=1)


@pytest.fixture(scope="module")
def given(tmp_path_factory, photograph, speech_folder):
    """A file of four people, two of them held out, and speech."""
    picture, names = Image.fromarray(to_uint8(photograph.picture)[0]), [f"{number}.jpg" for number in range(40)]
    chosen = [[name for name in names if is_held_out_face(name) == kept][:2] for kept in (False, True)]
    path = tmp_path_factory.mktemp("people") / "puppets.safetensors"
    write_store(path, [cut_person(name, picture, photograph.mesh, size=64) for name in sum(chosen, [])])
    return {"puppets": path, "speech": speech_folder, "held_out_speech": speech_folder}


@pytest.fixture(scope="module")
def made(tmp_path_factory, given):
    """The folder of a finished run."""
    return run.ablate(tmp_path_factory.mktemp("ablations"), **given, seeds=1, parts=PARTS, amount=TINY).parent


def read(folder) -> dict[str, str]:
    return {name: (folder / "seed0" / name / "readings.json").read_text() for name in NAMES}


def test_a_run_that_is_stopped_again_and_again_ends_in_the_same_numbers(made, given, tmp_path):
    ticks, stops = itertools.count(), 0
    while not (tmp_path / "ablations.md").exists():
        try:
            how = {"minutes": 8 / 60, "resume": stops > 0, "clock": lambda: float(next(ticks))}
            run.ablate(tmp_path, **given, seeds=1, parts=PARTS, amount=TINY, **how)
        except OutOfTime:
            stops += 1
    assert stops >= 2 and read(tmp_path) == read(made)


def test_variants_share_the_stages_before_their_part_joins(made):
    kept = {name: {one.stem for one in (made / "seed0" / name).glob("*.safetensors")} for name in NAMES}
    assert kept == {"full": {"image", "video", "speed"}, "speed_layers": {"speed"}}
    lines = [json.loads(line) for line in (made / "seed0" / "speed_layers" / "log.jsonl").read_text().splitlines()]
    assert [line["stage"] for line in lines] == ["speed"]
    own = {part: [stage.name for stage in STAGES if one.differs(stage)] for part, one in WITHOUT.items()}
    assert own["audio attention"] == own["motion frames"] == ["video", "speed"] and len(own["face locator"]) == 3


def test_without_speed_layers_their_attention_stays_zero(made):
    def speed_attention(variant: str):
        weights = load_file(made / "seed0" / variant / "speed.safetensors")
        return torch.cat([weights[name].flatten() for name in weights if "attn_speed.to_out" in name])

    assert speed_attention("full").any() and not speed_attention("speed_layers").any()


@pytest.fixture(scope="module")
def noisy(awake):
    """A model in which every weight does something."""
    return awake(Emo(MODEL))


@pytest.fixture(scope="module")
def clip(seeded) -> ClipStore:
    """A seeded clip of two clips' length."""
    frames, cells = 2 * MODEL.clip_frames, (MODEL.latent_channels, MODEL.latent_size, MODEL.latent_size)
    return ClipStore(
        latents=seeded(1, frames, *cells, seed=1),
        stills=seeded(1, 1, *cells, seed=2),
        audio=seeded(1, frames, 1, MODEL.audio_width, seed=3),
        speed=torch.full((1, frames), 10.0),
        landmarks=torch.full((1, frames, 3, 2), 0.5),
        boxes=torch.tensor([[0.25, 0.25, 0.75, 1.0]]),
    )


CHANGES = {
    "reference attention": lambda clip: replace(clip, stills=clip.stills + 1),
    "audio attention": lambda clip: replace(clip, audio=clip.audio.flip(1)),
    "motion frames": lambda clip: replace(clip, audio=torch.cat([-clip.audio[:, :4], clip.audio[:, 4:]], 1)),
    "face locator": lambda clip: replace(clip, boxes=clip.boxes / 2),
}
"""What only the part can tell: of motion frames, what the second clip knows of the first."""


@pytest.mark.parametrize("part", CHANGES)
def test_a_video_does_not_depend_on_what_is_left_out(noisy, clip, part):
    def differs(variant) -> bool:
        last = MODEL.clip_frames if part == "motion frames" else 0
        videos = [readings.sampled(noisy, variant, one, steps=1, seed=0) for one in (clip, CHANGES[part](clip))]
        return not torch.equal(*(video[last:] for video in videos))

    assert differs(FULL) and not differs(WITHOUT[part])


def test_a_camera_that_stands_aside_sees_the_picture_there():
    picture = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    flow = clips.framed(torch.zeros(1, 2, 32, 32), torch.tensor([4.0, -2.0]))
    seen = clips.moved(picture, flow)
    torch.testing.assert_close(seen[..., 2:, :-4], picture[..., :-2, 4:], rtol=0, atol=1e-5)


def test_a_face_is_read_where_it_is_and_its_steps_as_long_as_they_are():
    latents, cells = torch.zeros(4, 7, 8, 8), torch.zeros(8, 8)
    latents[:, clips.LIDS, 2, 3:6:2], cells[2:6, 2:6] = 1.0, 1.0
    assert readings.place(latents).tolist() == pytest.approx([4.5 / 8, 2.5 / 8])
    latents[:, clips.FLOW.start] = torch.tensor([0.0, 1.0, 4.0, 5.0]).view(4, 1, 1)
    assert readings.head_steps(readings.head_track(latents, cells), 2) == pytest.approx((1.0, 3.0))


def test_a_puppets_clip_has_its_opening_its_place_and_its_colours(given, made):
    store = ClipStore.load(made / "held_out.safetensors")
    raw = readings.to_raw(store.latents.float().flatten(0, 1), MODEL).unflatten(0, store.latents.shape[:2])
    for latents, box in zip(raw, store.boxes, strict=True):
        across, down = readings.place(latents).tolist()
        assert box[0] < across < box[2] and box[1] < down < box[3]
        assert readings.opening(latents).std() > 0.01 and latents[:, clips.COLOURS].abs().amax() <= 1


def of(count: int, **values) -> list[readings.Reading]:
    plain = {
        "identity": 0.5,
        "recognised": 1,
        "lips": 0.8,
        "another_voice": 0.1,
        "seams": 1.2,
        "place": 0.02,
        "pace": 3,
    }
    return [readings.Reading(**(plain | values)) for _ in range(count)]


def test_the_page_tells_an_effect_from_none():
    found = {variant.name: [of(4), of(4)] for variant in (FULL, *WITHOUT.values())}
    found["audio_attention"] = [of(4, lips=0.1), of(4, lips=0.2)]
    found["motion_frames"] = [of(4, seams=4.8), of(4, seams=4.8)]
    about = {"amount": run.Amount(), "seeds": 2, "machine": "a test", "parameters": 1}
    lines = page.page(found, about=about).splitlines()
    rows = {line.split(" | ")[0][2:]: line for line in lines if line.startswith("| ")}
    assert "-0.650 (-0.700 to -0.600) | -0.700, -0.600 | yes" in rows["audio attention"]
    assert "x 4.00 (x 4.00 to x 4.00) | x 4.00, x 4.00 | yes" in rows["motion frames"]
    assert (
        rows["face locator"].endswith("**not seen** |") and len([x for x in lines if x.startswith("- **Not seen")]) == 3
    )


def test_the_command_stops_when_its_minutes_are_over_and_goes_on_with_the_same_settings_only(given, tmp_path, caplog):
    command = [*"ablations --clips 2 --videos 2 --minutes 0 --puppets".split(), str(given["puppets"])]
    command += ["--speech", str(given["speech"]), "--held-out", str(given["speech"]), "--out", str(tmp_path)]
    assert main(command) == 3 and main([*command, "--resume"]) == 3
    assert main(command) == 2 and "add --resume" in caplog.text
    assert main([*command, "--resume", "--scale", "2"]) == 2 and "begun with scale 1.0" in caplog.text


def test_people_to_measure_come_once_each(given):
    with pytest.raises(ValueError, match="3 videos of as many held-out people are asked for, but there are 2"):
        clips.speaking_puppets(3, run.PuppetStore(given["puppets"]), None, None, config=MODEL, frames=10, held_out=True)
