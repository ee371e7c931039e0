"""Accuracy of each method on a protocol of distillation with its intervals."""

from __future__ import annotations

from benchmark.report.figures import FIGURES, NothingToDraw, RenderedFigure, ResultSet
from benchmark.report.figures.fewshot import accuracy_table, draw_accuracies
from benchmark.report.figures.overlap import share
from benchmark.report.references import REFERENCES


@FIGURES.register("accuracy")
def accuracy(result_set: ResultSet) -> list[RenderedFigure]:
    """Accuracy of each method on a distill-* protocol, bars over seeds, beside chance and nearest means."""
    groups = result_set.groups(lambda protocol: protocol if share(protocol) is not None else None)
    if not groups:
        raise NothingToDraw("no finished run of a distill-* protocol")
    return [
        RenderedFigure(group.name("accuracy"), draw_accuracies(group, REFERENCES), accuracy_table(group, REFERENCES))
        for group in groups
    ]
