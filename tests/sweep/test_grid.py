from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.errors import InputError
from benchmark.methods import METHODS
from benchmark.sweep.grid import GridBlock, Resources, read_grid, write_grid

FILE = """
- protocols: [distill-same, distill-cross]
  methods: all
  datasets: [glyphs, emoji]
  seeds: 0-4
- protocols: fewshot-5way1shot
  methods: [refilled, ce]
  datasets: tiny
  seeds: [0, 3]
  preset: paper
  set: [teacher.seed=run, training.lr=0.05]
  limit_steps: 7
  slurm: {partition: gpu, time: 90, gpus: 1}
"""


def read(tmp_path: Path, text: str) -> list[GridBlock]:
    path = tmp_path / "grid.yaml"
    path.write_text(text)
    return read_grid(path)


def test_read_grid_reads_every_key(tmp_path: Path) -> None:
    first, second = read(tmp_path, FILE)
    assert first == GridBlock(("distill-same", "distill-cross"), ("all",), ("glyphs", "emoji"), (0, 1, 2, 3, 4))
    assert second == GridBlock(
        ("fewshot-5way1shot",), ("refilled", "ce"), ("tiny",), (0, 3), "paper",
        ("teacher.seed=run", "training.lr=0.05"), 7, Resources(partition="gpu", time=90, gpus=1),
    )  # fmt: skip
    requested = [(r.protocol, r.dataset, r.method) for r in first.requests()]
    assert len(requested) == len(set(requested)) == 2 * 2 * len(METHODS.names())
    assert [r.method for r in second.requests()] == ["refilled", "ce"]
    assert {(r.preset, r.overrides, r.limit_steps) for r in second.requests()} == {("paper", second.set, 7)}


def test_read_grid_reads_what_write_grid_wrote(tmp_path: Path) -> None:
    blocks = read(tmp_path, FILE)
    write_grid(tmp_path / "again.yaml", blocks)
    assert read_grid(tmp_path / "again.yaml") == blocks


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- protocol: distill-same", "block 1: no key 'protocol'; did you mean 'protocols'"),
        ("- protocols: a\n- protocols: b\n  sets: []", "block 2: no key 'sets'; did you mean 'set'"),
        ("- methods: ce", "block 1 names no protocols"),
        ("- protocols: []", "a name or a list of names"),
        ("- protocols: [1]", "a name or a list of names"),
        ("- protocols: a\n  seeds: 4-0", "block 1: seeds: seeds '4-0'"),
        ("- protocols: a\n  limit_steps: few", "block 1: limit_steps = 'few': input should be a valid integer"),
        ("- protocols: a\n  slurm: {tine: 3}", "slurm: no key 'tine'; did you mean 'time'"),
        ("- protocols: a\n  slurm: {time: true}", "block 1: slurm: time = True: input should be a valid integer"),
        ("- protocols: a\n  slurm: fast", "block 1: slurm is no mapping; it takes partition"),
        ("- protocols: a\n  preset: 3", "block 1: preset = 3: input should be a valid string"),
        ("- {protocols: a, 3: 4}", "block 1 = 3: keys should be strings"),
        ("- protocols: [a\n- b: c", "line 2 is no YAML"),
        ("[]", "holds no block"),
        ("just words", "is no mapping"),
        ("!!python/object/apply:os.getcwd []", "is no YAML"),
    ],
)
def test_read_grid_names_file_block_and_key_of_an_error(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match="grid") as error:
        read(tmp_path, text)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_read_grid_reports_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read grid"):
        read_grid(tmp_path / "none.yaml")


def test_resources_with_defaults_keeps_named_values() -> None:
    assert Resources(time=5).with_defaults(Resources("gpu", time=60)) == Resources("gpu", time=5)
