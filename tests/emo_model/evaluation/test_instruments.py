"""The shipped instruments on rendered people whom neither they nor any model ever saw."""

from dataclasses import replace

import pytest
import torch

from emo_model.evaluation import drawn
from emo_model.evaluation.instrument_training import TRUSTED_CORRELATION, read_examples
from emo_model.evaluation.instruments import FaceBox, InstrumentConfig, Instruments, cut, marks_in_box, marks_in_picture
from emo_model.evaluation.statistics import correlation
from emo_model.synthetic.identities import sample_identities
from emo_model.synthetic.motion import FaceMotion
from emo_model.synthetic.renderer import render

PEOPLE = 160


@pytest.fixture(scope="module")
def instruments():
    return Instruments.load()


@pytest.fixture(scope="module")
def examples(instruments):
    """Readings and truth of people beyond those that the instruments' card was made with."""
    return read_examples(instruments, PEOPLE, first=drawn.INSTRUMENT_TEST_PEOPLE + 20_000_000)


@pytest.mark.parametrize(("reading", "least"), [
    ("opening", 0.95), ("width", 0.85), ("closure", 0.75), ("tuck", 0.6), ("blink_left", 0.9), ("blink_right", 0.9), ("yaw", 0.9),
    ("pitch", 0.8), ("roll", 0.9)])
def test_a_reading_follows_what_was_drawn(examples, reading, least):
    said, true = examples
    assert correlation(getattr(said, reading), getattr(true, reading)) >= least


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize(("axis", "least"), [("x", 0.85), ("y", 0.7)])
def test_gaze_of_open_eyes_follows_what_was_drawn(examples, side, axis, least):
    said, true = examples
    open_ = getattr(true, f"blink_{side}") < 0.3
    name = f"gaze_{axis}_{side}"
    assert correlation(getattr(said, name)[open_], getattr(true, name)[open_]) >= least


def test_mouth_and_eyes_are_found_within_three_hundredths_of_the_picture(examples):
    said, true = examples
    assert (said.marks - true.marks).norm(dim=-1).mean() < 0.03


def test_each_eye_is_read_for_itself(instruments):
    """People who wink: an instrument that looked at both eyes at once would give the open one a share of the blink."""
    seeds = range(970_000_000, 970_000_012)
    who, still = sample_identities(seeds), drawn.calm(seeds)
    boxes = drawn.reference_boxes(who, still)
    pictures = render(who, replace(still, blink_left=torch.ones(12)), size=instruments.config.size)
    said = instruments.read(pictures, boxes)
    assert said.blink_left.mean() > 0.75 and said.blink_right.mean() < 0.2


def test_a_shut_mouth_on_a_moving_head_reads_as_shut_and_follows_no_voice(instruments):
    seed, frames = 970_000_100, 60
    time = torch.arange(frames) / 25
    moving = replace(FaceMotion.neutral(frames), yaw=0.2 * torch.sin(4 * time), pitch=0.1 * torch.sin(7 * time),
                     x=0.04 * torch.sin(5 * time))
    who = sample_identities([seed])
    box, = drawn.reference_boxes(who, drawn.calm([seed]))
    said = instruments.read(render(who.repeat(frames), moving, size=instruments.config.size), box)
    spoken = torch.sin(25 * time).clamp(min=0)  # four syllables a second
    assert said.opening.mean() < 0.12 and said.opening.std() < 0.06
    assert abs(correlation(said.opening, spoken)) < 0.3


def test_trusted_traits_are_read_and_there_are_enough_of_them(instruments, examples):
    said, true = examples
    trusted = instruments.trusted.bool()
    assert trusted.sum() >= 10
    read = [correlation(said.traits[:, index], true.traits[:, index]) for index in trusted.nonzero()[:, 0].tolist()]
    assert min(read) > TRUSTED_CORRELATION - 0.15 and sum(read) / len(read) > TRUSTED_CORRELATION


def test_a_picture_of_twice_the_size_reads_alike(instruments):
    seeds = range(970_000_200, 970_000_208)
    who, moment = sample_identities(seeds), drawn.exercise(seeds)
    boxes = drawn.reference_boxes(who, drawn.calm(seeds))
    read = []
    for size in (instruments.config.size, 2 * instruments.config.size):
        read.append(instruments.read(render(who, moment, size=size), boxes).opening)
    assert (read[0] - read[1]).abs().mean() < 0.06


def test_the_card_says_how_they_were_made_and_what_they_read(instruments):
    assert instruments.card["made_by"].startswith("python -m emo_model.evaluation train-instruments")
    assert {"opening", "blink_left", "gaze_x_left", "yaw"} <= instruments.card["correlations"].keys()
    assert instruments.card["people"]["trained"][0] >= drawn.INSTRUMENT_PEOPLE


def test_a_file_keeps_weights_traits_and_card(tmp_path):
    torch.manual_seed(0)
    config = InstrumentConfig(size=64, face=24, mouth=20, eye=16, width=4, traits=("age", "beard"))
    made = Instruments(config, {"made_by": "a test"})
    made.save(tmp_path / "some.safetensors")
    read = Instruments.load(tmp_path / "some.safetensors")
    assert read.config == made.config and read.card == made.card
    for name, value in made.state_dict().items():
        torch.testing.assert_close(read.state_dict()[name], value, atol=1e-3, rtol=1e-3)


def test_a_missing_file_names_the_command_that_makes_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="train-instruments"):
        Instruments.load(tmp_path / "none.safetensors")


def test_a_patch_at_full_size_is_the_picture():
    pictures = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(cut(pictures, torch.full((2, 2), 0.5), torch.ones(2), 32), pictures, atol=1e-5, rtol=0)


def test_marks_go_into_the_box_and_back():
    boxes, marks = torch.tensor([[0.5, 0.6, 0.2]]), torch.rand(1, 3, 2, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(marks_in_picture(marks_in_box(marks, boxes), boxes), marks)


def test_the_box_of_a_still_lies_between_eyes_and_mouth():
    box = FaceBox.around(torch.tensor([0.5, 0.7]), torch.tensor([0.4, 0.5]), torch.tensor([0.6, 0.5]))
    assert (box.x, box.y, box.distance) == pytest.approx((0.5, 0.6, 0.2))
