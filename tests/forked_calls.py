"""A program that runs command lines in forked children, which find torch and the suite imported already.

Each line of standard input is a call in JSON: ``words``, the working directory ``cwd``, ``paths`` to import from, and
``environment``. Each line of standard output is its result: ``returncode``, ``stdout`` and ``stderr``.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

import benchmark.checks.backbones
import benchmark.checks.datasets
import benchmark.checks.methods
import benchmark.checks.protocols  # noqa: F401
from benchmark.cli import main


def run_here(call: dict[str, Any]) -> int:
    """Run the command line in this process and return its exit status."""
    os.chdir(call["cwd"])
    os.environ.update(call["environment"])
    sys.path[:0] = call["paths"]
    sys.argv = ["benchmark", *call["words"]]
    try:
        main()
    except SystemExit as exit_:
        return exit_.code if isinstance(exit_.code, int) else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def run_forked(call: dict[str, Any]) -> dict[str, Any]:
    """Run the command line in a child process and return its exit status and output."""
    with tempfile.TemporaryDirectory() as folder:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                for descriptor, name in ((1, "stdout"), (2, "stderr")):
                    os.dup2(os.open(Path(folder, name), os.O_WRONLY | os.O_CREAT), descriptor)
                os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
                status = run_here(call)
            finally:
                os._exit(status)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        output = {name: Path(folder, name).read_text(encoding="utf-8") for name in ("stdout", "stderr")}
    return {"returncode": status, **output}


if __name__ == "__main__":
    torch.optim.SGD([torch.zeros(1, requires_grad=True)])  # imports what the first optimiser of a process needs
    for line in sys.stdin:
        sys.stdout.write(json.dumps(run_forked(json.loads(line))) + "\n")
        sys.stdout.flush()
