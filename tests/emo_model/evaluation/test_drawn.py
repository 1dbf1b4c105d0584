import torch

from emo_model.evaluation import drawn
from emo_model.evaluation.instruments import InstrumentConfig, Instruments
from emo_model.synthetic.identities import STYLES, sample_identities
from emo_model.synthetic.motion import FaceMotion
from emo_model.training.default import RECIPE


def test_no_one_who_is_measured_or_read_was_trained_on():
    people = max(recipe.first_person + recipe.people for recipe in RECIPE.values())
    assert people < drawn.HELD_OUT_PEOPLE < drawn.INSTRUMENT_PEOPLE < drawn.INSTRUMENT_TEST_PEOPLE


def test_scenes_take_the_styles_in_turn():
    seeds = [drawn._person(number) for number in range(10)]
    assert len(set(seeds)) == 10 and min(seeds) >= drawn.HELD_OUT_PEOPLE
    assert sample_identities(seeds).style_names == [*STYLES, *STYLES]


def test_pressed_lips_hide_the_opening_behind_them():
    motion = FaceMotion.neutral(2)
    motion.opening[:] = 0.5
    motion.closure[1] = 1
    torch.testing.assert_close(drawn.visible_opening(motion), torch.tensor([0.5, 0.04]))


def test_people_sit_for_their_portrait_with_lips_shut_and_eyes_open():
    still = drawn.calm(range(5))
    assert not still.opening.any() and not still.blink_left.any() and still.yaw.abs().max() < 0.25


def test_truth_has_standard_traits():
    instruments = Instruments(InstrumentConfig(traits=drawn.TRAITS))
    who = sample_identities([drawn.HELD_OUT_PEOPLE])
    instruments.face_mean[9:] = drawn.traits(who)[0]
    assert drawn.truth(who, FaceMotion.neutral(1), instruments).traits.abs().max() < 1e-6


def test_exercise_moves_each_lid_for_itself():
    moved = drawn.exercise(range(950_000_000, 950_000_400))
    differs = (moved.blink_left - moved.blink_right).abs() > 0.2
    assert 0.1 < differs.float().mean() < 0.4
