"""The script that says where the time of a training step goes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ..scripts import load

profiling = load("tools/profile_steps")
EVERYWHERE = {
    "convolutions, forward", "convolutions, backward", "batch norm", "activations", "pooling", "zero fill and copies",
    "data crops", "loss", "optimiser",
}  # fmt: skip


def profile(backbone: str, method: str, batch: int = 64) -> dict[str, float]:
    shares: dict[str, float] = profiling.profile(backbone, method, steps=1, batch=batch, dataset="tiny").shares()
    return shares


@pytest.mark.parametrize("method", ["ce", "rkd"])
def test_the_shares_of_all_parts_sum_to_1_and_little_is_left(method: str) -> None:
    shares = profile("conv4-16", method)
    assert sum(shares.values()) == pytest.approx(1)
    assert set(shares) >= EVERYWHERE
    assert all(shares[part] > 0 for part in EVERYWHERE)
    assert shares.get("other", 0) < 0.05
    assert ("teacher's pass" in shares) == (method == "rkd")


def test_draws_of_dropout_are_a_part_of_their_own() -> None:
    assert profile("wrn-10-1", "ce", batch=8)["dropout and random draws"] > 0.005
    assert "dropout and random draws" not in profile("conv4-16", "ce", batch=8)


def test_the_backward_pass_of_the_loss_belongs_to_the_loss() -> None:
    logits = torch.randn(512, 512, requires_grad=True)
    weight = torch.randn(512, 512, requires_grad=True)

    def step() -> None:
        outputs = logits @ weight
        with torch.profiler.record_function("part: loss"):
            loss = torch.special.i0e(outputs).sum()
        loss.backward()

    step()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        step()
    seconds, unmatched = profiling._by_part(list(profiler.events()))
    assert seconds["linear head"] > 0
    # the gradient of i0e calls operators that no rule matches: they would be left over if they were not the loss's
    assert any(event.name == "aten::special_i1e" for event in profiler.events())
    assert not any(name.startswith("aten::special") for name in unmatched)


def test_the_command_prints_and_writes_one_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "profile.md"
    options = ["--backbones", "conv4-16", "--methods", "ce", "kd", "--steps", "1", "--batch", "8", "--dataset", "tiny"]
    profiling.main([*options, "--out", str(path)])
    table = path.read_text(encoding="utf-8")
    assert table in capsys.readouterr().out
    header, _, *rows, total = table.splitlines()
    assert header == "| part, % | conv4-16, ce | conv4-16, kd |"
    assert total.startswith("| operators of a step")
    columns = zip(*([float(cell) for cell in row.split("|")[2:-1]] for row in rows), strict=True)
    assert [sum(column) for column in columns] == pytest.approx([100, 100], abs=1)
