"""Packages that are installed on demand."""

from __future__ import annotations

import importlib
import importlib.util
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
        raise _missing(error.name, extra, what) from None


def check_extra(package: str, extra: str, what: str) -> None:
    """Raise ``InputError`` as ``load_extra`` does, without importing the package where it is installed."""
    if importlib.util.find_spec(package) is None:
        raise _missing(package, extra, what)


def _missing(package: str, extra: str, what: str) -> InputError:
    return InputError(
        f'{what} needs a package that is not installed ({package}); pip install "distillation-benchmark[{extra}]"'
    )
