"""Refusal of networks and outputs that are not finite: comparisons with NaN would make chance level of them."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class DivergedError(RuntimeError):
    """A loss, a weight or an output is not a finite number; the message says which, and where."""


def tensor_that_is_not_finite(network: nn.Module) -> str | None:
    """Return the name of the first parameter or buffer that holds a NaN or an infinity; None if there is none."""
    return next((name for name, value in network.state_dict().items() if not _is_finite(value)), None)


def check_outputs(outputs: Tensor, of: str) -> Tensor:
    """Return outputs that are all finite.

    Args:
        outputs: one row for each image.
        of: what the outputs are, for the message.

    Raises:
        DivergedError: some are not finite.
    """
    if not _is_finite(outputs):
        rows = int(outputs.flatten(1).isfinite().all(1).logical_not().sum())
        raise DivergedError(f"{of} are not finite for {rows} of {len(outputs)} images: nothing can be measured")
    return outputs


def _is_finite(value: Tensor) -> bool:
    return not value.is_floating_point() or bool(torch.isfinite(value).all())
