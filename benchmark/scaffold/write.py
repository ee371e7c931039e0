"""The beginnings of a package that adds a method to the suite."""

from __future__ import annotations

import datetime
import importlib.util
import keyword
import re
from pathlib import Path
from string import Template

from benchmark.errors import InputError
from benchmark.methods import METHODS

_PROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "$name"
version = "0.1.0"
description = "A knowledge distillation method for distillation-benchmark"
requires-python = ">=3.11"
dependencies = ["distillation-benchmark"]

[project.entry-points."benchmark.methods"]
$name = "$module:$title"

[dependency-groups]
test = ["pytest"]

[tool.hatch.build.targets.wheel]
only-include = ["$module.py"]
"""

_METHOD = '''\
"""The method $name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge
from benchmark import losses
from benchmark.methods import Batch, Method, Needs

if TYPE_CHECKING:
    from benchmark.backbones.network import Outputs
    from torch import Tensor


class $title(Method):
    """Match the teacher's cosines between the images of a batch. Unpublished, $year.

    loss = CE(z_s, y) + weight * mean_ij (cos(s_i, s_j) - cos(t_i, t_j))^2, s and t the embeddings of student and
    teacher.
    """

    @dataclass(frozen=True)
    class Settings:
        """The weight of the cosines beside cross-entropy; 0 leaves them out."""

        weight: Annotated[float, Ge(0)] = 10.0

    needs = Needs(teacher=True)
    tunable = ("weight",)

    def loss(self, batch: Batch, student: Outputs, teacher: Outputs | None) -> dict[str, Tensor]:
        """Cross-entropy and the squared differences of cosines."""
        assert teacher is not None
        terms = {"ce": losses.ce_loss(student.logits, batch.labels)}
        if self.settings.weight:
            difference = _cosines(student.embedding) - _cosines(teacher.embedding)
            terms["cosines"] = self.settings.weight * difference.square().mean()
        return terms


def _cosines(embeddings: Tensor) -> Tensor:
    """Between all pairs of rows: B x D to B x B."""
    from torch.nn.functional import normalize

    rows = normalize(embeddings, dim=1)
    return rows @ rows.T
'''

_TEST = '''\
"""The method keeps to the rules of distillation-benchmark."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmark.checks import broken, contract_of, subject

FILE = Path(__file__).with_name("$module.py")
RULES = contract_of("method").rules


@pytest.mark.parametrize("rule", RULES)
def test_rule(rule: str, tmp_path: Path) -> None:
    with subject(str(FILE), "method", tmp_path) as (_, checked):
        assert broken(RULES[rule], checked) is None
'''


def write_method(name: str, folder: Path) -> Path:
    """Write a package with one method into a new folder, which is returned.

    It can be installed as it is, keeps to every rule of a method, and is to be changed. A name that cannot be one, or
    that is taken, and a folder with something in it raise ``InputError``.
    """
    module = name.replace("-", "_")
    if not re.fullmatch("[a-z][a-z0-9]*(-[a-z0-9]+)*", name) or keyword.iskeyword(module):
        raise InputError(f"{name!r} is no name for a method: take small letters, digits and hyphens, as my-method")
    if name in METHODS:
        raise InputError(f"there is a method {name!r} already; take another name")
    if importlib.util.find_spec(module) is not None:
        raise InputError(f"there is a Python module {module} already; take another name")
    folder = folder.expanduser()
    values = {
        "name": name,
        "module": module,
        "title": "".join(part.capitalize() for part in name.split("-")),
        "year": str(datetime.date.today().year),
    }
    files = {"pyproject.toml": _PROJECT, f"{module}.py": _METHOD, f"test_{module}.py": _TEST}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise InputError(f"{folder} is not empty, and nothing is overwritten; name another folder with --out")
        for filename, text in files.items():
            (folder / filename).write_text(Template(text).substitute(values), encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot write to {folder} ({error.strerror or error}); name another with --out") from None
    return folder
