"""Which identity tokens Hallo's halves of guidance get; that these are the right ones is shown by test_oracle.py."""

from __future__ import annotations

import pytest
import torch

from emo_model.models.emo import Context
from emo_model.sampling.mixed_identity import mix_identity
from emo_model.types import ReferenceFeatures

SHOWN, NOBODY = 1.0, 0.0


def context(*, motion_frames: int, frames: int) -> Context:
    """Features that tell whose tokens they were read with."""

    def read(*shape: int) -> ReferenceFeatures:
        return ReferenceFeatures({"a": torch.full(shape, SHOWN)}, {"a": torch.full(shape, NOBODY)})

    return Context(
        read(1, 2, 3),
        read(1, motion_frames, 2, 3),
        torch.ones(1, frames, 4, 5),
        None,
        torch.ones(1, 8, 1, 2, 2),
        torch.stack([torch.full((1, 4, 6), NOBODY), torch.full((1, 4, 6), SHOWN)], dim=1),
    )


def tokens(features: dict[str, torch.Tensor]) -> list[float]:
    """Of each row (1, R, N, C)."""
    return features["a"][0, :, 0, 0].tolist()


@pytest.mark.parametrize(
    "motion_frames, frames, own, nobodys, portraits",
    [
        (2, 16, [NOBODY, SHOWN], [SHOWN, NOBODY], [NOBODY, SHOWN]),  # Hallo's own numbers: rows u c u | c u c
        (2, 5, [NOBODY, SHOWN], [SHOWN, NOBODY], [SHOWN, NOBODY]),
        (1, 4, [SHOWN], [SHOWN], [NOBODY, NOBODY]),  # rows u c | u c
        (3, 4, [SHOWN, NOBODY, SHOWN], [SHOWN, NOBODY, SHOWN], [NOBODY, NOBODY]),
    ],
)
def test_tokens_are_dealt_by_rows_and_portraits_by_frames(motion_frames, frames, own, nobodys, portraits):
    mixed = mix_identity(context(motion_frames=motion_frames, frames=frames))
    assert tokens(mixed.motion.features) == own
    assert tokens(mixed.motion.unconditional) == tokens(mixed.without_reference().motion.features) == nobodys
    assert tokens(mixed.reference.features) == portraits


def test_only_pictures_are_mixed_and_not_the_tokens_that_the_halves_read():
    plain = context(motion_frames=2, frames=4)
    mixed = mix_identity(plain)
    assert mixed.identity is plain.identity and mixed.audio is plain.audio and mixed.face is plain.face


def test_a_model_without_identity_tokens_is_left_alone():
    portrait = ReferenceFeatures({"a": torch.ones(1, 2, 3)})
    plain = Context(portrait, ReferenceFeatures(), torch.ones(1, 4, 4, 5), None, torch.ones(1))
    assert mix_identity(plain) is plain
