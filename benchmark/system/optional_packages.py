"""Optional packages, which extras of this project install."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import shlex
import sys
from typing import Any

from benchmark.errors import InputError


def load_extra(module: str, extra: str, what: str) -> Any:
    """Return an optional module.

    Args:
        module: the name of the module.
        extra: the extra of this project that installs its package.
        what: the feature that needs it, for the message.

    Raises:
        InputError: the package is not installed; the message holds the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0]:
            raise
        raise _missing(error.name, extra, what) from None


def check_extra(package: str, extra: str, what: str) -> None:
    """Raise ``InputError`` as ``load_extra`` does if the package is not installed. Nothing is imported."""
    if importlib.util.find_spec(package) is None:
        raise _missing(package, extra, what)


def install_command(what: str) -> str:
    """Return the command that installs a package into the environment of this Python, which may have no pip.

    Args:
        what: what to install, as arguments of ``pip install``.
    """
    known = os.environ.get("VIRTUAL_ENV") == sys.prefix
    if _has_pip():
        return f"{'python' if known else shlex.quote(sys.executable)} -m pip install {what}"
    return f"uv pip install {'' if known else f'--python {shlex.quote(sys.executable)} '}{what}"


def _has_pip() -> bool:
    # not find_spec: setuptools warns of it where distutils is imported
    try:
        importlib.metadata.version("pip")
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _missing(package: str, extra: str, what: str) -> InputError:
    return InputError(
        f"{what} needs a package that is not installed ({package}); in the clone of this project: "
        + install_command(f'".[{extra}]"')
    )
