import pytest
import torch

from emo_model.evaluation.instruments import FaceBox
from emo_model.evaluation.metrics import colour


def plain(*rgb):
    """One picture of one colour, rgb of 255."""
    return (torch.tensor(rgb)[None, :, None, None] / 127.5 - 1).expand(1, 3, 32, 32)


@pytest.mark.parametrize(("rgb", "lab"), [
    ((255, 255, 255), (100, 0, 0)), ((0, 0, 0), (0, 0, 0)), ((119, 119, 119), (50.03, 0, 0)),
    ((255, 0, 0), (53.24, 80.09, 67.20)), ((0, 0, 255), (32.30, 79.19, -107.86))])
def test_colours_have_their_published_coordinates(rgb, lab):
    found = colour.lab(plain(*rgb))[0, :, 3, 3]
    torch.testing.assert_close(found, torch.tensor(lab, dtype=torch.float32), atol=0.05, rtol=0)


def test_the_face_is_told_from_the_rest_of_the_picture():
    pictures = plain(0, 0, 0).clone()
    pictures[..., 8:24, 8:24] = 1
    found = colour.measure(pictures, FaceBox(0.5, 0.5, 0.2))
    assert found["face_lab"][0, 0] == pytest.approx(100, abs=0.1)
    assert found["lab"][0, 0] == pytest.approx(25, abs=0.1)  # a quarter of it is white


def test_the_distance_of_a_colour_to_itself_is_nothing():
    one = colour.lab(plain(10, 200, 90))[:, :, 0, 0]
    assert colour.distance(one, one).item() == 0
    assert colour.distance(one, one + torch.tensor([3.0, 4.0, 0.0])).item() == pytest.approx(5)
