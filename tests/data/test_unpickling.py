from __future__ import annotations

import collections
import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmark.data.unpickling import load_pickle
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
