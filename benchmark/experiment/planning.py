"""From a request to a plan: names looked up, settings built and checked, data opened."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.backbones import BACKBONES, PRETRAINED
from benchmark.data import ImageSet
from benchmark.data.published import PublishedDataset, data_set, open_data_set
from benchmark.errors import DoesNotApply, InputError
from benchmark.experiment.presets import Preset, resolve_preset
from benchmark.experiment.request import Request
from benchmark.experiment.teacher_overlap import check_overlap
from benchmark.methods import METHODS, Method, TransferContext
from benchmark.recipes.recipe import Values
from benchmark.records.run_label import changed_settings, format_label
from benchmark.registry import Resolved
from benchmark.settings import build_settings, parse_overrides
from benchmark.spec import RunSpec, Student, Teacher, Training
from benchmark.system.progress import Progress, Silent
from protocols import PROTOCOLS, Protocol

if TYPE_CHECKING:
    from benchmark.backbones.pretrained import Pretrained
    from benchmark.training import Trainer


@dataclass(frozen=True)
class RunSettings:
    """The typed settings of a run, one field for each section."""

    protocol: Any
    method: Any
    student: Student
    teacher: Teacher
    training: Training


@dataclass(frozen=True, eq=False)
class Plan:
    """A request that can be carried out: all names known, all settings valid, the data sufficient."""

    request: Request
    protocol: Protocol
    method: type[Method]
    settings: RunSettings
    label: str
    """The preset and the settings that differ from it, for tables."""
    data: ImageSet
    pretrained: Pretrained | None = None
    """The pretrained teacher; None if the teacher is trained here."""
    teacher_follows_seed: bool = False
    """True if each run has the teacher of its own seed (``teacher.seed=run``)."""
    parallel_students: bool = False
    """True if the protocol trains many students together."""
    reads_teacher: bool = True
    """False if nothing of the teacher can reach the student: it is then measured beside it."""

    def spec(self, seed: int) -> RunSpec:
        """Return the run of one seed."""
        from benchmark.training.loop import VERSION

        teacher = self.settings.teacher
        return RunSpec(
            protocol=self.request.protocol,
            dataset=self.data.label,
            method=self.request.method,
            seed=seed,
            preset=self.label,
            protocol_settings=self.settings.protocol,
            method_settings=self.settings.method,
            student=self.settings.student,
            teacher=dataclasses.replace(teacher, seed=seed) if self.teacher_follows_seed else teacher,
            training=self.settings.training,
            versions={"protocol": self.protocol.version, "method": self.method.version, "training": VERSION},
            fingerprint=self.data.fingerprint,
            pretrained=self.pretrained,
            reads_teacher=self.reads_teacher,
        )

    def validate_networks(self, trainer: Trainer) -> None:
        """Build networks and method once, untrained.

        Raises:
            InputError: settings do not fit the networks.
        """
        trainer.validate_networks(self.data, parallel=self.parallel_students)


def make_plan(
    request: Request,
    data_root: Path,
    progress: Progress | None = None,
    opened: dict[str, ImageSet] | None = None,
) -> Plan:
    """Return the plan of a request. Nothing is trained.

    Args:
        request: what to run.
        data_root: the folder of data sets.
        progress: shows the work of opening the data.
        opened: data sets that are open already, by name; the plan adds its own.

    Raises:
        DoesNotApply: protocol, method, teacher and data do not go together.
        InputError: a name is unknown or a value is invalid.
    """
    entries = _look_up(request)
    overrides, teacher = _resolve_teacher(parse_overrides(request.overrides))
    overrides = _limit_steps(overrides, request.limit_steps, teacher)
    backbones = (overrides[section].get("backbone") for section in ("teacher", "student"))
    preset = resolve_preset(request, entries.protocol.entry, *backbones)
    defaults = entries.build(preset.values)
    settings = _choose_student(entries, entries.build({} if request.complete else preset.values, overrides), overrides)
    _check_backbones(settings, teacher)
    context = _transfer_context(entries, settings, teacher)
    _check_applies(request, entries.method, settings, teacher, context)
    protocol: Protocol = entries.protocol.entry(request.protocol, settings.protocol, entries.protocol.fields)
    data = _open_data(entries, preset, data_root, progress or Silent(), {} if opened is None else opened)
    protocol.check(data)
    reads_teacher = entries.protocol.entry.reads_teacher or entries.method.reads_teacher(settings.student.start)
    if teacher.pretrained is not None:
        overlap = check_overlap(teacher.pretrained, data, settings.teacher.overlap)
        settings = dataclasses.replace(settings, teacher=dataclasses.replace(settings.teacher, overlap=overlap))
    changes = [*changed_settings(vars(defaults), vars(settings)), *["teacher.seed=run"] * teacher.follows_seed]
    if not reads_teacher:
        changes = [each for each in changes if not each.startswith("teacher.")]
    return Plan(
        request=request,
        protocol=protocol,
        method=entries.method,
        settings=settings,
        label=format_label(preset.label, changes),
        data=data,
        pretrained=teacher.pretrained,
        teacher_follows_seed=teacher.follows_seed,
        parallel_students=context.parallel_students,
        reads_teacher=reads_teacher,
    )


def transfer_context(protocol: str, method: type[Method]) -> TransferContext:
    """Return the conditions that a method meets in the quick preset of a protocol."""
    match = PROTOCOLS.get(protocol)
    preset = match.entry.presets["quick"]
    student = build_settings(Student, preset.get("student", {}), "student")
    teacher = build_settings(Teacher, preset.get("teacher", {}), "teacher").backbone
    settings: Any = build_settings(match.entry.Settings, preset.get("protocol", {}), "protocol")
    backbone = method.backbone(student.backbone, teacher)
    return match.entry.transfer_context(match.fields, settings, backbone, teacher, student.start)


def section_types(protocol: type[Protocol], method: type[Method]) -> dict[str, type[Any]]:
    """Return the settings dataclass of each section of a config."""
    return {
        "protocol": protocol.Settings,
        "method": method.Settings,
        "student": Student,
        "teacher": Teacher,
        "training": Training,
    }


@dataclass(frozen=True)
class _Entries:
    """What the names of a request stand for."""

    protocol: Resolved[type[Protocol]]
    method: type[Method]
    load_data: Callable[[Path], ImageSet]

    def build(self, preset: Values, overrides: Values | None = None) -> RunSettings:
        """Return the settings of a preset with overrides."""
        classes = section_types(self.protocol.entry, self.method)
        values = {name: {**preset.get(name, {}), **(overrides or {}).get(name, {})} for name in classes}
        return RunSettings(**{name: build_settings(cls, values[name], name) for name, cls in classes.items()})


@dataclass(frozen=True)
class _TeacherChoice:
    """Where the teacher comes from."""

    pretrained: Pretrained | None
    follows_seed: bool


def _look_up(request: Request) -> _Entries:
    protocol, method = PROTOCOLS.get(request.protocol), METHODS.get(request.method)
    return _Entries(protocol, method.entry, data_set(request.dataset))


def _resolve_teacher(overrides: Values) -> tuple[Values, _TeacherChoice]:
    """Separate the choice of the teacher from the overrides.

    Returns:
        The overrides without ``seed=run`` and with a pretrained teacher under the name that tables show; the choice.

    Raises:
        InputError: a setting of the teacher does not fit the choice.
    """
    teacher = dict(overrides["teacher"])
    name = teacher.get("backbone", "")
    pretrained = _load_pretrained(name, teacher)
    follows_seed = teacher.get("seed") == "run"
    if follows_seed:
        del teacher["seed"]
    sections = {**overrides, "teacher": teacher}
    if pretrained is None:
        return sections, _TeacherChoice(None, follows_seed)
    size = build_settings(Teacher, teacher, "teacher").size
    if size == pretrained.size:
        teacher.pop("size", None)
    for section in ("teacher", "student"):
        if sections[section].get("backbone") == name:
            sections[section] = {**sections[section], "backbone": pretrained.name}
    return sections, _TeacherChoice(dataclasses.replace(pretrained, size=size or pretrained.size), follows_seed)


def _load_pretrained(name: str, teacher: Mapping[str, Any]) -> Pretrained | None:
    """Return the pretrained teacher of that name, or None if the name is a backbone or empty."""
    if name not in PRETRAINED:
        if name:
            _check_backbone(name)
        for setting in {"size", "overlap"} & set(teacher):
            raise InputError(
                f"teacher.{setting} is for pretrained teachers (`list teachers`), not for those trained here"
            )
        return None
    match = PRETRAINED.get(name)
    pretrained: Pretrained = match.entry(**match.fields)
    for setting in teacher:
        if setting not in ("backbone", "size", "overlap"):
            raise InputError(f"teacher.{setting} does not apply: {name} is pretrained, it is not trained here")
    return pretrained


def _limit_steps(overrides: Values, limit: int | None, teacher: _TeacherChoice) -> Values:
    """Return the overrides with at most ``limit`` training steps; a pretrained teacher has none."""
    if limit is None:
        return overrides
    if limit < 1:
        raise InputError(f"--limit-steps {limit}: at least one step")
    trained = ("training",) if teacher.pretrained else ("training", "teacher")
    return {**overrides, **{section: {**overrides[section], "steps": limit} for section in trained}}


def _choose_student(entries: _Entries, settings: RunSettings, overrides: Values) -> RunSettings:
    """Return the settings with the student that the method prescribes, unless the request names one."""
    if "backbone" in overrides["student"]:
        return settings
    backbone = entries.method.backbone(settings.student.backbone, settings.teacher.backbone)
    return dataclasses.replace(settings, student=dataclasses.replace(settings.student, backbone=backbone))


def _check_backbones(settings: RunSettings, teacher: _TeacherChoice) -> None:
    for backbone in (settings.student.backbone, settings.teacher.backbone):
        if teacher.pretrained is None or backbone != teacher.pretrained.name:
            _check_backbone(backbone)


def _check_backbone(name: str) -> None:
    if name in PRETRAINED:
        raise InputError(f"{name} is a pretrained teacher; a student can only be the same if --teacher names it too")
    if re.search("@[0-9a-f]{8}$", name):
        raise InputError(f"{name} stands for weights in a file; name the file with --teacher")
    if "/" in name or Path(name).is_file():
        raise InputError(
            f"{name} is not a file of weights by its ending; those are .safetensors, .pth, .pt, .th, .bin, .ckpt, .tar "
            "and .pkl"
        )
    BACKBONES.get(name, extra=PRETRAINED.display_names())


def _transfer_context(entries: _Entries, settings: RunSettings, teacher: _TeacherChoice) -> TransferContext:
    context: TransferContext = entries.protocol.entry.transfer_context(
        entries.protocol.fields, settings.protocol, settings.student.backbone, settings.teacher.backbone,
        settings.student.start,
    )  # fmt: skip
    return dataclasses.replace(context, label_relation="disjoint") if teacher.pretrained else context


def _check_applies(
    request: Request, method: type[Method], settings: RunSettings, teacher: _TeacherChoice, context: TransferContext
) -> None:
    reason = method.skip_reason(context, settings.method)
    if reason is not None:
        raise DoesNotApply(f"method {request.method} does not apply to {request.protocol}: {reason}")
    student = settings.student.backbone
    if teacher.pretrained and student == settings.teacher.backbone and method.starts(context.start) == "fresh":
        raise DoesNotApply(
            f"student {student} is a pretrained teacher, but the student of {request.method} starts untrained; "
            "set student.start=teacher if the method allows it, or choose another backbone"
        )


def _open_data(
    entries: _Entries, preset: Preset, data_root: Path, progress: Progress, opened: dict[str, ImageSet]
) -> ImageSet:
    """Return the data set, from ``opened`` if it is open, and enter it there."""
    loader = entries.load_data
    if preset.import_settings and isinstance(loader, PublishedDataset):
        loader = dataclasses.replace(loader, needs={**loader.needs, **preset.import_settings})
    if preset.data_key not in opened:
        opened[preset.data_key] = open_data_set(loader, data_root, progress)
    return opened[preset.data_key]
