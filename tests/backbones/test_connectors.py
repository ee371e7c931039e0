from __future__ import annotations

import pytest
import torch

from benchmark.backbones.connectors import ContrastiveMemory, MapRegressor, VariationalRegressor
from benchmark.errors import InputError


@pytest.mark.parametrize("size", [(4, 4), (8, 4), (4, 8), (7, 4), (9, 5), (7, 1)])
def test_map_regressor_returns_the_teachers_shape(size: tuple[int, int]) -> None:
    student, teacher = size
    regressor = MapRegressor((3, student, student), (5, teacher, teacher))
    assert regressor(torch.randn(2, 3, student, student)).shape == (2, 5, teacher, teacher)


def test_map_regressor_refuses_impossible_shapes() -> None:
    with pytest.raises(InputError, match=r"\(3, 3, 3\) to a teacher map \(5, 8, 8\)"):
        MapRegressor((3, 3, 3), (5, 8, 8))


@pytest.mark.parametrize("size", [(4, 4), (8, 4), (4, 8)])
def test_variational_regressor_pools_the_larger_map(size: tuple[int, int]) -> None:
    student, teacher = size
    regressor = VariationalRegressor((3, student, student), (5, teacher, teacher))
    target = torch.randn(2, 5, teacher, teacher)
    mean, pooled = regressor(torch.randn(2, 3, student, student), target)
    assert mean.shape == pooled.shape == (2, 5, 4, 4)
    if teacher == 8:
        assert torch.allclose(pooled, target.view(2, 5, 4, 2, 4, 2).mean((3, 5)), atol=1e-6)
    else:
        assert pooled is target
    assert all(layer.bias is None for layer in regressor.layers if isinstance(layer, torch.nn.Conv2d))


def test_contrastive_memory_depends_on_the_seed() -> None:
    def build(seed: int) -> ContrastiveMemory:
        torch.manual_seed(seed)
        memory = ContrastiveMemory(4, 6, 8)
        memory.reserve(10, torch.device("cpu"))
        return memory

    first, same, other = build(1), build(1), build(2)
    assert torch.equal(first.student_memory, same.student_memory)
    assert not torch.equal(first.student_memory, first.teacher_memory)
    assert not torch.equal(first.student_memory, other.student_memory)
    student, teacher = first(torch.randn(3, 4), torch.randn(3, 6))
    assert student.shape == teacher.shape == (3, 8)
    assert torch.allclose(student.norm(dim=1), torch.ones(3))
    draws = torch.rand(4, generator=first.generator)
    same.load_state_dict(first.state_dict())
    assert torch.equal(torch.rand(4, generator=first.generator), torch.rand(4, generator=same.generator))
    assert not torch.equal(draws, torch.rand(4, generator=first.generator))
