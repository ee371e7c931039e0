from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

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
        ("- protocols: [[a]]", "a name or a list of names"),
        ("- protocols: a\n  seeds: [[0]]", "block 1: seeds = [['0']]: it takes seeds such as 3 or 0-4"),
        ("- protocols: a\n  seeds: 1:30", "block 1: seeds: seeds '1:30' are not of the form"),
        ("- protocols: a\n  seeds: 0x10", "seeds '0x10'"),
        ("- protocols: a\n  seeds: 1_0", "seeds '1_0'"),
        ("- protocols: a\n  limit_steps: 1_0", "limit_steps = '1_0': input should be a valid integer"),
        ("- protocols: a\n  limit_steps: 010", "limit_steps = '010': input should be a valid integer"),
        ("- protocols: a\n  limit_steps: yes", "limit_steps = 'yes': input should be a valid integer"),
        ("- protocols: a\n  seeds: 0-1\n  seeds: 3", "line 3: key 'seeds' stands twice, first in line 2"),
        ("- protocols: a\n  slurm: {time: 3, time: 4}", "line 2: key 'time' stands twice, first in line 2"),
        ("- protocols: a\n  <<: {seeds: 3}", "no key '<<'"),
        ("- protocols: a\n  seeds: 4-0", "block 1: seeds: seeds '4-0'"),
        ("- protocols: a\n  limit_steps: few", "block 1: limit_steps = 'few': input should be a valid integer"),
        ("- protocols: a\n  slurm: {tine: 3}", "slurm: no key 'tine'; did you mean 'time'"),
        ("- protocols: a\n  slurm: {time: true}", "block 1: slurm: time = 'true': input should be a valid integer"),
        ("- protocols: a\n  slurm: fast", "block 1: slurm is no mapping; it takes partition"),
        ("- protocols: a\n  preset: [3]", "block 1: preset = ['3']: input should be a valid string"),
        ("- {protocols: a, 3: 4}", "block 1: no key '3'"),
        ("- {[a, b]: 4}", "is no YAML"),
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


def test_read_grid_reads_what_is_written(tmp_path: Path) -> None:
    """YAML 1.1 would make False, 8 and a date of these."""
    (block,) = read(tmp_path, "protocols: on\ndatasets: no\nmethods: 2020-01-01\nseeds: 010\nlimit_steps: null")
    assert (block.protocols, block.datasets, block.methods) == (("on",), ("no",), ("2020-01-01",))
    assert (block.seeds, block.limit_steps) == ((10,), None)


def test_read_grid_waits_for_no_fifo_and_reads_no_endless_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "grid.yaml")
    for path in (tmp_path / "grid.yaml", Path("/dev/zero")):
        with pytest.raises(InputError, match="no plain file"):
            read_grid(path)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_grid_gives_blocks_or_one_line(tmp_path: Path, data: st.DataObject) -> None:
    text = data.draw(st.sampled_from([FILE, "- &a [*a]", "a: &a [x, x]\nb: &b [*a, *a]\nseeds: [*b, *b]"]))
    at = data.draw(st.integers(0, len(text)))
    put = data.draw(st.text(alphabet="-:[]{}&*!|>'\"#, \n\tax0~<", max_size=12) | st.binary(max_size=6))
    content = text[:at].encode() + (put if isinstance(put, bytes) else put.encode())
    (tmp_path / "grid.yaml").write_bytes(content + text[at + data.draw(st.integers(0, 30)) :].encode())
    said = ""
    try:
        assert read_grid(tmp_path / "grid.yaml")
    except InputError as error:
        said = str(error)
    assert "\n" not in said


def test_read_grid_reports_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read grid"):
        read_grid(tmp_path / "none.yaml")


def test_resources_with_defaults_keeps_named_values() -> None:
    assert Resources(time=5).with_defaults(Resources("gpu", time=60)) == Resources("gpu", time=5)
