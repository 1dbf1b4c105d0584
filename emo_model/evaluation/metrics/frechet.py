"""Frechet distance between two sets of features (FID, arXiv 1706.08500; FVD, arXiv 1812.01717; E-FID of EMO)."""

from __future__ import annotations

import math

import torch
from torch import Tensor


class Moments:
    """Mean and covariance of features that come in batches; memory does not grow with their number."""

    def __init__(self):
        self.count, self._mean, self._scatter = 0, torch.zeros(()), torch.zeros(())

    def add(self, features: Tensor) -> None:
        """features (N, D)."""
        features = features.double().cpu()
        count, mean = len(features), features.mean(0)
        apart = features - mean
        scatter = apart.T @ apart
        if not self.count:
            self.count, self._mean, self._scatter = count, mean, scatter
            return
        whole, step = self.count + count, mean - self._mean
        self._scatter = self._scatter + scatter + torch.outer(step, step) * (self.count * count / whole)
        self._mean = self._mean + step * (count / whole)
        self.count = whole

    @property
    def mean(self) -> Tensor:
        return self._mean

    @property
    def covariance(self) -> Tensor:
        return self._scatter / max(1, self.count - 1)


def distance(one: Moments, other: Moments) -> float:
    """|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)); nan with fewer than two features on a side.

    The trace of the root is the sum of the roots of the eigenvalues of S1^(1/2) S2 S1^(1/2), which is symmetric: no
    complex numbers arise from rounding, as they do from the root of S1 S2 itself.
    """
    if min(one.count, other.count) < 2:
        return math.nan
    values, vectors = torch.linalg.eigh(one.covariance)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    middle = torch.linalg.eigvalsh(root @ other.covariance @ root).clamp(min=0).sqrt().sum()
    apart = (one.mean - other.mean).square().sum()
    return max(0.0, (apart + one.covariance.trace() + other.covariance.trace() - 2 * middle).item())
