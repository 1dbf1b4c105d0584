import dataclasses

import pytest
import torch

from emo_model.evaluation.instruments import Readings


@pytest.fixture
def still_readings():
    """A function: T frames of a calm face with two traits, some tracks replaced."""
    def make(frames, **tracks):
        shapes = {"iris": (frames, 2, 3), "traits": (frames, 2), "marks": (frames, 3, 2)}
        zeros = {field.name: torch.zeros(shapes.get(field.name, (frames,))) for field in dataclasses.fields(Readings)}
        return Readings(**(zeros | tracks))
    return make
