from __future__ import annotations

from collections import Counter

import pytest
import torch

from emo_model.inputs import face_geometry as geometry
from emo_model.inputs.face_geometry import (
    ALL,
    FACE,
    OVAL,
    extend,
    flow_between,
    follow,
    head_frame,
    rasterise,
    triangles,
)

SIZE = 64


@pytest.fixture(scope="module")
def mesh():
    """The mean face in a square of 64 pixels."""
    mean = geometry.mean_face().double()
    return mean * 22 + torch.tensor([32.0, 23.0, 0.0])


@pytest.fixture(scope="module")
def head(mesh):
    return extend(mesh, SIZE)


def test_the_edges_of_oval_mouth_and_eyes_each_belong_to_one_triangle_of_the_face():
    corners, part = triangles()
    skin = corners[(part == 0) & (corners < FACE).all(1)].tolist()
    edges = Counter(tuple(sorted(pair)) for a, b, c in skin for pair in ((a, b), (b, c), (c, a)))
    rims = [[*OVAL, OVAL[0]], *(geometry.fine_row((*contour, contour[0])) for contour in geometry.contours())]
    border = {tuple(sorted(pair)) for rim in rims for pair in zip(rim, rim[1:], strict=False)}
    assert border == {edge for edge, count in edges.items() if count == 1}
    assert max(edges.values()) == 2


def test_the_stored_triangles_are_those_of_the_stored_mean_face():
    pytest.importorskip("scipy")
    from safetensors.torch import load_file

    from emo_model.synthetic.puppet_triangles import triangulate

    table = load_file(geometry.TABLE)
    assert torch.equal(table["triangles"], triangulate(table["mean"]))


def test_points_cover_the_whole_square(head):
    points, rigidity = head
    assert points.shape == (ALL, 3) and rigidity.shape == (ALL,)
    assert rasterise(points, rigidity[:, None], SIZE)[1].all()


def test_a_face_that_has_not_moved_has_no_flow(head):
    assert flow_between(head[0], head[0], SIZE).abs().max() == 0


def test_flow_says_where_the_content_comes_from(head, mesh):
    shift = torch.tensor([2.0, -1.0, 0.0], dtype=torch.float64)
    flow = flow_between(head[0], follow(*head, mesh + shift), SIZE)
    torch.testing.assert_close(flow[:, 32, 32], -shift[:2], atol=1e-6, rtol=0)
    assert flow[:, 0].abs().max() < 1e-6 and flow[:, :, -1].abs().max() < 1e-6


def test_a_portrait_that_follows_its_own_mesh_stays(head, mesh):
    torch.testing.assert_close(follow(*head, mesh), head[0], atol=1e-6, rtol=0)


def test_the_border_rests_however_far_the_head_goes(head, mesh):
    moved = follow(*head, mesh * 1.3 + torch.tensor([6.0, -9.0, 0.0]))
    flow = flow_between(head[0], moved, SIZE)
    assert flow.abs().max() > 5
    assert max(edge.abs().max() for edge in (flow[:, 0], flow[:, -1], flow[:, :, 0], flow[:, :, -1])) < 1e-5


def test_hair_turns_with_the_head_less_and_less_outwards(head, mesh):
    turn = torch.tensor(0.1).double()
    c, s = turn.cos(), turn.sin()
    about = torch.stack(
        [torch.stack([c, -s, 0 * c]), torch.stack([s, c, 0 * c]), torch.tensor([0.0, 0.0, 1.0]).double()]
    )
    centre = mesh.mean(0)
    moved = follow(*head, (mesh - centre) @ about.T + centre)
    rings = (moved - head[0])[FACE:, :2].norm(dim=1).unflatten(0, (4, len(OVAL)))[:, 0]  # above the forehead
    assert rings[0] > rings[2] > rings[3] == 0


def test_the_nearer_triangle_wins():
    points = torch.zeros(ALL, 3) + torch.tensor([0.0, 0.0, 9.0])
    corners, part = triangles()
    first, second = corners[part == 0][0].tolist(), None
    for candidate in corners[part == 0].tolist():
        if not set(candidate) & set(first):
            second = candidate
            break
    full = torch.tensor([[-100.0, -100.0], [300.0, -100.0], [-100.0, 300.0]])
    values = torch.zeros(ALL, 1)
    for corner, depth, value in ((first, 5.0, 1.0), (second, 3.0, 2.0)):
        points[corner] = torch.cat([full, torch.full((3, 1), depth)], 1)
        values[corner] = value
    torch.testing.assert_close(rasterise(points, values, 8)[0], torch.full((1, 8, 8), 2.0))


def test_the_mirror_of_a_mirrored_mesh_is_the_mesh():
    order = geometry.mirror_order()
    assert torch.equal(order[order], torch.arange(468))
    assert order[33] == 263 and order[61] == 291 and order[10] == 10


def test_the_frame_measures_in_distances_of_the_eyes(mesh):
    local = head_frame(mesh).local(mesh)
    assert (local[263] - local[33]).norm() == pytest.approx(1.0)
    assert local[152, 1] > local[10, 1] and local[4, 2] < local[234, 2]  # down; the nose is nearer than the ear
    torch.testing.assert_close(head_frame(mesh).pixels(local), mesh)
