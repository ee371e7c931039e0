"""Rules that decide whether a method applies to a protocol. Each returns None, or the reason why it does not apply."""

from __future__ import annotations

from collections.abc import Callable

from benchmark.methods.requirements import Traits, TransferContext

Rule = Callable[[Traits, TransferContext], str | None]
"""Arguments: the method with its settings, and the conditions."""


def matching_classes(method: Traits, context: TransferContext) -> str | None:
    """The label spaces are those for which the method is defined."""
    wanted, relation = method.needs.labels, context.label_relation
    if wanted == "same" and relation != "same":
        return "it compares outputs class by class and needs the teacher's own label space"
    if wanted == "overlap" and relation == "disjoint":
        return "it compares outputs class by class and teacher and student share no class"
    if wanted == "extended" and relation != "extended":
        if context.exemplars is not None:
            return "it adds classes to those of its teacher, and this teacher has classes of its own"
        return "it adds classes to those of its teacher; the incremental protocols do that"
    return None


def episodes_for_episodic_methods(method: Traits, context: TransferContext) -> str | None:
    """A method that learns from episodes is evaluated on episodes."""
    if method.needs.learns == "episodes" and not context.episodic:
        return "it learns from episodes; the fewshot protocols evaluate on them"
    return None


def trained_head(method: Traits, context: TransferContext) -> str | None:
    """Evaluated logits come from a head that some stage trains."""
    if context.evaluated == "logits" and not method.trains_head:
        return "its settings leave the head untrained, and the head is evaluated"
    return None


def exemplars(method: Traits, context: TransferContext) -> str | None:
    """A method that uses exemplars has some."""
    if context.exemplars == 0 and method.incremental_defaults.head != "net":
        return "its classifier is the nearest class mean, and without exemplars old classes have none"
    if context.exemplars == 0 and method.needs.exemplars:
        return "it replays exemplars of old classes, and this protocol keeps none"
    return None


def outputs_of_parallel_students(method: Traits, context: TransferContext) -> str | None:
    """A method for parallel students reads their embeddings and logits only, and trains more than the head."""
    if not context.parallel_students:
        return None
    if method.needs.taps or method.needs.weights or method.has_connector:
        return "many students are trained together here; it reads more than their embeddings and logits"
    if method.needs.trains == "head":
        return "it would train heads step by step; logistic-regression fits them"
    return None


def backbone_of_start(method: Traits, context: TransferContext) -> str | None:
    """A student that starts from a network has its backbone."""
    needs = method.needs
    start_backbone = context.teacher
    if needs.trains == "all" and context.start_backbone:
        start_backbone = context.start_backbone
    start = context.start if needs.start == "any" else needs.start
    if start != "teacher" or context.student == start_backbone:
        return None
    subject = "the student starts from" if needs.trains == "all" else "the student is"
    return (
        f"{subject} the teacher and takes its backbone, which is {start_backbone}, not {context.student}; "
        f"set student.backbone={start_backbone}" + (" or student.start=fresh" if needs.start == "any" else "")
    )


RULES: tuple[Rule, ...] = (
    matching_classes,
    episodes_for_episodic_methods,
    trained_head,
    exemplars,
    outputs_of_parallel_students,
    backbone_of_start,
)
"""The rules of every method, in the order in which their reasons are given. A method may add its own."""
