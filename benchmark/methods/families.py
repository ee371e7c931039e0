"""Families of methods: what each carries over from the teacher. Tables and figures group the methods by family."""

from __future__ import annotations

from collections.abc import Mapping

FAMILIES: Mapping[str, str] = {
    "labels": "nothing: cross-entropy on the labels alone",
    "logits": "class probabilities",
    "feature maps": "maps of stages",
    "embeddings": "embeddings of a batch, and how they relate",
    "instance comparisons": "comparisons between instances, then a local classifier made of the teacher's embedding",
    "weights": "the teacher's weights: as the start of the student, or frozen as its backbone",
    "incremental": "weights, old outputs or embeddings, while classes are added",
    "avalanche": "the same, by strategies of Avalanche",
    "episodic": "nothing: learnt from episodes by learn2learn",
}
"""Family names in the order of tables, each with what carries over."""
