from __future__ import annotations

import numpy as np
import torch
from sklearn.decomposition import PCA

from benchmark.training import principal_components


def test_principal_components_agree_with_scikit_learn() -> None:
    x = torch.randn(60, 20, generator=torch.Generator().manual_seed(0)) * torch.linspace(3, 0.1, 20)
    found = principal_components(x, 4).astype(np.float64)
    expected = PCA(4, svd_solver="full").fit_transform(x.double().numpy())
    expected = expected * np.sign((expected * found).sum(0))
    scale = np.sqrt(np.square(expected).sum(1).mean())
    np.testing.assert_allclose(found, expected / scale, atol=2e-3)
    assert abs(np.square(found).sum(1).mean() - 1) < 1e-2


def test_principal_components_have_determined_signs() -> None:
    x = torch.randn(30, 8, generator=torch.Generator().manual_seed(1))
    np.testing.assert_array_equal(principal_components(x, 3), principal_components(x.clone(), 3))
    np.testing.assert_allclose(principal_components(-x, 3), -principal_components(x, 3), atol=1e-3)


def test_principal_components_of_few_or_equal_embeddings() -> None:
    assert principal_components(torch.randn(30, 3), 16).shape == (30, 3)
    assert not principal_components(torch.ones(5, 4), 2).any()
