"""Packages that are installed on demand."""

from __future__ import annotations

import importlib
from typing import Any

from benchmark.errors import InputError


def load_extra(module: str, extra: str, what: str) -> Any:
    """The module, imported; where its package is not installed, ``InputError`` with the command that installs it.

    ``extra``: the name under which this project lists the package; ``what``: what needs it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0]:
            raise
        raise InputError(
            f"{what} needs a package that is not installed ({error.name}); "
            f'pip install "distillation-benchmark[{extra}]"'
        ) from None
