from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from benchmark.system import containment
from benchmark.system.containment import kept_state

ROOT = Path(__file__).parents[2]


def replace(owner: Any, name: str) -> None:
    setattr(owner, name, lambda *values, **more: None)


CHANGES: dict[str, Callable[[], object]] = {
    "torch's default dtype": lambda: torch.set_default_dtype(torch.float64),
    "torch's gradient mode": lambda: torch.set_grad_enabled(False),
    "torch's number of threads": lambda: torch.set_num_threads(torch.get_num_threads() + 1),
    "torch's precision of matrix products": lambda: torch.set_float32_matmul_precision("medium"),
    "torch's determinism": lambda: torch.set_deterministic_debug_mode("error"),
    "torch's anomaly detection": lambda: torch.autograd.set_detect_anomaly(True),
    "torch's flushing of small numbers": lambda: torch.set_flush_denormal(True),
    "torch's autocast": lambda: torch.set_autocast_enabled("cpu", True),
    "torch.backends.cudnn.benchmark": lambda: setattr(torch.backends.cudnn, "benchmark", True),
    "torch.nn.functional.cross_entropy": lambda: replace(F, "cross_entropy"),
    "torch.nn.modules.linear.Linear.forward": lambda: replace(torch.nn.Linear, "forward"),
    "torch.Tensor.backward": lambda: replace(torch.Tensor, "backward"),
    "benchmark.system.containment.contained_import": lambda: replace(containment, "contained_import"),
    "hooks of all modules (_global_forward_hooks)": lambda: torch.nn.modules.module.register_module_forward_hook(
        lambda *values: None
    ),
    "the working directory": lambda: os.chdir("/"),
    "sys.stderr": lambda: setattr(sys, "stderr", None),
}


def numbers() -> list[Any]:
    weights = torch.ones(3, requires_grad=True)
    F.cross_entropy(torch.nn.Linear(3, 3)(weights)[None], torch.tensor([1])).backward()
    return [weights.grad, torch.rand(2), random.random(), np.random.rand(), os.getcwd(), torch.get_num_threads()]


@pytest.mark.parametrize("name", CHANGES)
def test_change_of_the_process_is_named_and_put_back(name: str) -> None:
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)
    state = torch.get_rng_state(), random.getstate(), np.random.get_state()
    expected = numbers()
    torch.set_rng_state(state[0])
    random.setstate(state[1])
    np.random.set_state(state[2])
    with kept_state() as changed:
        CHANGES[name]()
        torch.manual_seed(1)
        random.seed(1)
        np.random.seed(1)
    assert name in changed
    assert all(np.array_equal(a, b) for a, b in zip(numbers(), expected, strict=True))
    with kept_state() as changed:
        pass
    assert not changed


def test_block_runs_under_the_normal_state() -> None:
    torch.set_default_dtype(torch.float64)
    torch.set_grad_enabled(False)
    try:
        with kept_state() as changed:
            assert torch.ones(1, requires_grad=True).mul(2).requires_grad
            assert torch.ones(1).dtype == torch.float32
        assert not changed
        assert torch.get_default_dtype() == torch.float64
        assert not torch.is_grad_enabled()
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_grad_enabled(True)


def test_state_is_put_back_after_an_error() -> None:
    with contextlib.suppress(KeyError), kept_state():
        torch.set_default_dtype(torch.float64)
        raise KeyError
    assert torch.get_default_dtype() == torch.float32


def test_pytorch_itself_may_wrap_its_functions() -> None:
    with kept_state() as changed:
        torch.optim.SGD([torch.ones(1, requires_grad=True)], 0.1).step()
        torch.rand(3)
    assert not changed


def test_import_that_loads_pytorch_first_changes_nothing_of_it(tmp_path: Path) -> None:
    (tmp_path / "odd.py").write_text(
        "import torch\nimport torch.nn.functional as F\ntorch.set_default_dtype(torch.float64)\n"
        "torch.set_num_threads(torch.get_num_threads() + 3)\nF.cross_entropy = None\nF.relu = lambda x: x\n"
    )
    program = (
        "import sys\nfrom benchmark.system.containment import contained_import\n"
        "with contained_import():\n    import odd\n"
        "import torch\nprint(torch.get_default_dtype(), torch.get_num_threads(), torch.nn.functional.relu.__module__)"
    )
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{tmp_path}", "OMP_NUM_THREADS": "2"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["torch.float32", "2", "torch.nn.functional"]
