import math

import pytest
import torch

from emo_model.evaluation.metrics.frechet import Moments, distance


def _moments(*batches):
    made = Moments()
    for batch in batches:
        made.add(batch)
    return made


def test_identical_sets_are_at_distance_0():
    features = torch.randn(200, 12, generator=torch.Generator().manual_seed(0))
    assert distance(_moments(features), _moments(features)) == pytest.approx(0, abs=1e-9)


def test_a_shift_of_all_features_is_its_square():
    features = torch.randn(300, 4, generator=torch.Generator().manual_seed(0)).double()
    shift = torch.tensor([3.0, 0, 4.0, 0])
    assert distance(_moments(features), _moments(features + shift)) == pytest.approx(25, rel=1e-6)


def test_two_gaussians_of_other_widths_have_the_known_distance():
    """Of diagonal covariances: the squared difference of the standard deviations."""
    features = torch.randn(400, 3, generator=torch.Generator().manual_seed(0)).double()
    features = features - features.mean(0)
    features = features @ torch.linalg.inv(torch.linalg.cholesky(features.T.cov()).T)  # covariance 1 exactly
    assert distance(_moments(features), _moments(3 * features)) == pytest.approx(3 * (3 - 1) ** 2, rel=1e-6)


def test_correlated_features_agree_with_the_square_root_of_the_matrix_product():
    linalg = pytest.importorskip("scipy.linalg", reason="pip install scipy")
    seeded = torch.Generator().manual_seed(1)
    one, other = (
        torch.randn(100, 6, generator=seeded).double() @ torch.randn(6, 6, generator=seeded).double() for _ in "ab"
    )
    root = linalg.sqrtm((one.T.cov() @ other.T.cov()).numpy()).real
    known = (
        (one.mean(0) - other.mean(0)).square().sum() + one.T.cov().trace() + other.T.cov().trace() - 2 * root.trace()
    )
    assert distance(_moments(one), _moments(other)) == pytest.approx(float(known), rel=1e-6)


def test_batches_add_up_to_the_whole():
    features = torch.randn(90, 5, generator=torch.Generator().manual_seed(2)).double()
    whole, parts = _moments(features), _moments(features[:7], features[7:8], features[8:])
    assert parts.count == 90
    torch.testing.assert_close(parts.mean, features.mean(0))
    torch.testing.assert_close(parts.covariance, features.T.cov())
    assert distance(whole, parts) == pytest.approx(0, abs=1e-9)


def test_one_feature_has_no_covariance_and_no_distance():
    assert math.isnan(distance(_moments(torch.ones(1, 3)), _moments(torch.ones(5, 3))))
