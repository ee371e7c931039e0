"""Nothing that is not finite is measured: weights, outputs and terms, of students and teachers."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from benchmark.backbones.network import Network, build_network
from benchmark.data import ImageSet, Task
from benchmark.data.augmentation import Normalisation
from benchmark.errors import InputError
from benchmark.experiment.measurement import measure
from benchmark.system.progress import Silent
from benchmark.training import TeacherStore, accuracy, embed, select_device
from benchmark.training.finite import DivergedError, check_outputs, tensor_that_is_not_finite
from benchmark.training.term_log import TermLog

from ..smoke import DEVICE, make_trainer, run_plan, smoke_plan


def broken(value: float = math.nan) -> Network:
    network = build_network("conv4-16", channels=3, size=16, classes=8, seed=0)
    with torch.no_grad():
        network.backbone.get_parameter("blocks.1.0.weight")[0, 0, 0, 0] = value
    return network


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_network_is_searched_for_values_that_are_not_finite(value: float) -> None:
    assert tensor_that_is_not_finite(build_network("conv4-16", channels=3, size=16, classes=8, seed=0)) is None
    assert tensor_that_is_not_finite(broken(value)) == "backbone.blocks.1.0.weight"
    network = build_network("conv4-16", channels=3, size=16, classes=8, seed=0)
    network.backbone.get_buffer("blocks.0.1.running_var")[3] = value
    assert tensor_that_is_not_finite(network) == "backbone.blocks.0.1.running_var"


def test_outputs_count_the_images_that_are_not_finite() -> None:
    outputs = torch.ones(5, 3)
    assert check_outputs(outputs, "logits") is outputs
    outputs[1, 2], outputs[4, 0] = math.nan, math.inf
    with pytest.raises(DivergedError, match="logits are not finite for 2 of 5 images"):
        check_outputs(outputs, "logits")


def test_evaluation_refuses_embeddings_and_logits(tiny: ImageSet) -> None:
    task = Task(tiny, tiny.splits["train"][:8], tiny.indices_of(tiny.splits["train"][:8]), tiny.indices_of([0]))
    norm, device = Normalisation.of(tiny, task.train), select_device("cpu")
    with pytest.raises(DivergedError, match="embeddings are not finite for 12 of 12 images"):
        embed(broken(), tiny, task.train[:12], norm, device)
    with pytest.raises(DivergedError, match="logits are not finite"):
        accuracy(broken(), task, task.train[:12], norm, device)


def test_the_end_of_a_training_names_method_step_term_and_tensor() -> None:
    log = TermLog(Silent(), "kd seed 3", 2)
    log.add({"ce": torch.tensor(1.0), "kd": torch.tensor(2.0)})
    log.end_step("train", images=4, last=True)
    with pytest.raises(
        DivergedError,
        match=r"kd seed 3, stage 'train', step 1: backbone\.blocks\.1\.0\.weight of the network is not finite "
        r"after a step on term 'ce', 'kd'; lower training\.lr",
    ):
        log.end(broken())


@pytest.mark.parametrize("protocol", ["distill-same", "fewshot-5way1shot", "middleshot-5way1shot"])
def test_a_student_that_diverges_leaves_a_failed_record(tmp_path: Path, protocol: str) -> None:
    made = smoke_plan(tmp_path, protocol, "ce", "training.lr=1e30", limit_steps=1)
    record, arrays = measure(made, made.spec(0), TeacherStore(tmp_path / "teachers"), DEVICE, Silent())
    assert record["status"] == "failed"
    assert "not finite" in record["error"]
    assert not arrays
    assert "value" not in record


def test_a_teacher_that_diverges_is_not_kept(tmp_path: Path) -> None:
    made = smoke_plan(tmp_path, "distill-same", "kd", "teacher.lr=1e30", limit_steps=2)
    with pytest.raises(DivergedError, match="not finite"):
        run_plan(tmp_path, made)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_the_remedy_for_a_teacher_is_its_own_rate(tmp_path: Path) -> None:
    made = smoke_plan(tmp_path, "distill-same", "kd", "teacher.lr=1e30", limit_steps=6)
    with pytest.raises(DivergedError, match=r"^teacher conv4-16, stage 'train', step \d+: .* lower teacher\.lr$"):
        run_plan(tmp_path, made)


def test_a_stored_teacher_that_is_not_finite_is_refused_by_name(tmp_path: Path) -> None:
    made = smoke_plan(tmp_path, "distill-same", "kd", limit_steps=2)
    trainer = make_trainer(tmp_path, made)
    task = made.protocol.tasks(made.data, 0)[0]
    found = trainer.get_teacher(task)
    with torch.no_grad():
        found.network.head.bias[0] = math.nan
    store = TeacherStore(tmp_path / "again")
    facts = {"recipe": {}, "classes": [], "input": {}, "accuracy": 1.0, "seconds": 1.0, "history": []}
    store.get(found.metadata["key"], found.network, lambda: facts)
    (tmp_path / "teachers").rename(tmp_path / "first")
    (tmp_path / "again").rename(tmp_path / "teachers")
    with pytest.raises(
        InputError, match=r"teacher conv4-16 in .*: its weights are not finite, the first in head\.bias"
    ):
        make_trainer(tmp_path, made).get_teacher(task)
