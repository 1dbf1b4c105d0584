from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from emo_model.checkpoints.mediapipe import load_face_finder
from emo_model.inputs.faces import Face, NoFaceError, View, as_face, choose_face
from emo_model.synthetic.identities import sample_identities
from emo_model.synthetic.motion import sample_still_motion
from emo_model.synthetic.renderer import render

ROOT = Path(__file__).parents[3]
FACES = ROOT / "tests" / "data" / "faces"
DRAWN = ROOT / "workflows" / "inputs" / "emo_drawn.png"
NAMES = sorted(path.name for path in FACES.glob("*.jpg"))


def read_picture(path: Path) -> torch.Tensor:
    return torch.from_numpy(np.array(Image.open(path).convert("RGB"))).permute(2, 0, 1)[None].float() / 127.5 - 1


def oracle() -> dict[str, torch.Tensor]:
    """Meshes that MediaPipe's TFLite files, run by LiteRT 2.3, read from the pictures; see
    test_faces_against_litert.py."""
    with safe_open(FACES / "meshes.safetensors", "pt") as file:
        return dict(zip(json.loads(file.metadata()["names"]), file.get_tensor("meshes"), strict=True))


@pytest.fixture(scope="module")
def finder():
    return load_face_finder()


@pytest.fixture(scope="module")
def portrait():
    return read_picture(FACES / "00000.jpg")


def wall(height: int, width: int) -> torch.Tensor:
    """Bricks, (1, 3, height, width)."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    x = x + 24 * (y // 24 % 2)
    mortar = (y % 24 < 3) | (x % 48 < 3)
    return torch.where(mortar, 0.5, torch.tensor([0.1, -0.4, -0.5]).view(3, 1, 1))[None]


def pasted(picture: torch.Tensor, ground: torch.Tensor, *, left: int, top: int, side: int) -> torch.Tensor:
    ground = ground.clone()
    ground[..., top : top + side, left : left + side] = torch.nn.functional.interpolate(
        picture, size=(side, side), mode="bicubic", antialias=True
    ).clamp(-1, 1)
    return ground


@pytest.mark.parametrize("name", [*NAMES, DRAWN.name])
def test_reads_the_mesh_that_the_original_interpreter_reads_to_a_tenth_of_a_pixel(finder, name):
    (face,) = finder.find(read_picture(DRAWN if name == DRAWN.name else FACES / name))
    assert face.is_sure
    torch.testing.assert_close(face.mesh, oracle()[name], rtol=0, atol=0.1)


def test_is_sure_of_drawn_heads(finder):
    seeds = [3, 4, 5, 6, 7, 8]
    heads = render(sample_identities(seeds), sample_still_motion(seeds), size=256)
    assert sum(any(face.is_sure for face in _found(finder, head[None])) for head in heads) >= 5


def _found(finder, picture: torch.Tensor) -> list[Face]:
    try:
        return finder.find(picture)
    except NoFaceError:
        return []


NOISE = torch.rand(1, 3, 256, 256, generator=torch.Generator().manual_seed(0)) * 2 - 1
NOTHING = {
    "wall": wall(256, 320),
    "black": torch.full((1, 3, 64, 200), -1.0),
    "noise": NOISE,
    "clouds": torch.nn.functional.interpolate(NOISE[..., :9, :9], size=(256, 256), mode="bicubic").clamp(-1, 1),
    "gradient": torch.linspace(-1, 1, 256).expand(1, 3, 256, 256),
    "one pixel": torch.zeros(1, 3, 1, 1),
}


@pytest.mark.parametrize("name", NOTHING)
def test_finds_no_face_where_there_is_none_and_says_what_helps(finder, name):
    height, width = NOTHING[name].shape[-2:]
    with pytest.raises(
        NoFaceError, match=rf"No face found in the picture \({width}x{height}\).*face box or paint a face mask"
    ):
        finder.find(NOTHING[name])


def test_refuses_a_face_of_twenty_pixels(finder, portrait):
    height = finder.find(portrait)[0].height
    with pytest.raises(NoFaceError, match="at least 32 "):
        finder.find(pasted(portrait, wall(480, 640), left=300, top=200, side=round(20 / height * 256)))


@pytest.mark.parametrize("size", [(720, 1280), (1080, 1920)])
def test_finds_a_face_of_forty_five_pixels_in_a_large_picture(finder, portrait, size):
    (face,) = finder.find(portrait)
    side = round(45 / face.height * 256)
    (small,) = finder.find(pasted(portrait, wall(*size), left=701, top=333, side=side))
    there = face.mesh * side / 256 + torch.tensor([701.0, 333.0, 0.0])
    assert small.is_sure and (small.mesh - there)[:, :2].norm(dim=1).mean() < 2


def test_finds_a_face_that_fills_the_picture_and_one_cut_by_its_edge(finder, portrait):
    (face,) = finder.find(portrait)
    left, top, right, bottom = (round(edge) for edge in face.box)
    for x0, y0, x1, y1 in (
        (left, top, right, bottom),
        (left + (right - left) // 8, 0, 256, 256),
        (0, 0, 256, bottom - 10),
    ):
        (cut,) = finder.find(portrait[..., y0:y1, x0:x1])
        assert (cut.mesh + torch.tensor([x0, y0, 0]) - face.mesh)[:, :2].norm(dim=1).mean() < 0.04 * face.height


def test_a_large_picture_is_read_in_its_own_pixels(finder, portrait):
    (face,) = finder.find(portrait)
    (large,) = finder.find(torch.nn.functional.interpolate(portrait, scale_factor=10, mode="bilinear"))
    torch.testing.assert_close(large.mesh / 10, face.mesh, rtol=0, atol=0.02 * face.height)


def test_is_not_sure_of_a_face_on_its_head_and_says_how_to_take_it(finder, portrait):
    with pytest.raises(NoFaceError, match="face box|face mask"):
        choose_face(finder.find(portrait.flip(2, 3)))


def test_sorts_faces_from_the_largest_down_and_lets_one_choose(finder, portrait):
    ground = pasted(portrait, wall(256, 600), left=20, top=60, side=150)
    faces = finder.find(pasted(read_picture(FACES / "01343.jpg"), ground, left=300, top=0, side=256))
    assert len(faces) == 2 and faces[0].height > faces[1].height
    large, small = faces
    assert (
        choose_face(faces) is large
        and choose_face(faces, "leftmost") is small
        and choose_face(faces, "rightmost") is large
    )
    assert choose_face(faces, 1) is small and choose_face(faces, "2") is large
    with pytest.raises(ValueError, match="are 2 faces .* face 3 .* from 1 to 2"):
        choose_face(faces, 3)
    with pytest.raises(ValueError, match="largest, leftmost, rightmost or a number"):
        choose_face(faces, "nearest")


def test_a_face_that_is_not_sure_is_refused_with_its_place_and_the_remedy(finder, portrait):
    face = replace(finder.find(portrait)[0], is_sure=False, score=0.4, box=(10.2, 20.0, 30.0, 40.0))
    with pytest.raises(NoFaceError, match=r"at 10, 20, 30, 40 .*detector score 0\.40.*face box or paint a face mask"):
        choose_face([face])


def test_a_box_overrides_the_detector(finder, portrait):
    (face,) = finder.find(portrait)
    left, top, right, bottom = face.box
    for box in (face.box, (left - 20, top - 40, right + 20, bottom + 10), (left + 8, top + 15, right - 8, bottom)):
        given = finder.mesh_in(portrait, box)
        assert given.is_sure and (given.mesh - face.mesh)[:, :2].norm(dim=1).mean() < 0.02 * face.height
    of_a_wall = finder.mesh_in(wall(256, 320), (100, 60, 200, 180))
    middle = of_a_wall.mesh[:, :2].mean(0)
    assert not of_a_wall.is_sure and 100 < middle[0] < 200 and 60 < middle[1] < 180


def test_a_box_decides_between_two_faces(finder, portrait):
    both = torch.cat([portrait, read_picture(FACES / "01343.jpg")], -1)
    for number, (left, right) in enumerate([(30, 230), (280, 490)]):
        face = finder.mesh_in(both, (left, 20, right, 250))
        assert left < face.mesh[1, 0] < right and face.is_sure, number


@pytest.mark.parametrize("box", [(10, 10, 10, 50), (300, 0, 400, 100), (-50, 0, -1, 100)])
def test_refuses_a_box_that_is_empty_or_outside(finder, portrait, box):
    with pytest.raises(ValueError, match="face box .* is empty or outside the picture of 256x256"):
        finder.mesh_in(portrait, box)


def test_follows_a_face_through_frames(finder, portrait):
    (face,) = finder.find(portrait)
    frames = torch.cat([torch.roll(portrait, (2 * number, number), (2, 3)) for number in range(-6, 7)])
    followed = finder.follow(frames, face)
    shifts = torch.stack([one.mesh - followed[6].mesh for one in followed])[..., :2].mean(1)
    expected = torch.tensor([[number, 2 * number] for number in range(-6, 7)]).float()
    assert (shifts - expected).abs().max() < 1 and all(one.is_sure for one in followed)


def test_several_views_are_averaged(photograph):
    face = as_face(photograph.mesh)
    plain = photograph.finder.follow(photograph.picture, face)[0]
    views = [View(right=0.03, size=1.08, turn=0.07), View(right=-0.03, size=0.92, turn=-0.07)]
    single = [photograph.finder.follow(photograph.picture, face, views=[view])[0].mesh for view in views]
    both = photograph.finder.follow(photograph.picture, face, views=views)[0]
    torch.testing.assert_close(both.mesh, torch.stack(single).mean(0))
    assert 0 < (both.mesh - plain.mesh)[:, :2].norm(dim=1).mean() < 0.01 * plain.height


def test_a_frame_is_read_alike_alone_and_in_a_batch(finder, portrait):
    (face,) = finder.find(portrait)
    frames = torch.cat([torch.roll(portrait, number, 3) for number in range(35)])
    torch.testing.assert_close(
        finder.follow(frames, face)[34].mesh, finder.follow(frames[34:], face)[0].mesh, rtol=0, atol=1e-3
    )
