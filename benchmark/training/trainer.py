"""Where a protocol has its networks made: teachers from the bank, students by the method of the run."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import numpy as np
import torch

from benchmark.backbones.grouped import GroupedNetwork
from benchmark.backbones.network import Network, Outputs, build_network
from benchmark.data.augmentation import PUBLISHED, Crops, ImageLoader, Normalisation
from benchmark.data.episodes import Episodes
from benchmark.data.image_set import ImageSet, IntArray
from benchmark.data.task import Task
from benchmark.errors import InputError
from benchmark.hashing import content_key, derive_seed
from benchmark.methods import METHODS, IncrementalDefaults, LabelSpaces, Method, Stage
from benchmark.methods.base import Rebalance
from benchmark.methods.episodic import EpisodicMethod
from benchmark.methods.external_loop import ExperienceMethod
from benchmark.settings import to_config
from benchmark.spec import RunSpec, Training
from benchmark.system.progress import Progress
from benchmark.training import loop
from benchmark.training.checkpoints import Checkpoint, Checkpoints
from benchmark.training.device import Device
from benchmark.training.episodic_loop import count_correct_answers, fit_episodes
from benchmark.training.external_loop import check_foreign, fit_experiences
from benchmark.training.frozen_teacher import FrozenTeacher
from benchmark.training.inference import accuracy, embed
from benchmark.training.initialisation import align_head, build_method, start_from, with_balance
from benchmark.training.parallel_loop import fit_parallel, predict_parallel
from benchmark.training.pretrained import pretrained_teacher
from benchmark.training.teacher_store import TeacherStore
from benchmark.training.trained_network import TrainedNetwork


class Trainer:
    """Makes the networks of one run. A protocol says on which task; the run's settings say the rest."""

    def __init__(
        self, spec: RunSpec, bank: TeacherStore, device: Device, progress: Progress,
        checkpoints: Checkpoints | None = None,
    ) -> None:  # fmt: skip
        self._spec = spec
        self._bank = bank
        self.device = device
        self._progress = progress
        self._checkpoints = checkpoints

    def teacher(self, task: Task, backbone: str | None = None) -> TrainedNetwork:
        """The teacher of ``task``: pretrained, or trained by cross-entropy on its training images or from the bank.

        ``backbone``: another than the teacher's, for a network to start from.
        """
        backbone = backbone or self._spec.teacher.backbone
        if self._spec.pretrained is not None and backbone == self._spec.pretrained.name:
            return pretrained_teacher(
                self._spec.pretrained, task, self.device, self._bank.root / "views", self._progress,
                self._spec.training.input_size,
            )  # fmt: skip
        training, recipe = self._teacher_recipe(task, backbone)
        key = content_key(recipe)
        settings = self._spec.teacher
        network = self._build(backbone, task, derive_seed(settings.seed, "teacher"))
        normalisation = self._normalisation(task.data, task.train)

        def train() -> dict[str, Any]:
            method = self._method("ce", None, LabelSpaces(task.classes, ()), network, None, task.data, settings.seed)
            fitted = self._fit(
                network, method, task, training, normalisation, None, settings.seed, f"teacher {backbone}",
                self._part(key, "teacher"),
            )  # fmt: skip
            return {
                "recipe": recipe,
                "classes": [task.data.classes[c] for c in task.classes],
                "input": {
                    "data": task.data.fingerprint,
                    "size": self._size(task.data),
                    "channels": task.data.images.shape[3],
                    **dataclasses.asdict(normalisation),
                },
                "accuracy": self._accuracy(network, task, normalisation),
                "seconds": fitted.seconds,
                "history": fitted.history,
            }

        found = self._bank.has(key)
        facts = self._bank.get(key, network, train)
        if self._checkpoints:
            self._checkpoints.clear(key)
        network.eval().requires_grad_(False)
        origin = "from the bank" if found else f"trained in {facts['seconds']:.0f} s"
        share = facts["accuracy"]
        judged = "no image held out" if share is None else f"held-out accuracy {100 * share:.1f} %"
        what = f"teacher {backbone} ({network.parameter_count:,} parameters), {len(task.classes)} classes"
        self._progress.say(f"{what}: {judged} ({origin})")
        return TrainedNetwork(
            network, task, normalisation,
            {
                "backbone": backbone, "key": key, "seed": settings.seed, "accuracy": facts["accuracy"],
                "parameters": network.parameter_count, "seconds": facts["seconds"],
            },
        )  # fmt: skip

    @property
    def incremental_defaults(self) -> IncrementalDefaults:
        """What completes the run's method where earlier classes are to be kept."""
        return METHODS.get(self._spec.method).entry.incremental_defaults

    def student(
        self, task: Task, teacher: TrainedNetwork, rebalance: Rebalance = "none", episode: tuple[int, int] | None = None
    ) -> TrainedNetwork:
        """A student of ``task``, started and trained as the run's method has it, with ``teacher`` as guide.

        What is drawn comes from the run's seed. A student that starts from the teacher sees the input as it does.
        ``rebalance`` as in ``methods.Slots``; old classes are those of the teacher's task. ``episode``: ways and shots
        of the episodes that it is judged on, for methods that learn from such.
        """
        spec = self._spec
        network = self._build(spec.student.backbone, task, derive_seed(spec.seed, "student"))
        labels = LabelSpaces(task.classes, teacher.classes)
        method = self._method(spec.method, spec.method_settings, labels, network, teacher.network, task.data, spec.seed)
        if isinstance(method, EpisodicMethod) and episode is not None:
            return self._learner(network, method, task, *episode)
        needs = method.needs
        normalisation = self._normalisation(task.data, task.train)
        start = method.starts(spec.student.start)
        if start == "teacher":
            normalisation = teacher.normalisation
            start_from(teacher.network, network, labels)
        network.backbone.requires_grad_(needs.trains == "all")
        started = self._bank.passes.now()
        embeddings = None
        if method.reads_train_embeddings:
            embeddings = self.embed(teacher, task.data, task.train).clone()
        method.prepare(network, torch.from_numpy(task.labels(task.train)).to(self.device.torch), embeddings)
        guide = teacher if needs.teacher else None
        title, fitted = f"{spec.method} seed {spec.seed}", loop.TrainingResult()
        if isinstance(method, ExperienceMethod):
            fitted = fit_experiences(
                network, method, task, teacher.task, spec.training, normalisation, rebalance,
                seed=spec.seed, device=self.device, progress=self._progress, title=title,
            )  # fmt: skip
        elif needs.trains != "nothing":
            fitted = self._fit(
                network, method, task, spec.training, normalisation, guide, spec.seed, title,
                self._part(spec.key, "student"),
                stages=with_balance(method.stages()) if rebalance == "balanced" else None,
                reset_heads=start == "fresh" or needs.trains != "all",
            )  # fmt: skip
        if rebalance == "align":
            align_head(network, [c in teacher.task.classes for c in task.classes])
        network.eval()
        seconds = self._bank.passes.now() - started
        network.requires_grad_(False)
        return TrainedNetwork(
            network, task, normalisation,
            {
                "backbone": spec.student.backbone, "start": start, "parameters": network.parameter_count,
                "steps": fitted.steps, "images": fitted.images, "seconds": seconds, "loop_seconds": fitted.seconds,
                "history": fitted.history,
                "accuracy": self._accuracy(network, task, normalisation),
            },
        )  # fmt: skip

    def _learner(self, network: Network, method: EpisodicMethod, task: Task, way: int, shot: int) -> TrainedNetwork:
        """A student of ``task`` that has learnt to answer episodes of its classes."""
        spec = self._spec
        network.replace_head(way, derive_seed(spec.seed, "head"))
        network.to(self.device.torch)
        normalisation = self._normalisation(task.data, task.train)
        fitted = fit_episodes(
            network, method, task, spec.training, normalisation, way=way, shot=shot, seed=spec.seed,
            device=self.device, progress=self._progress, title=f"{spec.method} seed {spec.seed}",
            checkpoint=self._part(spec.key, "student"),
        )  # fmt: skip
        facts = {
            "backbone": spec.student.backbone, "start": "fresh", "parameters": network.parameter_count,
            "steps": fitted.steps, "images": fitted.images, "seconds": fitted.seconds, "loop_seconds": fitted.seconds,
            "history": fitted.history, "accuracy": None,
        }  # fmt: skip
        return TrainedNetwork(network, task, normalisation, facts, adapts=method if method.adapts else None)

    def answer(self, student: TrainedNetwork, episodes: Episodes) -> IntArray:
        """Correct queries of each episode, for a student that adapts to every support set: E."""
        assert student.adapts is not None
        data = student.task.data
        return count_correct_answers(
            student.network, student.adapts, data, episodes, student.normalisation, self.device, self._progress,
            size=self._spec.training.input_size,
        )  # fmt: skip

    def students(
        self, tasks: Episodes, base: Task, teacher: TrainedNetwork, crops: int, held: int = 1 << 26
    ) -> tuple[TrainedNetwork, torch.Tensor]:
        """A student for each of many small tasks, and the logits of all queries: tasks x queries x classes.

        Every student learns from its support images in so many crops, the first the image itself, the same crops for
        all tasks, with ``teacher`` as guide; where the method starts trained, from a network that has learnt ``base``
        as the teacher has. ``held``: numbers of pixels kept at a time. The first student stands for all in what is
        returned, with the facts of all.
        """
        spec, data, device = self._spec, base.data, self.device.torch
        count, ways, _ = tasks.support.shape
        needs = METHODS.get(spec.method).entry.needs
        start = METHODS.get(spec.method).entry.starts(spec.student.start)
        origin = None
        if start == "teacher":
            origin = teacher if needs.trains == "nothing" else self.teacher(base, spec.student.backbone)
        began = self._bank.passes.now()
        support = tasks.support.reshape(count, -1)
        pool, at = np.unique(support, return_inverse=True)
        at = at.reshape(support.shape)
        normalisation = teacher.normalisation if teacher is origin else self._normalisation(data, base.train)
        size = spec.training.input_size
        images = ImageLoader(data, pool, normalisation, padding=spec.training.crop_padding, size=size, device=device)
        drawn = torch.Generator().manual_seed(derive_seed(spec.seed, "crops"))
        every = torch.arange(len(pool), device=device)
        shown = crops if needs.trains != "nothing" else 1
        seen = [Crops.plain(len(pool)), *(images.sample_padded_crops(len(pool), drawn) for _ in range(1, shown))]
        views = torch.stack([images.crop(every, view) for view in seen], 1)
        guides = self._guide(teacher, data, normalisation).crops(pool, seen, views) if needs.teacher else None
        plain = self.embed(teacher, data, pool).clone() if needs.train_embeddings else None
        queries = ImageLoader(data, tasks.query.ravel(), normalisation, padding=0, size=size, device=device)
        labels = torch.arange(ways, device=device).repeat_interleave(support.shape[1] // ways)
        fitted, logits, first = loop.TrainingResult(), [], None
        together = max(1, held // (support.shape[1] * views[0].numel()))
        for low in range(0, count, together):
            group = range(low, min(low + together, count))
            networks, methods = [], []
            for t in group:
                task = Task(data, tuple(tasks.classes[t].tolist()), support[t], tasks.query[t].ravel())
                network = self._build(spec.student.backbone, task, derive_seed(spec.seed, "student", t))
                spaces = LabelSpaces(task.classes, base.classes)
                seed = derive_seed(spec.seed, "task", t)
                method = self._method(spec.method, spec.method_settings, spaces, network, teacher.network, data, seed)
                if origin is not None:
                    start_from(origin.network, network, spaces)
                method.prepare(network, labels, plain[at[t]] if plain is not None else None)
                networks.append(network)
                methods.append(method)
            if needs.trains != "nothing":
                chosen = torch.from_numpy(at[low : group.stop]).to(device)
                own = views[chosen].flatten(1, 2)
                guide = guides and Outputs({}, *(x[chosen].flatten(1, 2) for x in (guides.embedding, guides.logits)))
                part = fit_parallel(
                    networks, methods, own, labels.repeat_interleave(crops).expand(len(group), -1), guide,
                    spec.training, seeds=[derive_seed(spec.seed, "task", t) for t in group], device=self.device,
                    progress=self._progress, reset_heads=start == "fresh",
                    title=f"{spec.method} seed {spec.seed}, tasks {low + 1} to {group.stop} of {count}",
                    checkpoint=self._part(spec.key, f"students-{low + 1}-{group.stop}"),
                )  # fmt: skip
                fitted = fitted.merged(part)
            each = tasks.query[0].size
            asked = queries.plain(torch.arange(low * each, group.stop * each, device=device))
            logits.append(self._answers(networks, asked.unflatten(0, (len(group), each)), needs.trains))
            first = first or networks[0].eval().requires_grad_(False)
        assert first is not None
        facts = {
            "backbone": spec.student.backbone, "start": start, "parameters": first.parameter_count,
            "steps": fitted.steps // count, "images": fitted.images // count, "students": count,
            "seconds": self._bank.passes.now() - began, "loop_seconds": fitted.seconds, "history": fitted.history,
        }  # fmt: skip
        return TrainedNetwork(first, base, normalisation, facts), torch.cat(logits)

    def _answers(self, networks: list[Network], queries: torch.Tensor, trains: str) -> torch.Tensor:
        """Logits of each network on its queries: T x Q x classes."""
        if trains == "all":
            return predict_parallel(networks, queries, device=self.device)
        with torch.inference_mode(), self.device.autocast():
            return torch.stack([network.eval()(x).logits.float() for network, x in zip(networks, queries, strict=True)])

    def try_out(self, data: ImageSet, *, side_by_side: bool) -> None:
        """Build both networks and the method once, untrained: settings that do not fit them raise ``InputError``.

        So does a student that cannot stand ``side_by_side`` with others.
        """
        spec = self._spec
        task = Task(data, (0, 1, 2), np.empty(0, np.int64), np.empty(0, np.int64))
        student, teacher = (self._build(name, task, 0) for name in (spec.student.backbone, spec.teacher.backbone))
        labels = LabelSpaces((0, 1, 2), () if spec.pretrained else (0, 1))
        method = self._method(spec.method, spec.method_settings, labels, student, teacher, data, 0)
        if isinstance(method, ExperienceMethod):
            check_foreign(spec.training, self.device)
        if side_by_side and spec.training.crop != "padded":
            raise InputError(f"training.crop = {spec.training.crop}: the students of {spec.protocol} see padded crops")
        if side_by_side and method.needs.trains == "all":
            try:
                GroupedNetwork([student])
            except ValueError as error:
                raise InputError(
                    f"student {spec.student.backbone}: {error}, as many students do in {spec.protocol}; take a "
                    "backbone of plain convolutions, such as conv4-16"
                ) from None

    def embed(self, trained: TrainedNetwork, data: ImageSet, indices: IntArray) -> torch.Tensor:
        """Embeddings of images as ``trained`` sees them: len(indices) x D float32."""
        if trained.views is not None and trained.views.data is data:
            embeddings = trained.views.embed(indices)
            trained.views.save()
            return embeddings
        how = trained.normalisation, self.device, 64, self._spec.training.input_size
        if "key" not in trained.facts:
            return embed(trained.network, data, indices, *how)
        what = ["embeddings", self._sight(trained, data), dataclasses.asdict(trained.normalisation)]
        again = partial(embed, trained.network, data, indices, *how)
        return self._bank.passes.get(self.device, what, (indices,), lambda: (again(),))[0]

    def _guide(self, teacher: TrainedNetwork, data: ImageSet, normalisation: Normalisation) -> FrozenTeacher:
        """The teacher for the training of students that see ``data`` so normalised."""
        return FrozenTeacher(
            teacher.network, teacher.normalisation, normalisation, self.device,
            views=teacher.views, passes=self._bank.passes, identity=self._sight(teacher, data),
        )  # fmt: skip

    def _sight(self, teacher: TrainedNetwork, data: ImageSet) -> list[Any]:
        """Which network of the bank looks at what."""
        return [teacher.facts["key"], data.fingerprint, data.background, self._spec.training.input_size]

    def has_teacher(self, task: Task) -> bool:
        """Whether there is nothing to train for the teacher of ``task``: it is pretrained or in the bank."""
        recipe = self._teacher_recipe(task, self._spec.teacher.backbone)[1]
        return self._spec.pretrained is not None or self._bank.has(content_key(recipe))

    def _teacher_recipe(self, task: Task, backbone: str) -> tuple[Training, dict[str, Any]]:
        settings = self._spec.teacher
        training = dataclasses.replace(
            self._spec.training,
            steps=settings.steps, batch_size=settings.batch_size, lr=settings.lr, weight_decay=settings.weight_decay,
            sampler="uniform",
        )  # fmt: skip
        return training, {
            "backbone": backbone,
            "seed": settings.seed,
            "training": to_config(training),
            "task": task.key,
            "version": loop.VERSION,
        }

    def _build(self, backbone: str, task: Task, seed: int) -> Network:
        size, channels = self._size(task.data), task.data.images.shape[3]
        pretrained = self._spec.pretrained
        if pretrained is not None and backbone == pretrained.name:
            network = pretrained.network()
            network.replace_head(len(task.classes), seed)
            return network.to(self.device.torch)
        return build_network(backbone, channels=channels, size=size, classes=len(task.classes), seed=seed).to(
            self.device.torch
        )

    def _part(self, key: str, name: str) -> Checkpoint | None:
        return self._checkpoints.part(key, name) if self._checkpoints else None

    def _size(self, data: ImageSet) -> int:
        """Pixels of a side of the networks' input."""
        return self._spec.training.input_size or data.images.shape[1]

    def _normalisation(self, data: ImageSet, indices: IntArray) -> Normalisation:
        name = self._spec.training.normalisation
        if name == "data":
            return Normalisation.of(data, indices)
        if data.images.shape[3] != 3:
            raise InputError(f"training.normalisation = {name} is of RGB images, {data.name} is grey; take data")
        return PUBLISHED[name]

    def _accuracy(self, network: Network, task: Task, normalisation: Normalisation) -> float | None:
        size = self._spec.training.input_size
        return accuracy(network, task, task.held_out, normalisation, self.device, size=size)

    def _method(
        self, name: str, settings: Any, labels: LabelSpaces, student: Network, teacher: Network | None,
        data: ImageSet, seed: int,
    ) -> Method:  # fmt: skip
        shape = {"channels": data.images.shape[3], "size": self._size(data)}
        return build_method(name, settings, labels, student, teacher, seed, **shape)

    def _fit(
        self, network: Network, method: Method, task: Task, training: Training, normalisation: Normalisation,
        teacher: TrainedNetwork | None, seed: int, title: str, checkpoint: Checkpoint | None,
        stages: list[Stage] | None = None, reset_heads: bool = True,
    ) -> loop.TrainingResult:  # fmt: skip
        if method.connector is not None:
            method.connector.to(self.device.torch).train()
        views = teacher.views if teacher else None
        try:
            return loop.fit(
                network, method, task, training, normalisation,
                guide=self._guide(teacher, task.data, normalisation) if teacher else None,
                seed=seed, device=self.device, progress=self._progress, title=title,
                stages=stages, reset_heads=reset_heads, checkpoint=checkpoint,
            )  # fmt: skip
        except loop.DivergedError:
            if checkpoint:
                checkpoint.clear()  # it may hold numbers that are not finite
            raise
        finally:
            if views is not None:
                views.save()
