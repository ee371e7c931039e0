"""A toy problem for checks: two small networks, a method and one batch of separable images."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from benchmark.backbones.network import Network, Outputs, build_network
from benchmark.methods import METHODS, Batch, LabelSpaces, Method, Shapes, Stage
from benchmark.methods.episodic import Episode, EpisodicMethod

CLASSES = 6


@dataclass
class Toy:
    """A student, a wider teacher, a method and a batch of images.

    Attributes:
        student: The network that the method trains.
        teacher: The frozen network in eval mode.
        method: The method, prepared for both networks.
        images: 24 x 3 x 16 x 16, four images of each class.
        labels: 24 class indices.
    """

    student: Network
    teacher: Network
    method: Method
    images: torch.Tensor
    labels: torch.Tensor

    def outputs(self) -> tuple[Outputs, Outputs]:
        """The outputs of student and teacher for the images; the teacher's without gradient."""
        with torch.no_grad():
            teacher_outputs = self.teacher(self.images)
        return self.student(self.images), teacher_outputs

    def batch(self, stage: Stage, progress: float = 0.5) -> Batch:
        """The batch of all images, at this share of the stage's steps."""
        return Batch(self.labels, torch.arange(len(self.labels)), stage.name, progress)

    def terms(self, stage: Stage, progress: float = 0.5) -> dict[str, torch.Tensor]:
        """The loss terms of the method for the images, at this share of the stage's steps."""
        if isinstance(self.method, EpisodicMethod):
            support = torch.arange(len(self.labels)) % 4 == 0  # one image of each class; the others are queries
            parts = (tensor[mask] for mask in (support, ~support) for tensor in (self.images, self.labels))
            return self.method.episode_loss(self.student, Episode(*parts))
        student, teacher = self.outputs()
        return self.method.loss(self.batch(stage, progress), student, teacher if self.method.needs.teacher else None)

    def parameters(self) -> list[torch.nn.Parameter]:
        """The trainable parameters of the student and of the connector."""
        connector = [] if self.method.connector is None else list(self.method.connector.parameters())
        return [*(parameter for parameter in self.student.parameters() if parameter.requires_grad), *connector]


def shapes(network: Network, images: torch.Tensor) -> Shapes:
    """The shapes of the network's taps for images of this size, N x C x H x W."""
    with torch.no_grad():
        outputs = network(images[:2])
    taps = {**outputs.stages, "embedding": outputs.embedding, "logits": outputs.logits}
    return Shapes({name: tuple(value.shape[1:]) for name, value in taps.items()})


def make_toy(name: str, teacher_classes: tuple[int, ...] = tuple(range(CLASSES)), **settings: object) -> Toy:
    """Build the toy problem of a method. The same arguments give the same problem.

    Args:
        name: A registered method.
        teacher_classes: The classes that the teacher knows. The student's are 0 to 5.
        settings: Settings of the method other than its defaults.
    """
    generator = torch.Generator().manual_seed(7)
    prototypes = torch.randn(CLASSES, 3, 16, 16, generator=generator)
    labels = torch.arange(CLASSES).repeat_interleave(4)
    images = prototypes[labels] + 0.5 * torch.randn(24, 3, 16, 16, generator=generator)
    entry = METHODS.get(name).entry
    if entry.needs.labels == "extended":
        teacher_classes = teacher_classes[: CLASSES // 2]
    starts_from_teacher = entry.needs.start == "teacher"
    student = build_network(
        "conv4-32" if starts_from_teacher else "conv4-16", channels=3, size=16, classes=CLASSES, seed=1
    )
    teacher = build_network("conv4-32", channels=3, size=16, classes=len(teacher_classes), seed=2)
    teacher.eval().requires_grad_(False)
    if starts_from_teacher:
        student.backbone.load_state_dict(teacher.backbone.state_dict())
    spaces = LabelSpaces(tuple(range(CLASSES)), teacher_classes)
    student.eval()
    with torch.random.fork_rng(devices=[]):  # for the weights of a connector
        torch.manual_seed(3)
        method = entry(entry.Settings(**settings), spaces, shapes(student, images), shapes(teacher, images))
        trains_all = method.needs.trains == "all"
        student.backbone.train(trains_all).requires_grad_(trains_all)
        method.prepare(student, labels, teacher.embed(images) if method.reads_train_embeddings else None)
    return Toy(student, teacher, method, images, labels)
