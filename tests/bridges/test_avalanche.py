from __future__ import annotations

import sys
import warnings
from typing import Any

import numpy as np
import pytest
import torch

from benchmark.bridges.avalanche.benchmark import as_avalanche_benchmark, load_avalanche, suppress_warnings
from benchmark.data import ImageSet
from benchmark.errors import InputError
from protocols import PROTOCOLS


def contents(experience: Any) -> list[tuple[bytes, int]]:
    """Every image with its class, in an order of its own."""
    items = [experience.dataset[i] for i in range(len(experience.dataset))]
    return sorted(((image * 255).round().byte().numpy().tobytes(), int(label)) for image, label, *_ in items)


def expected(data: ImageSet, indices: Any, classes: tuple[int, ...]) -> list[tuple[bytes, int]]:
    position = {c: i for i, c in enumerate(classes)}
    return sorted(
        (data.images[i].transpose(2, 0, 1).tobytes(), position[int(data.labels[i])]) for i in indices
    )  # fmt: skip


def test_avalanche_benchmark_holds_the_images_of_the_protocols_tasks(tiny: ImageSet) -> None:
    found = as_avalanche_benchmark("incremental-1step-3exemplars", "tiny", old=12)
    match = PROTOCOLS.get("incremental-1step-3exemplars")
    made = match.entry(match.name, match.entry.Settings(old=12), match.fields)
    first, both = made.tasks(tiny)
    new = np.setdiff1d(both.train, first.train)
    new = new[np.isin(tiny.labels[new], both.classes[12:])]
    assert len(new) == np.isin(tiny.labels[both.train], both.classes[12:]).sum()
    old_judged, new_judged = (
        [i for i in both.held_out if (tiny.labels[i] in both.classes[12:]) == is_new] for is_new in (False, True)
    )
    for experience, indices in zip(
        [*found.train_stream, *found.test_stream], (first.train, new, old_judged, new_judged), strict=True
    ):
        assert contents(experience) == expected(tiny, indices, both.classes)
    assert [experience.classes_in_this_experience for experience in found.train_stream] == [
        list(range(12)), list(range(12, 30))
    ]  # fmt: skip
    image, _, task = found.train_stream[0].dataset[0]
    assert image.dtype == torch.float32
    assert image.shape == (3, 16, 16)
    assert task == 0


def test_avalanche_benchmark_can_hold_validation_images(tiny: ImageSet) -> None:
    val, test = (as_avalanche_benchmark("incremental-1step-0exemplars", "tiny", split=s) for s in ("val", "test"))
    assert contents(val.train_stream[0]) == contents(test.train_stream[0])
    assert not {image for image, _ in contents(val.test_stream[0])} & {x for x, _ in contents(test.test_stream[0])}


def test_avalanche_strategies_train_on_the_benchmark() -> None:
    avalanche = load_avalanche()
    found = as_avalanche_benchmark("incremental-1step-3exemplars", "tiny")
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 16 * 16, 30))
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01)
    with suppress_warnings():
        strategy = avalanche.training.supervised.Replay(
            model=model,
            optimizer=optimiser,
            criterion=torch.nn.CrossEntropyLoss(),
            mem_size=45,
            train_mb_size=32,
            evaluator=None,
        )
        for experience in found.train_stream:
            strategy.train(experience, eval_streams=[])
    assert strategy.clock.train_exp_counter == 2


def test_avalanche_benchmark_refuses_other_protocols() -> None:
    with pytest.raises(InputError, match="fewshot-5way1shot has no old and new classes"):
        as_avalanche_benchmark("fewshot-5way1shot", "tiny")


def test_missing_avalanche_names_the_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "avalanche", None)
    load_avalanche.cache_clear()
    with pytest.raises(InputError, match=r'Avalanche.* pip install "\.\[bridges\]"'):
        as_avalanche_benchmark("incremental-1step-3exemplars", "tiny")
    load_avalanche.cache_clear()


def test_load_avalanche_leaves_torchs_addition_unchanged() -> None:
    load_avalanche()
    assert torch.utils.data.Dataset.__add__.__module__ == "torch.utils.data.dataset"


def test_suppress_warnings_drops_avalanches_warnings_only() -> None:
    with pytest.warns(UserWarning) as said, suppress_warnings():  # noqa: PT030, PT031
        load_avalanche().training.plugins.EvaluationPlugin()  # warns that there is no logger
        warnings.warn("of another", UserWarning, stacklevel=1)
    assert [str(one.message) for one in said] == ["of another"]
