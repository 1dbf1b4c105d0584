from __future__ import annotations

import torch

from emo_model.auxiliary.face_detector import FaceDetector, anchor_centres, decode_boxes
from emo_model.auxiliary.face_mesh import FaceMesh


def test_detector_gives_a_score_and_a_box_for_each_of_896_anchors(awake, seeded):
    scores, offsets = awake(FaceDetector())(seeded(2, 3, 128, 128))
    assert scores.shape == (2, 896) and offsets.shape == (2, 896, 16)
    assert decode_boxes(offsets).shape == (2, 896, 8, 2)
    assert 0 <= scores.min() and scores.max() <= 1


def test_an_anchor_without_offset_is_a_point_in_the_middle_of_its_cell():
    points = decode_boxes(torch.zeros(1, 896, 16))
    torch.testing.assert_close(points[0], anchor_centres()[:, None].expand(-1, 8, -1))
    # two anchors in each of 16 x 16 cells
    torch.testing.assert_close(points[0, 2, 0], torch.tensor([1.5 / 16, 0.5 / 16]))
    torch.testing.assert_close(points[0, 512 + 6, 0], torch.tensor([1.5 / 8, 0.5 / 8]))  # six in each of 8 x 8


def test_an_anchor_sees_its_own_place_and_not_the_far_corner(awake, seeded):
    detector, picture = awake(FaceDetector()), seeded(1, 3, 128, 128)
    changed = picture.clone()
    changed[..., :4, :4] += 1
    before, after = detector(picture)[0][0], detector(changed)[0][0]
    assert before[0] != after[0] and before[511] == after[511]


def test_mesh_reads_468_points_of_each_picture_alone(awake, seeded):
    mesh, pictures = awake(FaceMesh()), seeded(3, 3, 192, 192)
    points, presence = mesh(pictures)
    assert points.shape == (3, 468, 3) and presence.shape == (3,)
    torch.testing.assert_close(mesh(pictures[1:2])[0][0], points[1], rtol=1e-4, atol=1e-4)
