"""A protocol."""

from __future__ import annotations

from protocols.distillation import Distillation


class Half(Distillation):
    """Distillation between equal label spaces with three training images per class."""

    presets = {  # noqa: RUF012
        "quick": {
            "protocol": {"images_per_class": 3},
            "student": {"backbone": "conv4-16"},
            "teacher": {"backbone": "conv4-32", "steps": 100, "batch_size": 32},
            "training": {"steps": 100, "batch_size": 32},
        }
    }
