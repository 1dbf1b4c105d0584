import pytest
import torch

from emo_model.evaluation.metrics import identity


def test_the_same_person_has_no_error_and_is_found(still_readings):
    true = still_readings(3, traits=torch.tensor([[1.0, -1.0]] * 3))
    gallery = torch.tensor([[0.0, 0.0], [2.0, -1.0]])
    assert identity.measure(true, true, trusted=torch.ones(2), gallery=gallery) == {"error": 0, "found": 1}


def test_only_trusted_traits_count(still_readings):
    true, said = still_readings(2), still_readings(2, traits=torch.tensor([[0.5, 9.0]] * 2))
    assert identity.errors(said, true, torch.tensor([1.0, 0.0])).tolist() == pytest.approx([0.5, 0.5])


def test_someone_nearer_in_the_gallery_takes_the_frame(still_readings):
    true, said = still_readings(2), still_readings(2, traits=torch.tensor([[0.1, 0.0], [0.9, 0.0]]))
    assert identity.found(said, true, torch.ones(2), torch.tensor([[1.0, 0.0]])).tolist() == [True, False]


def test_a_likeness_that_flickers_is_not_consistent(still_readings):
    steady, flickering = still_readings(2), still_readings(2, traits=torch.tensor([[1.0, 1.0], [-1.0, -1.0]]))
    assert identity.consistency(steady, torch.ones(2)).tolist() == [0, 0]
    assert identity.consistency(flickering, torch.ones(2)).tolist() == [1, 1]
