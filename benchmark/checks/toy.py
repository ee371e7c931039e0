"""A problem small enough to be run in every check: two networks and one batch of separable images."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from benchmark.backbones.network import Network, Outputs, build_network
from benchmark.methods import METHODS, Batch, LabelSpaces, Method, Shapes, Stage
from benchmark.methods.episodic import Episode, EpisodicMethod

CLASSES = 6


@dataclass
class Toy:
    """A student, a wider teacher, a method between them and a batch of 24 images of 6 classes."""

    student: Network
    teacher: Network
    method: Method
    images: torch.Tensor
    labels: torch.Tensor

    def outputs(self) -> tuple[Outputs, Outputs]:
        """What both networks make of the images, the teacher without gradient."""
        with torch.no_grad():
            guide = self.teacher(self.images)
        return self.student(self.images), guide

    def batch(self, stage: Stage, progress: float = 0.5) -> Batch:
        """All images as one batch."""
        return Batch(self.labels, torch.arange(len(self.labels)), stage.name, progress)

    def terms(self, stage: Stage, progress: float = 0.5) -> dict[str, torch.Tensor]:
        """The method's loss of the images."""
        if isinstance(self.method, EpisodicMethod):  # of each class one support image and three queries
            first = torch.arange(len(self.labels)) % 4 == 0
            parts = (x[chosen] for chosen in (first, ~first) for x in (self.images, self.labels))
            return self.method.episode_loss(self.student, Episode(*parts))
        student, guide = self.outputs()
        return self.method.loss(self.batch(stage, progress), student, guide if self.method.needs.teacher else None)

    def parameters(self) -> list[torch.nn.Parameter]:
        """What is trained: of the student, and the connector."""
        extra = [] if self.method.connector is None else list(self.method.connector.parameters())
        return [*(p for p in self.student.parameters() if p.requires_grad), *extra]


def shapes(network: Network, images: torch.Tensor) -> Shapes:
    """Shapes of the network's taps for such images."""
    with torch.no_grad():
        outputs = network(images[:2])
    taps = {**outputs.stages, "embedding": outputs.embedding, "logits": outputs.logits}
    return Shapes({name: tuple(value.shape[1:]) for name, value in taps.items()})


def make_toy(name: str, teacher_classes: tuple[int, ...] = tuple(range(CLASSES)), **settings: object) -> Toy:
    """A toy of the method of that name, the same each time."""
    generator = torch.Generator().manual_seed(7)
    prototypes = torch.randn(CLASSES, 3, 16, 16, generator=generator)
    labels = torch.arange(CLASSES).repeat_interleave(4)
    images = prototypes[labels] + 0.5 * torch.randn(24, 3, 16, 16, generator=generator)
    chosen = METHODS.get(name).entry
    if chosen.needs.labels == "extended":
        teacher_classes = teacher_classes[: CLASSES // 2]
    reuses = chosen.needs.start == "teacher"
    student = build_network("conv4-32" if reuses else "conv4-16", channels=3, size=16, classes=CLASSES, seed=1)
    teacher = build_network("conv4-32", channels=3, size=16, classes=len(teacher_classes), seed=2)
    teacher.eval().requires_grad_(False)
    if reuses:
        student.backbone.load_state_dict(teacher.backbone.state_dict())
    spaces = LabelSpaces(tuple(range(CLASSES)), teacher_classes)
    student.eval()
    with torch.random.fork_rng(devices=[]):  # a connector is drawn
        torch.manual_seed(3)
        method = chosen(chosen.Settings(**settings), spaces, shapes(student, images), shapes(teacher, images))
        trains_all = method.needs.trains == "all"
        student.backbone.train(trains_all).requires_grad_(trains_all)
        method.prepare(student, labels, teacher.embed(images) if method.reads_train_embeddings else None)
    return Toy(student, teacher, method, images, labels)
