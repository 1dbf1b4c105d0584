"""Pose, face and lips: where Hallo's voice moves what."""

from __future__ import annotations

import pytest
import torch

from emo_model.inputs.face import box_mask, voice_regions, whole_mask

FACE = box_mask(512, (0.2, 0.15, 0.8, 0.9))
LIPS = box_mask(512, (0.4, 0.6, 0.6, 0.75)).mask


def test_lips_are_in_the_middle_of_their_mask_and_pose_is_far_from_the_face():
    pose, face, lips = voice_regions(FACE, LIPS).regions[0]
    assert lips[43, 32] > 0.95 and face[43, 32] < 0.1 and pose[43, 32] < 0.1
    assert pose[0, 0] > 0.95 and lips[0, 0] < 0.01
    assert face[20, 32] > 0.7


def test_regions_lie_between_0_and_1_and_leave_nothing_out():
    regions = voice_regions(FACE, LIPS).regions
    assert regions.shape == (1, 3, 64, 64) and 0 <= regions.min() and regions.max() <= 1
    assert regions.sum(1).min() > 0.999


def test_without_a_lip_mask_lips_are_looked_for_in_the_lower_face():
    lips = voice_regions(FACE).regions[0, 2]
    row, column = divmod(int(lips.argmax()), 64)
    assert 0.15 + 0.75 * 0.6 < row / 64 < 0.9 and abs(column - 32) < 6


def test_a_mask_over_everything_is_all_face():
    pose, face, lips = voice_regions(whole_mask(512)).regions[0]
    assert pose.max() < 1e-5 and torch.allclose((face + lips).clamp(max=1), torch.ones(64, 64), atol=1e-5)


def test_opencvs_blur_is_ours():
    cv2 = pytest.importorskip("cv2", reason="OpenCV is the judge")
    picture = (FACE.mask[0, 0] * 255).byte().numpy()
    soft = cv2.normalize(cv2.GaussianBlur(cv2.resize(picture, (64, 64)), (51, 51), 0), None, 0, 255, cv2.NORM_MINMAX)
    assert (1 - voice_regions(FACE, LIPS).regions[0, 0] - torch.from_numpy(soft) / 255).abs().max() < 2 / 255


def test_masks_of_different_pictures_are_refused():
    with pytest.raises(ValueError, match="crop both with the same fit"):
        voice_regions(FACE, torch.ones(1, 1, 64, 64))
