from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmark.backbones.network import build_network
from benchmark.methods import LabelSpaces, Stage
from benchmark.spec import Training
from benchmark.training.initialisation import build_method
from benchmark.training.optimisation import build_optimiser


@pytest.mark.parametrize("nesterov", [True, False])
def test_steps_are_those_of_sgd_bit_for_bit(nesterov: bool) -> None:
    training = Training(nesterov=nesterov, warmup=0.0, milestones="0.5")
    network = build_network("conv4-4", channels=3, size=16, classes=3, seed=0)
    other = copy.deepcopy(network)
    method = build_method("ce", None, LabelSpaces((0, 1, 2), ()), network, None, 0, channels=3, size=16)
    optimiser, scheduler = build_optimiser(network, method, Stage(), 6, training)
    plain = torch.optim.SGD(other.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=nesterov)
    for step in range(6):
        images, labels = torch.randn(8, 3, 16, 16), torch.randint(3, (8,))
        for each, updates in ((network, optimiser), (other, plain)):
            updates.zero_grad(set_to_none=True)
            torch.nn.functional.cross_entropy(each(images).logits, labels).backward()
            updates.step()
        scheduler.step()
        plain.param_groups[0]["lr"] = 0.1 if step + 1 < 3 else 0.1 * 0.1
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), other.parameters(), strict=True))
    optimiser.load_state_dict(optimiser.state_dict())
    assert not torch.is_inference_mode_enabled()
    assert torch.is_grad_enabled()


def test_a_run_imports_no_compiler(tmp_path: Path) -> None:
    """It takes a second of every process, and 5 where Python keeps no bytecode."""
    words = {"dataset": "tiny", "limit_steps": 2, "progress": False, "results": "r", "data": "d"}
    code = (
        f"import sys, benchmark; benchmark.run('distill-same', 'kd', **{words!r}); "
        "sys.exit(any(name in sys.modules for name in ('torch._dynamo', 'torch._inductor', 'sympy')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=tmp_path).returncode == 0
