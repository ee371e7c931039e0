"""Writes a package that adds a method to the suite."""

from __future__ import annotations

import datetime
import importlib.util
import keyword
import re
from importlib.resources import files
from pathlib import Path

from benchmark.errors import InputError, os_reason
from benchmark.methods import METHODS
from benchmark.system.files import expand_user


def write_method(name: str, folder: Path) -> Path:
    """Write a package with one working method into a new folder.

    The package is the template in ``scaffold/method`` under another name. It can be installed as it is, and its method
    passes every check.

    Args:
        name: The name of the method, in small letters, digits and hyphens.
        folder: The folder to write into, which must be empty or new.

    Returns:
        The folder.

    Raises:
        InputError: The name is invalid or taken, or the folder is not empty or cannot be written to.
    """
    module = name.replace("-", "_")
    if keyword.iskeyword(module):
        raise InputError(f"{name!r} is a word of Python, not a name for a method; choose another, as {name}-method")
    if not re.fullmatch("[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        raise InputError(f"{name!r} is not a name for a method: use small letters, digits and hyphens, as my-method")
    if name in METHODS:
        raise InputError(f"there is a method {name!r} already; choose another name")
    if importlib.util.find_spec(module) is not None:
        raise InputError(f"there is a Python module {module} already; choose another name")
    folder = expand_user(folder)
    replacements = {
        "my-method": name,
        "my_method": module,
        "MyMethod": "".join(part.capitalize() for part in name.split("-")),
        "Unpublished, 2000": f"Unpublished, {datetime.date.today().year}",
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise InputError(f"{folder} is not empty, and nothing is overwritten; name another folder with --out")
        for template in files("benchmark.scaffold").joinpath("method").iterdir():
            if template.is_file():
                path = folder / _fill(template.name, replacements)
                path.write_text(_fill(template.read_text(encoding="utf-8"), replacements), encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot write to {folder} ({os_reason(error)}); name another with --out") from None
    return folder


def _fill(text: str, replacements: dict[str, str]) -> str:
    """Replace all placeholders at once, so that a name that holds a placeholder stays as it is."""
    return re.sub("|".join(map(re.escape, replacements)), lambda match: replacements[match[0]], text)
