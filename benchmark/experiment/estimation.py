"""What a request would cost, from a few timed steps; nothing is kept."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.experiment.runner import Plan
from benchmark.records.store import Store
from benchmark.settings import SECTIONS
from benchmark.spec import RunSpec
from benchmark.system.progress import Silent
from protocols import Protocol
from protocols.episodic import Episodic

if TYPE_CHECKING:
    from benchmark.training import Device, TrainedNetwork, Trainer

_MB = 2**20
_ASKED = 20
_PASSES = {"all": 3, "head": 1, "nothing": 0}
"""Forward passes that a step is worth in FLOPs: the backward pass costs two, to the weights and to the maps."""


def estimate(plan: Plan, seeds: Sequence[int], *, store: Store, data_root: Path, device: Device) -> dict[str, Any]:
    """Every resolved setting, steps, parameters, FLOPs, memory and estimated seconds of a request.

    FLOPs of a step are three times those of the student's forward pass (one where its backbone is frozen) and those of
    the teacher's where its outputs are read; losses and connectors are left out. Memory is that of training one student
    and its teacher's forward pass: padded images, weights (with gradients and momentum of what is trained, float32),
    and what the backward pass needs of the network; the workspace of the libraries is left out.
    """
    from benchmark.data.augmentation import padded_bytes, room_for_images
    from benchmark.training import TeacherStore, Trainer
    from benchmark.training.profiling import network_cost, profile_steps

    spec = plan.spec(seeds[0])
    training = spec.training
    trainer = Trainer(spec, TeacherStore(data_root / "teachers"), device, Silent())
    teacher_task, student_task = plan.protocol.tasks(plan.data)
    rehearsed = profile_steps(spec, device, lambda brief: plan.protocol.train_briefly(plan.data, brief))
    shape = plan.data.images.shape[3], training.input_size or plan.data.images.shape[1]
    teacher, student = (network_cost(made.network, *shape, device) for made in (rehearsed.teacher, rehearsed.student))
    missing = [seed for seed in seeds if (store.find(plan.spec(seed).key) or {}).get("status") != "done"]
    teachers = len({plan.spec(seed).teacher.seed for seed in missing})
    teacher_steps = 0 if trainer.teacher_is_stored(teacher_task) else teachers * spec.teacher.steps
    trains = plan.method.needs.trains
    students = plan.protocol.students
    student_steps = students * training.steps if trains != "nothing" else 0
    guided = sum(stage.share for stage in plan.method.stages_for(spec.method_settings) if stage.teacher)
    guided = guided if plan.method.needs.teacher else 0.0
    teacher_flops = 3 * teacher.forward_flops * spec.teacher.batch_size
    student_flops = (_PASSES[trains] * student.forward_flops + guided * teacher.forward_flops) * training.batch_size
    padding = training.crop_padding if training.crop == "padded" else 0
    images = padded_bytes(plan.data, len(student_task.train), padding)
    resident = images <= room_for_images(device.torch)
    weights = 4 * ((3 if trains == "all" else 1) * student.parameters + teacher.parameters)
    activations = student.activation_bytes * training.batch_size if trains == "all" else 0
    flops = teacher_steps * teacher_flops + len(missing) * student_steps * student_flops
    seconds = teacher_steps * rehearsed.teacher_step + len(missing) * student_steps * rehearsed.student_step
    answering = _answering(plan.protocol, trainer, rehearsed.student)
    return {
        "key": spec.key,
        "settings": _settings(spec),
        "work": {
            "seeds": list(seeds),
            "seeds_already_measured": [seed for seed in seeds if seed not in missing],
            "teacher_steps_to_train": teacher_steps,
            "students_per_seed": students,
            "student_steps_per_seed": student_steps,
            "training_images": len(student_task.train),
            "training_classes": len(student_task.classes),
            "teacher_parameters": teacher.parameters,
            "student_parameters": student.parameters,
            "gflops_per_teacher_step": round(teacher_flops / 1e9, 3),
            "gflops_per_student_step": round(student_flops / 1e9, 3),
            "tflops_in_all": round(flops / 1e12, 1),
            "mb_of_images": round(images / _MB, 1),
            "images_are": "resident on the device" if resident else "streamed to the device",
            "mb_of_weights": round(weights / _MB, 1),
            "mb_of_activations": round(activations / _MB, 1),
            "mb_in_all": round((images * resident + weights + activations) / _MB, 1),
            "device": device.torch.type,
            "precision": device.precision,
            "compiled": device.compiled,
            "milliseconds_per_teacher_step": round(1000 * rehearsed.teacher_step, 1),
            "milliseconds_per_student_step": round(1000 * rehearsed.student_step, 1),
            **({} if answering is None else {"answering_seconds_per_seed": round(answering, 1)}),
            "estimated_training_seconds": round(seconds, 1),
        },
    }


def _answering(protocol: Protocol, trainer: Trainer, student: TrainedNetwork) -> float | None:
    """Seconds that a student which adapts to every support set takes for all episodes; None for any other.

    By one of them, asked again and again: what is done once for all of them is left out.
    """
    if student.episodic_method is None or not isinstance(protocol, Episodic):
        return None
    drawn = protocol.episodes(student.task.data, 0)
    asked = type(drawn)(*(part[:1].repeat(_ASKED, 0) for part in (drawn.classes, drawn.support, drawn.query)))
    began = time.perf_counter()
    trainer.evaluate_episodes(student, asked)
    return (time.perf_counter() - began) / _ASKED * len(drawn.classes)


def _settings(spec: RunSpec) -> dict[str, dict[str, Any]]:
    """As in the config, with what that leaves out at its default."""
    config = spec.config()
    parts = {
        "protocol": spec.protocol_settings, "method": spec.method_settings, "student": spec.student,
        "training": spec.training,
    }  # fmt: skip
    full = {name: {**config[name], **dataclasses.asdict(part)} for name, part in parts.items()}
    return {name: full.get(name, config[name]) for name in ("protocol", "dataset", *SECTIONS[1:])}
