"""The package loads lazily and names what its stub names."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import benchmark.losses as losses
from benchmark.losses.validation import check_batch, full_precision


def test_losses_package_imports_without_torch():
    code = "import sys, benchmark.losses; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_losses_stub_names_exist_and_are_documented():
    stub = ast.parse(Path(losses.__file__).with_name("__init__.pyi").read_text())
    names = {alias.name for node in stub.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert names == set(losses.__all__)
    assert len(names) >= 20
    for name in names:
        assert getattr(losses, name).__doc__, name


def test_full_precision_widens_to_the_widest_and_leaves_the_rest():
    @full_precision
    def seen(a, b, *, c=None, n=3):
        assert not torch.is_autocast_enabled("cpu")
        assert n == 3
        return torch.tensor([x.dtype == want for x, want in ((a, torch.float64), (b, torch.float64), (c, torch.int32))])

    with torch.autocast("cpu", torch.bfloat16):
        half, double = torch.ones(2, dtype=torch.bfloat16), torch.ones(2, dtype=torch.float64)
        assert seen(half, double, c=torch.ones(2, dtype=torch.int32)).all()


def test_full_precision_keeps_the_gradient_of_half_inputs():
    x = torch.ones(2, dtype=torch.bfloat16, requires_grad=True)
    full_precision(lambda t: t.square().sum())(x).backward()
    assert x.grad is not None
    assert x.grad.dtype == torch.bfloat16


def test_check_batch_refuses_scalars_by_name():
    with pytest.raises(ValueError, match="mine: x is scalar; expected 2 dimensions"):
        check_batch("mine", "B C", x=torch.tensor(1.0))
