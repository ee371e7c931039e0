from __future__ import annotations

import collections
import contextlib
import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmark.data.unpickling import as_labels, as_names, load_pickle
from benchmark.errors import InputError

from .layouts import python2_pickle

ARRAYS = [
    np.arange(24, dtype=np.uint8).reshape(2, 3, 4),
    np.asfortranarray(np.arange(6, dtype=np.int64).reshape(2, 3)),
    np.array([[1.5, -2.0]], np.float32),
    np.array([1.5, np.inf], ">f8"),
    np.array([True, False]),
    np.array(["n01532829", "ä"]),
    np.array([b"ab", b"c"]),
    np.zeros((0, 3), np.uint16),
    np.array(7, np.int32),
]


def load(path: Path, content: bytes) -> Any:
    path.write_bytes(content)
    return load_pickle(path)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("array", ARRAYS, ids=lambda a: f"{a.dtype}{a.shape}")
def test_load_pickle_returns_equal_arrays(tmp_path: Path, protocol: int, array: Any) -> None:
    for value in (array, [array, {"copy": array}]):
        out = load(tmp_path / "x", pickle.dumps(value, protocol))
        loaded = out if value is array else out[1]["copy"]
        assert loaded.dtype.newbyteorder("=") == array.dtype.newbyteorder("=")
        assert loaded.shape == array.shape
        assert np.array_equal(loaded, array)


@pytest.mark.parametrize("protocol", range(6))
def test_load_pickle_returns_equal_values(tmp_path: Path, protocol: int) -> None:
    value = {"a": [1, -(2**70), 2.5, None, True], "b": ("text", b"bytes \xff", b""), 3: {"nested": {}}}
    assert load(tmp_path / "x", pickle.dumps(value, protocol)) == value
    assert load(tmp_path / "x", pickle.dumps(collections.OrderedDict(a=1, b=2), protocol)) == {"a": 1, "b": 2}
    assert load(tmp_path / "x", pickle.dumps([np.int64(5), np.float32(0.5)], protocol)) == [5, 0.5]


def test_load_pickle_reads_python_2_text_as_latin_1(tmp_path: Path) -> None:
    content = python2_pickle({"data": ARRAYS[0], "names": ["caf\xe9"]})
    assert b"numpy.core.multiarray" in content
    out = load(tmp_path / "x", content)
    assert out["names"] == ["café"]
    assert np.array_equal(out["data"], ARRAYS[0])


class Calls:
    """Pickles as a call of ``function``."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.made_of = function, arguments

    def __reduce__(self) -> Any:
        return self.made_of


def hostile(marker: Path) -> dict[str, bytes]:
    command = f"touch {marker}"
    minus = b"J\xff\xff\xff\xff"
    kind = b"cnumpy\ndtype\n(X\x02\x00\x00\x00%b\x89\x88tR(K\x03X\x01\x00\x00\x00%bNNN" + minus * 2 + b"K%btb"
    array = b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tC\x01btR"
    array += b"(K\x01(K\x01t%b\x89C\x08AAAAAAAAtb."
    import os
    import subprocess

    return {
        "system": pickle.dumps(Calls(os.system, command)),
        "eval in a list": pickle.dumps([1, {"a": Calls(eval, f"open({str(marker)!r}, 'w')")}]),
        "exec": pickle.dumps(Calls(exec, f"open({str(marker)!r}, 'w')")),
        "process": pickle.dumps(Calls(subprocess.call, ["touch", str(marker)])),
        "getattr": pickle.dumps(Calls(getattr, "x", "upper")),
        "a dotted name": b"\x80\x04\x8c\x05numpy\x8c\x11ndarray.__class__\x93.",
        "another name of numpy": b"cnumpy\nload\n.",
        "the module of a name allowed": b"cnumpy.core.multiarray\nfromfile\n.",
        "a state for a name": b"cnumpy\ndtype\n(N}X\x05\x00\x00\x00_makeK\x01stb.",
        "a dictionary for a name": b"cnumpy\ndtype\n}X\x05\x00\x00\x00_makeK\x01sb.",
        "objects at made-up addresses": array % (kind % (b"O8", b"|", b"\x3f")),
        "flags that say objects": array % (kind % (b"i8", b"|", b"\x3f")).replace(b"i8", b"O8"),
        "more shape than bytes": array.replace(b"(K\x01t%b", b"(K\x09t%b") % (kind % (b"i8", b"<", b"\x00")),
        "a negative shape": array.replace(b"(K\x01t%b", b"(J\xff\xff\xff\xfft%b") % (kind % (b"i8", b"<", b"\x00")),
        "no dtype": array % b"N",
        "a shape for a dtype": array % b"K\x07",
        "a registered extension": b"\x80\x02\x82\x01.",
        "a persistent object": b"Psomething\n.",
        "an old-style instance": b"(ios\nsystem\n.",
    }


@pytest.mark.parametrize("kind", list(hostile(Path())))
def test_load_pickle_refuses_hostile_pickles(tmp_path: Path, kind: str) -> None:
    marker = tmp_path / "touched"
    with pytest.raises(InputError, match=r"pickle .*x (asks for|is damaged)") as caught:
        load(tmp_path / "x", hostile(marker)[kind])
    assert "\n" not in str(caught.value)
    assert not marker.exists()


def test_load_pickle_names_the_refused_function(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"asks for (posix|nt)\.system, .* may run code"):
        load(tmp_path / "x", hostile(tmp_path / "y")["system"])
    with pytest.raises(InputError, match="cannot be read"):
        load_pickle(tmp_path / "missing")


@pytest.mark.parametrize("write", [python2_pickle, pickle.dumps])
def test_load_pickle_raises_only_input_errors_for_damaged_files(tmp_path: Path, write: Any) -> None:
    content = write({"data": ARRAYS[0], "labels": [1, 2, 3], "names": ["a", "b"]})
    for length in range(len(content)):
        with pytest.raises(InputError, match="damaged"):
            load(tmp_path / "x", content[:length])
    draws = random.Random(0)
    refused = 0
    for _ in range(400):
        changed = bytearray(content)
        changed[draws.randrange(len(changed))] = draws.randrange(256)
        try:
            load(tmp_path / "x", bytes(changed))
        except InputError:
            refused += 1
    assert refused > 50


def test_load_pickle_refuses_an_html_page(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="damaged or not a pickle"):
        load(tmp_path / "x", b"<!DOCTYPE html><html>Sign in</html>")


LARGE = 2**61 - 1
"""All its multiples have the hash 0."""


def nested_tuples(depth: int) -> bytes:
    """A pickle of a dictionary whose key is a tuple that takes 2 ** depth steps to hash."""
    content = b"\x80\x04)"
    for place in range(depth):
        content += b"\x94h%ch%c\x86" % (place, place)
    return content + b"\x94}h%cK\x01s." % depth


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (pickle.dumps({number * LARGE: 0 for number in range(1, 300)}), "too large a number"),
        (pickle.dumps({number * LARGE for number in range(1, 300)}, 4), "too large a number"),
        (pickle.dumps({number * LARGE for number in range(1, 300)}, 2), "too large a number"),
        (
            pickle.dumps(collections.OrderedDict((number * LARGE, 0) for number in range(1, 300)), 2),
            "too large a number",
        ),
        (nested_tuples(60), "a key of type tuple"),
        (b"(lp" + b"9" * 4000 + b"\n.", "a place that is no number"),
        (b"\x80\x04\x8e" + (2**40).to_bytes(8, "little") + b".", "cut off"),
        (b"\x80\x05\x96" + (2**40).to_bytes(8, "little") + b".", "more bytes than the file has"),
        (b"\x80\x04\x95" + (2**40).to_bytes(8, "little") + b".", "cut off"),
    ],
    ids=["dictionary", "set", "set of protocol 2", "pairs", "tuples", "memo", "bytes", "bytearray", "frame"],
)
def test_load_pickle_refuses_what_costs_more_than_the_file(tmp_path: Path, content: bytes, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        load(tmp_path / "x", content)


def test_load_pickle_refuses_many_copies_of_one_part(tmp_path: Path) -> None:
    """Two bytes of a pickle may ask for another array of all bytes before them."""
    one = python2_pickle(np.zeros(100_000, np.uint8))
    start, end = one[:-1], one[-1:]
    assert load(tmp_path / "x", one).nbytes == 100_000
    text = b"X" + (100_000).to_bytes(4, "little") + bytes(100_000) + b"q\x63"
    encode = b"c_codecs\nencode\nq\x64"
    bomb = start[:2] + b"(" + text + encode + b"h\x64h\x63\x85R" * 50 + b"l" + end
    with pytest.raises(InputError, match="far more data than the file has"):
        load(tmp_path / "x", bomb)


def test_load_pickle_reads_keys_of_bytes_as_text(tmp_path: Path) -> None:
    value = {b"data": b"raw \xff", b"names": {b"n01": [1, 2]}, 3: {b"deep": {b"kept": 1}}}
    expected = {"data": b"raw \xff", "names": {"n01": [1, 2]}, 3: {"deep": {b"kept": 1}}}
    for protocol in range(6):
        assert load(tmp_path / "x", pickle.dumps(value, protocol)) == expected
    with pytest.raises(InputError, match="two entries called 'data'"):
        load(tmp_path / "x", pickle.dumps({b"data": 1, "data": 2}))


@pytest.mark.parametrize("protocol", range(6))
def test_load_pickle_reads_common_containers(tmp_path: Path, protocol: int) -> None:
    grouped: dict[str, list[int]] = collections.defaultdict(list)
    grouped["a"].append(1)
    counted: dict[str, int] = collections.defaultdict(int, b=2)
    value = [grouped, counted, {"c", 1}]
    assert load(tmp_path / "x", pickle.dumps(value, protocol)) == [{"a": [1]}, {"b": 2}, {"c", 1}]


def test_labels_of_any_whole_type_are_read() -> None:
    for values in ([0, 2, 1], (0, 2, 1), [0.0, 2.0, 1.0], np.array([[0], [2], [1]], np.uint8), np.array([0, 2, 1.0])):
        assert as_labels(values, 3).tolist() == [0, 2, 1]
    assert as_labels([], 3).tolist() == []
    assert as_names([b"a", "b"]) == ["a", "b"]


@pytest.mark.parametrize(
    "values",
    [
        [2**70], [2**40], [float("inf")], [float("nan")], [-1], [3], [0.5], ["0"], [True], [[0]], None, "012", {0: 1},
        np.zeros((2, 2)), np.array(["0"]), np.array([True]), np.array(0),
    ],
    ids=repr,
)  # fmt: skip
def test_other_labels_are_refused(values: Any) -> None:
    with pytest.raises(ValueError, match="its labels"):
        as_labels(values, 3)


_VALUES = {"data": ARRAYS[0], "labels": [1, 2, 3], "names": {"a": (1.5, b"x"), "b": {4, 5}}}


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    protocol=st.integers(0, 5),
    changes=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=4),
    cut=st.integers(0, 40),
)
def test_any_pickle_is_read_or_refused(tmp_path: Path, protocol: int, changes: list[tuple[int, int]], cut: int) -> None:
    content = bytearray(pickle.dumps(_VALUES, protocol))
    for place, byte in changes:
        content[place % len(content)] = byte
    with contextlib.suppress(InputError):
        load(tmp_path / "x", bytes(content[: len(content) - cut]))
