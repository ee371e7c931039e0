"""What a request would cost: work, memory and time, from a few timed steps. Nothing is kept."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.experiment.planning import Plan
from benchmark.records.store import Store
from benchmark.settings import SECTIONS
from benchmark.spec import RunSpec
from benchmark.system.progress import Silent
from protocols import Protocol
from protocols.episodic import Episodic

if TYPE_CHECKING:
    from benchmark.training import Device, TrainedNetwork, Trainer
    from benchmark.training.profiling import Cost

_MIB = 2**20
_TIMED_EPISODES = 20
_FORWARD_PASSES = {"all": 3, "head": 1, "nothing": 0}
"""FLOPs of a training step in forward passes: the backward pass costs two, to the weights and to the feature maps."""


@dataclass(frozen=True)
class Workload:
    """The work of all runs of a request."""

    seeds: tuple[int, ...]
    seeds_already_measured: tuple[int, ...]
    teacher_steps_to_train: int
    students_per_seed: int
    student_steps_per_seed: int
    training_images: int
    training_classes: int
    teacher_parameters: int
    student_parameters: int
    teacher_flops: float
    """FLOPs of a training step of the teacher."""
    student_flops: float
    """FLOPs of a training step of a student, with the teacher's forward pass if the step reads its outputs."""

    @property
    def student_steps(self) -> int:
        """Training steps of the students of all seeds that have no record."""
        return (len(self.seeds) - len(self.seeds_already_measured)) * self.student_steps_per_seed

    def as_dict(self) -> dict[str, Any]:
        """Return the values under the names of the report."""
        flops = self.teacher_steps_to_train * self.teacher_flops + self.student_steps * self.student_flops
        values = {name: value for name, value in vars(self).items() if not name.endswith("_flops")}
        return {
            **values,
            "seeds": list(self.seeds),
            "seeds_already_measured": list(self.seeds_already_measured),
            "gflops_per_teacher_step": round(self.teacher_flops / 1e9, 3),
            "gflops_per_student_step": round(self.student_flops / 1e9, 3),
            "tflops_in_all": round(flops / 1e12, 1),
        }


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes needed to train one student beside its teacher; the workspace of the libraries is left out."""

    images: float
    """Padded training images."""
    images_resident: bool
    """True if all images fit on the device; otherwise they are streamed there."""
    weights: float
    """Weights of both networks, gradients and momentum of the trained parameters, in float32."""
    activations: float
    """Feature maps kept for the backward pass."""

    def as_dict(self) -> dict[str, Any]:
        """Return the values in MiB under the names of the report."""
        return {
            "mb_of_images": round(self.images / _MIB, 1),
            "images_are": "resident on the device" if self.images_resident else "streamed to the device",
            "mb_of_weights": round(self.weights / _MIB, 1),
            "mb_of_activations": round(self.activations / _MIB, 1),
            "mb_in_all": round((self.images * self.images_resident + self.weights + self.activations) / _MIB, 1),
        }


@dataclass(frozen=True)
class TimeEstimate:
    """Seconds on this machine."""

    teacher_step: float
    student_step: float
    adaptation: float | None
    """Seconds per seed in which the student adapts to all support sets; None if it does not adapt."""
    training: float
    """Training of all runs of the request."""

    def as_dict(self) -> dict[str, Any]:
        """Return the values under the names of the report."""
        adaptation = {} if self.adaptation is None else {"answering_seconds_per_seed": round(self.adaptation, 1)}
        return {
            "milliseconds_per_teacher_step": round(1000 * self.teacher_step, 1),
            "milliseconds_per_student_step": round(1000 * self.student_step, 1),
            **adaptation,
            "estimated_training_seconds": round(self.training, 1),
        }


def estimate(plan: Plan, seeds: Sequence[int], *, store: Store, data_root: Path, device: Device) -> dict[str, Any]:
    """Return the settings and the estimated cost of a request as JSON values.

    FLOPs of losses and connectors are left out.

    Args:
        plan: the plan of the request.
        seeds: its seeds.
        store: records; a seed with a finished record costs nothing.
        data_root: the folder of trained teachers; a trained teacher costs nothing.
        device: where to train.

    Returns:
        ``key``: the key of the first seed's run; ``settings``: all settings by section; ``work``: workload, memory,
        device and time.
    """
    from benchmark.training import TeacherStore, Trainer
    from benchmark.training.profiling import network_cost, profile_steps

    spec = plan.spec(seeds[0])
    trainer = Trainer(spec, TeacherStore(data_root / "teachers"), device, Silent())
    times = profile_steps(spec, device, lambda brief: plan.protocol.train_briefly(plan.data, brief))
    shape = plan.data.images.shape[3], spec.training.input_size or plan.data.images.shape[1]
    teacher, student = (network_cost(trained.network, *shape, device) for trained in (times.teacher, times.student))
    missing = [seed for seed in seeds if (store.find(plan.spec(seed).key) or {}).get("status") != "done"]
    workload = _workload(plan, seeds, missing, trainer, teacher, student)
    training = workload.teacher_steps_to_train * times.teacher_step + workload.student_steps * times.student_step
    adaptation = _answering_seconds(plan.protocol, trainer, times.student)
    return {
        "key": spec.key,
        "settings": _settings(spec),
        "work": {
            **workload.as_dict(),
            **_memory(plan, spec, device, teacher, student).as_dict(),
            "device": device.torch.type,
            "precision": device.precision,
            "compiled": device.compiled,
            **TimeEstimate(times.teacher_step, times.student_step, adaptation, training).as_dict(),
        },
    }


def _workload(
    plan: Plan, seeds: Sequence[int], missing: Sequence[int], trainer: Trainer, teacher: Cost, student: Cost
) -> Workload:
    spec = plan.spec(seeds[0])
    trains = plan.method.needs.trains
    teacher_task, student_task = plan.protocol.tasks(plan.data)
    teachers = 0 if trainer.teacher_is_stored(teacher_task) else len({plan.spec(seed).teacher.seed for seed in missing})
    guided = sum(stage.share for stage in plan.method.stages_for(spec.method_settings) if stage.teacher)
    guided = guided if plan.method.needs.teacher else 0.0
    step_flops = _FORWARD_PASSES[trains] * student.forward_flops + guided * teacher.forward_flops
    return Workload(
        seeds=tuple(seeds),
        seeds_already_measured=tuple(seed for seed in seeds if seed not in missing),
        teacher_steps_to_train=teachers * spec.teacher.steps,
        students_per_seed=plan.protocol.students,
        student_steps_per_seed=0 if trains == "nothing" else plan.protocol.students * spec.training.steps,
        training_images=len(student_task.train),
        training_classes=len(student_task.classes),
        teacher_parameters=teacher.parameters,
        student_parameters=student.parameters,
        teacher_flops=_FORWARD_PASSES["all"] * teacher.forward_flops * spec.teacher.batch_size,
        student_flops=step_flops * spec.training.batch_size,
    )


def _memory(plan: Plan, spec: RunSpec, device: Device, teacher: Cost, student: Cost) -> MemoryEstimate:
    from benchmark.data.augmentation import padded_bytes, room_for_images

    training = spec.training
    _, task = plan.protocol.tasks(plan.data)
    images = padded_bytes(plan.data, len(task.train), training.crop_padding if training.crop == "padded" else 0)
    trains_all = plan.method.needs.trains == "all"
    return MemoryEstimate(
        images=images,
        images_resident=images <= room_for_images(device.torch),
        weights=4 * ((3 if trains_all else 1) * student.parameters + teacher.parameters),
        activations=student.activation_bytes * training.batch_size if trains_all else 0,
    )


def _answering_seconds(protocol: Protocol, trainer: Trainer, student: TrainedNetwork) -> float | None:
    """Return the seconds in which a method's own head answers all episodes; None if it has none.

    The first episode is timed, repeated, so the cost that all episodes share is left out.
    """
    if student.episodic_method is None or not isinstance(protocol, Episodic):
        return None
    episodes = protocol.episodes(student.task.data, 0)
    parts = (episodes.classes, episodes.support, episodes.query)
    timed = type(episodes)(*(part[:1].repeat(_TIMED_EPISODES, 0) for part in parts))
    began = time.perf_counter()
    trainer.evaluate_episodes(student, timed)
    return (time.perf_counter() - began) / _TIMED_EPISODES * len(episodes.classes)


def _settings(spec: RunSpec) -> dict[str, dict[str, Any]]:
    """Return the config with the settings that it leaves out at their defaults."""
    config = spec.config() | spec.teacher_config()
    parts = {
        "protocol": spec.protocol_settings, "method": spec.method_settings, "student": spec.student,
        "training": spec.training,
    }  # fmt: skip
    full = {name: {**config[name], **dataclasses.asdict(part)} for name, part in parts.items()}
    return {name: full.get(name, config[name]) for name in ("protocol", "dataset", *SECTIONS[1:])}
