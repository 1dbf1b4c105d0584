import pytest
import torch

from emo_model.evaluation.metrics.syncnet import of_embeddings


@pytest.mark.parametrize("late", [0, 3, -4])
def test_an_offset_of_the_mouth_is_found_with_its_confidence(late):
    voice = torch.randn(120, 32, generator=torch.Generator().manual_seed(0))
    confidence, distance, offset = of_embeddings(voice.roll(late, 0), voice)
    assert offset == late
    assert confidence > 3 and distance < 2


def test_lips_of_another_voice_have_next_to_no_confidence():
    seeded = torch.Generator().manual_seed(0)
    confidence, distance, _ = of_embeddings(
        torch.randn(200, 32, generator=seeded), torch.randn(200, 32, generator=seeded)
    )
    assert confidence < 0.7 and distance > 6
