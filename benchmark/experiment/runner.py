"""From a request to a record: the only place that ties protocol, method, data and store together."""

from __future__ import annotations

import dataclasses
import datetime
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from benchmark.backbones import BACKBONES, PRETRAINED
from benchmark.data import ImageSet
from benchmark.data.published import PublishedDataset, data_set, open_data_set
from benchmark.errors import DoesNotApply, InputError
from benchmark.methods import METHODS, Method, TransferContext
from benchmark.recipes.recipe import Recipe, load_recipe, recipe_names
from benchmark.records.run_label import changed_settings, format_label
from benchmark.records.store import SCHEMA, DamagedRecord, Record, Store
from benchmark.settings import build_settings, parse_overrides
from benchmark.spec import RunSpec, Student, Teacher, Training
from benchmark.system.files import set_aside
from benchmark.system.progress import Progress, Silent
from protocols import PROTOCOLS, Protocol, Score

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from benchmark.backbones.pretrained import Pretrained
    from benchmark.training import Checkpoints, Device, TeacherOutputCache, Trainer

Mode = Literal["missing", "retry-failed", "force", "only-cache"]


@dataclass(frozen=True)
class Request:
    """What a user asks for, by name. preset: one of the protocol's, or a recipe."""

    protocol: str
    method: str
    dataset: str = "glyphs"
    preset: str = "quick"
    overrides: tuple[str, ...] = ()
    limit_steps: int | None = None
    complete: bool = False
    """Whether ``overrides`` say all that differs from the defaults of the settings: the preset only names the run."""


class Plan:
    """A request made sure of: every name known, every setting typed and within bounds, the data able to carry it.

    A request that cannot be carried out raises ``InputError``: ``DoesNotApply`` where method, protocol and data do not
    go together. ``teacher.seed=run`` among its overrides gives each run the teacher of its own seed. ``progress`` shows
    what it takes to open the data; ``opened`` holds data sets by name that plans have opened and share.
    """

    def __init__(
        self,
        request: Request,
        data_root: Path,
        progress: Progress | None = None,
        opened: dict[str, ImageSet] | None = None,
    ) -> None:
        self.request = request
        protocol = PROTOCOLS.get(request.protocol)
        method = METHODS.get(request.method)
        loader = data_set(request.dataset)
        classes: dict[str, type] = {
            "protocol": protocol.entry.Settings,
            "method": method.entry.Settings,
            "student": Student,
            "teacher": Teacher,
            "training": Training,
        }
        given = parse_overrides(request.overrides)
        self._pretrained = _pretrained(given)
        self._own_teacher = given["teacher"].get("seed") == "run"
        if self._own_teacher:
            del given["teacher"]["seed"]
        if request.limit_steps is not None:
            if request.limit_steps < 1:
                raise InputError(f"--limit-steps {request.limit_steps}: at least one step")
            for section in ("training",) if self._pretrained else ("training", "teacher"):
                given[section]["steps"] = request.limit_steps
        recipe = _recipe(request, protocol.entry.presets)
        if recipe is None:
            preset = protocol.entry.preset(request.preset, request.protocol, request.method)
        else:
            asked = (given[section].get("backbone") for section in ("teacher", "student"))
            preset = recipe.values(request.protocol, request.method, request.dataset, *asked)
            if isinstance(loader, PublishedDataset):
                loader = dataclasses.replace(loader, needs={**loader.needs, **recipe.imported})
        filled: Mapping[str, Mapping[str, Any]] = {} if request.complete else preset
        default: dict[str, Any] = {
            name: build_settings(cls, preset.get(name, {}), name) for name, cls in classes.items()
        }
        self._settings: dict[str, Any] = {
            name: build_settings(cls, {**filled.get(name, {}), **given[name]}, name) for name, cls in classes.items()
        }
        student, teacher = (self._settings[section].backbone for section in ("student", "teacher"))
        if "backbone" not in given["student"]:
            student = method.entry.backbone(student, teacher)
            self._settings["student"] = dataclasses.replace(self._settings["student"], backbone=student)
        for backbone in (student, teacher):
            if self._pretrained is None or backbone != self._pretrained.name:
                _check_backbone(backbone)
        where = protocol.entry.transfer_context(
            protocol.fields, self._settings["protocol"], student, teacher, self._settings["student"].start
        )
        if self._pretrained:
            where = dataclasses.replace(where, relation="disjoint")
        reason = method.entry.skip_reason(where, self._settings["method"])
        if reason is not None:
            raise DoesNotApply(f"method {request.method} does not apply to {request.protocol}: {reason}")
        if self._pretrained and student == teacher and method.entry.starts(where.start) == "fresh":
            raise DoesNotApply(
                f"student {student} is a pretrained teacher, and the student of {request.method} starts anew; "
                "set student.start=teacher where the method takes that, or take another backbone"
            )
        self._side_by_side = where.many
        self._label = format_label(
            request.preset, [*changed_settings(default, self._settings), *["teacher.seed=run"] * self._own_teacher]
        )
        self._versions = {"protocol": protocol.entry.version, "method": method.entry.version}
        self.method = method.entry
        self.protocol: Protocol = protocol.entry(request.protocol, self._settings["protocol"], protocol.fields)
        opened = {} if opened is None else opened
        shelf = request.dataset if recipe is None else f"{request.dataset} as {request.preset} has it"
        if shelf not in opened:
            opened[shelf] = open_data_set(loader, data_root, progress or Silent())
        self.data: ImageSet = opened[shelf]
        self.protocol.check(self.data)
        if self._pretrained and self._pretrained.data == self.data.fingerprint:
            raise DoesNotApply(
                f"teacher {teacher} was trained on {request.dataset} itself, maybe on what is judged here; without "
                "--teacher a run trains its own"
            )

    def spec(self, seed: int) -> RunSpec:
        """The run of one seed."""
        from benchmark.training.loop import VERSION

        teacher = self._settings["teacher"]
        return RunSpec(
            protocol=self.request.protocol,
            dataset=self.data.label,
            method=self.request.method,
            seed=seed,
            preset=self._label,
            protocol_settings=self._settings["protocol"],
            method_settings=self._settings["method"],
            student=self._settings["student"],
            teacher=dataclasses.replace(teacher, seed=seed) if self._own_teacher else teacher,
            training=self._settings["training"],
            versions={**self._versions, "training": VERSION},
            fingerprint=self.data.fingerprint,
            pretrained=self._pretrained,
        )

    def try_out(self, trainer: Trainer) -> None:
        """Build networks and method once, untrained: settings that do not fit them raise ``InputError``."""
        trainer.validate_networks(self.data, parallel=self._side_by_side)


def _recipe(request: Request, presets: Iterable[str]) -> Recipe | None:
    """The recipe that a preset's name stands for; None where it is one of the protocol's own."""
    if request.preset in presets:
        return None
    if request.preset not in recipe_names():
        raise InputError(
            f"{request.protocol} has no preset {request.preset!r}; it has {', '.join(presets)}, and there are recipes "
            "(`list recipes`)"
        )
    return load_recipe(request.preset)


def _check_backbone(name: str) -> None:
    if name in PRETRAINED:
        raise InputError(f"{name} is a pretrained teacher; a student can only be the same where --teacher names it too")
    if re.search("@[0-9a-f]{8}$", name):
        raise InputError(f"{name} stands for a file of weights of that sha256; name the file with --teacher")
    BACKBONES.get(name, extra=PRETRAINED.display_names())


def _pretrained(given: Mapping[str, dict[str, Any]]) -> Pretrained | None:
    """The pretrained teacher that the settings ask for, if they do; they hold its name for tables afterwards."""
    asked = given["teacher"].get("backbone", "")
    if asked not in PRETRAINED:
        if asked:
            _check_backbone(asked)
        if "size" in given["teacher"]:
            raise InputError("teacher.size is for pretrained teachers (`list teachers`); others see images as they are")
        return None
    match = PRETRAINED.get(asked)
    found: Pretrained = match.entry(**match.fields)
    for name in given["teacher"]:
        if name not in ("backbone", "size"):
            raise InputError(f"teacher.{name} does not apply: {asked} is pretrained, it is not trained here")
    size = build_settings(Teacher, given["teacher"], "teacher").size
    if size == found.size:
        del given["teacher"]["size"]
    for section in ("teacher", "student"):
        if given[section].get("backbone") == asked:
            given[section]["backbone"] = found.name
    return dataclasses.replace(found, size=size or found.size)


def transfer_context(protocol: str, method: type[Method]) -> TransferContext:
    """Where a method stands on a protocol as its quick preset has it."""
    match = PROTOCOLS.get(protocol)
    preset = match.entry.presets["quick"]
    student = build_settings(Student, preset.get("student", {}), "student")
    teacher = build_settings(Teacher, preset.get("teacher", {}), "teacher").backbone
    settings: Any = build_settings(match.entry.Settings, preset.get("protocol", {}), "protocol")
    backbone = method.backbone(student.backbone, teacher)
    return match.entry.transfer_context(match.fields, settings, backbone, teacher, student.start)


def run(
    plan: Plan,
    seeds: Iterable[int],
    *,
    store: Store,
    data_root: Path,
    device: Device,
    progress: Progress,
    mode: Mode = "missing",
    checkpoint_every: float = 60.0,
) -> list[Record]:
    """Records of all seeds, each taken from the store where it is done and measured otherwise.

    ``missing`` measures what has no finished record, ``retry-failed`` only what has a failed one, ``force`` everything;
    ``only-cache`` measures nothing and raises ``InputError`` for what is missing. Each record is saved when it is made.
    Trainings are kept every so many seconds, and a run that was broken off goes on from there.
    """
    if mode != "only-cache":
        store.check_writable()
    records = (
        run_seed(
            plan,
            seed,
            store=store,
            data_root=data_root,
            device=device,
            progress=progress,
            mode=mode,
            checkpoint_every=checkpoint_every,
        )
        for seed in seeds
    )
    return [record for record in records if record is not None]


def run_seed(
    plan: Plan,
    seed: int,
    *,
    store: Store,
    data_root: Path,
    device: Device,
    progress: Progress,
    mode: Mode = "missing",
    wait: bool = True,
    checkpoint_every: float = 60.0,
    passes: TeacherOutputCache | None = None,
) -> Record | None:
    """The record of one seed, as ``run`` has it. One process at a time is at a run.

    ``passes``: what teachers have made of batches in runs before, which spares its repetition and changes no result.

    A damaged record is set aside, which is said, and made anew.
    Where another is at it, this waits for it, or gives None where it is not to ``wait``.
    """
    from benchmark.training import Checkpoints, TeacherStore

    spec = plan.spec(seed)
    checkpoints = Checkpoints(data_root / "checkpoints", device, progress, checkpoint_every)
    known = _known(store, spec, mode)
    if known is None:
        lock = store.locks.try_acquire(spec.key)
        if lock is None and not wait:
            return None
        if lock is None:
            progress.say(f"seed {seed}: another process is at it; waiting for it")
            lock = store.locks.acquire(spec.key)
        with lock:
            known = _known(store, spec, mode, progress)  # the other may have finished it
            if known is None:
                bank = TeacherStore(data_root / "teachers", progress, passes)
                record, arrays = measure(plan, spec, bank, device, progress, checkpoints)
                path = store.save(record, arrays)
                checkpoints.clear(spec.key)
                progress.say(f"seed {seed}: {'' if record['status'] == 'done' else 'failed, '}saved {path}")
                return record
    checkpoints.clear(spec.key)  # of a process that was killed when all was done
    progress.say(f"seed {seed}: already measured, from {store.root}")
    return known


def _known(store: Store, spec: RunSpec, mode: Mode, progress: Progress | None = None) -> Record | None:
    """The finished record of a run where it is not to be repeated; None where the run is to be carried out.

    progress: of who has the claim on the run, and sets a damaged record aside.
    """
    try:
        known = None if mode == "force" else store.find(spec.key)
    except DamagedRecord as error:
        if mode == "only-cache":
            raise
        if progress is not None:
            progress.say(f"{error}; kept as {set_aside(error.path).name}")
        return None
    if known is not None and known["status"] == "done":
        return known
    if mode == "only-cache" or (mode == "retry-failed" and known is None):
        wanted = "finished" if mode == "only-cache" else "failed"
        raise InputError(
            f"{store.root} has no {wanted} record of {spec.protocol} {spec.dataset} {spec.method} seed {spec.seed} "
            f"(--mode {mode})"
        )
    return None


def measure(
    plan: Plan, spec: RunSpec, bank: Any, device: Device, progress: Progress, checkpoints: Checkpoints | None = None
) -> tuple[Record, dict[str, npt.NDArray[np.generic]]]:
    """Carry out one run. A run that breaks off by an error of its own gives a record with status ``failed``.

    The record holds identity (key, protocol, dataset, preset, method, backbone, teacher, seed), what the data are, the
    value of ``metric`` with its named intervals, the references' values, cost, history, versions and environment, and
    the full config.
    """
    import torch

    from benchmark.system.environment import describe, peak_memory_mb
    from benchmark.training import Trainer

    started = time.perf_counter()
    record: Record = {
        "schema": SCHEMA,
        "key": spec.key,
        "status": "failed",
        "provenance": "measured",
        "protocol": spec.protocol,
        "dataset": spec.dataset,
        "preset": spec.preset,
        "method": spec.method,
        "backbone": spec.student.backbone,
        "teacher": spec.teacher.backbone,
        "seed": spec.seed,
        "data": plan.data.describe(),
        "config": spec.config(),
        "environment": describe(device.torch, device.precision, device.compiled),
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    # as use_deterministic_algorithms, which imports the whole compiler for it
    torch.set_deterministic_debug_mode("error" if device.torch.type == "cpu" else "warn")
    try:
        trainer = Trainer(spec, bank, device, progress, checkpoints)
        plan.try_out(trainer)
        result = plan.protocol.run(plan.data, trainer, spec.seed)
    except InputError:
        raise
    except Exception as error:
        message = f"{type(error).__name__}: {error}".split("\n", 1)[0]
        return {**record, "error": message, "seconds": time.perf_counter() - started}, {}
    finally:
        torch.set_deterministic_debug_mode("default")
    student, teacher = result.student.metadata, result.teacher.metadata
    record |= {
        "status": "done",
        "metric": result.metric,
        **_score(result.score),
        "n": result.n,
        "references": {name: _score(score) for name, score in result.references.items()},
        "student_facts": {k: v for k, v in student.items() if k != "history"},
        "teacher_facts": teacher | (result.teacher.embedding_cache.facts() if result.teacher.embedding_cache else {}),
        "facts": dict(result.facts),
        "history": student["history"],
        "seconds": time.perf_counter() - started,
        "peak_memory_mb": peak_memory_mb(device.torch),
    }
    return record, dict(result.arrays)


def _score(score: Score) -> dict[str, Any]:
    return {
        "value": score.value,
        "intervals": {i.kind: {"half_width": i.half_width, "n": i.n} for i in score.intervals},
    }
