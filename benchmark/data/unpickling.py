"""Read untrusted pickles without running code: only containers, numbers, text and numpy arrays are allowed."""

from __future__ import annotations

import math
import os
import pickle
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from types import NoneType
from typing import Any, BinaryIO, ClassVar

import numpy as np
import numpy.typing as npt

from benchmark.errors import InputError, os_reason
from benchmark.system.files import open_plain


def load_pickle(path: Path) -> Any:
    """Load a pickle of Python 2 or 3. Text of Python 2 is read as Latin-1; arrays are built from checked bytes.

    Time and memory are in proportion to the file: keys are numbers and text whose hashes do not collide. Keys of ASCII
    bytes become text, in the outermost dictionary and in those directly within it.

    Args:
        path: the pickle.

    Raises:
        InputError: the pickle is damaged, or asks for anything but containers, numbers, text and arrays of these.
    """
    try:
        with open_plain(path) as file:
            return _with_text_keys(_Unpickler(file, os.fstat(file.fileno()).st_size).load())
    except _Refused as error:
        raise InputError(
            f"pickle {path} asks for {error}, which may run code and is not data: it was not read; "
            f"get the file from its publisher"
        ) from None
    except OSError as error:
        raise InputError(f"pickle {path} cannot be read ({os_reason(error)})") from None
    except Exception as error:  # a damaged file can raise anything in an unpickler
        reason = str(error).split("\n", 1)[0] or type(error).__name__
        raise InputError(f"pickle {path} is damaged or not a pickle ({reason}); get it again") from None


def as_labels(values: Any, limit: int) -> npt.NDArray[np.int64]:
    """Return a pickled list or array of labels.

    Args:
        values: N whole numbers, of any type.
        limit: labels lie in [0, limit).

    Returns:
        N labels.

    Raises:
        ValueError: they are not whole numbers below the limit.
    """
    if isinstance(values, list | tuple):
        if not all(isinstance(v, int | float | np.integer | np.floating) and not isinstance(v, bool) for v in values):
            raise ValueError("its labels are not all numbers")
        values = np.array(values) if values else np.zeros(0, np.int64)
    if isinstance(values, np.ndarray) and values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if not isinstance(values, np.ndarray) or values.ndim != 1:
        raise ValueError("its labels are no list of numbers")
    if values.dtype.kind not in "iuf" or not (values == np.floor(values)).all() or not np.isfinite(values).all():
        raise ValueError("its labels are not all whole numbers of 64 bits")
    if len(values) and (values.min() < 0 or values.max() >= limit):
        raise ValueError(f"its labels lie from {values.min()} to {values.max()}, not in 0..{limit - 1}")
    return values.astype(np.int64)


def as_names(values: Any) -> list[str]:
    """Return a pickled list of names, as text or as ASCII bytes.

    Raises:
        ValueError: they are not names.
    """
    if not isinstance(values, list | tuple | np.ndarray):
        raise ValueError("its names are no list")
    names = [value.decode("ascii") if isinstance(value, bytes) else value for value in values]
    if not all(isinstance(name, str) for name in names):
        raise ValueError("its names are not all text")
    return [str(name) for name in names]


class _Refused(Exception):
    """The pickle asks for a name that is not allowed."""


def _with_text_keys(values: Any, depth: int = 2) -> Any:
    """Replace keys of ASCII bytes by text."""
    if not isinstance(values, dict) or not depth:
        return values
    renamed = {}
    for key, value in values.items():
        text = key.decode("ascii") if isinstance(key, bytes) and key.isascii() else key
        if text in renamed:
            raise pickle.UnpicklingError(f"two entries called {text!r}")
        renamed[text] = _with_text_keys(value, depth - 1)
    return renamed


_LARGEST_KEY = 2**61 - 2  # the hashes of larger numbers are their remainders, and may be made to collide


def _checked_keys(keys: Iterable[Any]) -> None:
    for key in keys:
        if isinstance(key, int | np.integer):
            if abs(int(key)) > _LARGEST_KEY:
                raise pickle.UnpicklingError("a key that is too large a number")
        elif not isinstance(key, str | bytes | NoneType):
            raise pickle.UnpicklingError(f"a key of type {type(key).__name__}")


class _WholeReads:
    """A file whose reads return all that is asked for. A size that the file does not have is refused before it is read.

    Args:
        file: the file.
        size: its bytes.
    """

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._size = size

    def read(self, size: int) -> bytes:
        content = self._file.read(size) if size <= self._size else b""
        if len(content) < size:
            raise EOFError("it is cut off")
        return content

    def readinto(self, buffer: Any) -> int:
        if self._file.readinto(buffer) < len(buffer):  # type: ignore[attr-defined]
            raise EOFError("it is cut off")
        return len(buffer)

    def readline(self) -> bytes:
        line = self._file.readline()
        if not line.endswith(b"\n"):
            raise EOFError("it is cut off")
        return line


_PythonUnpickler: Any = vars(pickle)["_Unpickler"]


class _Unpickler(_PythonUnpickler):  # type: ignore[misc]
    """Python's own unpickler in Python, with checks of everything whose cost the file's size does not bound."""

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = dict(_PythonUnpickler.dispatch)

    def __init__(self, file: BinaryIO, size: int) -> None:
        super().__init__(_WholeReads(file, size), encoding="latin1")
        self._size = size
        self._budget = 8 * size + (1 << 20)
        make: dict[str, Callable[..., Any]] = {
            **_MAKERS,
            "array": self._array,
            "buffer": self._from_buffer,
            "encode": self._encode,
        }
        self._allowed = {name: _Maker(make[kind]) for name, kind in _ALLOWED.items()}

    def find_class(self, module: str, name: str) -> Any:
        allowed = self._allowed.get((module.replace("numpy._core", "numpy.core"), name))
        if allowed is None:
            raise _Refused(f"{module}.{name}")
        return allowed

    def _spend(self, size: int) -> None:
        """Count bytes that are copied; one part of the file may be copied many times."""
        self._budget -= size
        if self._budget < 0:
            raise pickle.UnpicklingError("far more data than the file has")

    def _array(self, *_: Any) -> _Array:
        array = np.ndarray.__new__(_Array, (0,), np.uint8)
        array.spend = self._spend
        return array

    def _from_buffer(self, raw: Any, kind: Any, shape: Any, order: Any) -> Any:
        dtype = _checked(shape, kind, raw)
        return np.frombuffer(raw, dtype).reshape(shape, order="F" if order == "F" else "C")

    def _encode(self, text: Any, encoding: Any = "latin1") -> bytes:
        if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
            raise pickle.UnpicklingError("bytes that are not Latin-1 text")
        self._spend(len(text))
        return text.encode("latin1")

    def load_dict(self) -> None:
        items = self.pop_mark()
        _checked_keys(items[::2])
        self.append(dict(zip(items[::2], items[1::2], strict=True)))

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        _set_items(self.stack[-1], [key], [value])

    def load_setitems(self) -> None:
        items = self.pop_mark()
        _set_items(self.stack[-1], items[::2], items[1::2])

    def load_additems(self) -> None:
        items = self.pop_mark()
        _checked_keys(items)
        self.stack[-1].update(items)

    def load_frozenset(self) -> None:
        items = self.pop_mark()
        _checked_keys(items)
        self.append(frozenset(items))

    def load_put(self) -> None:
        place = self.readline()[:-1]
        if not place.isdigit() or len(place) > 18:
            raise pickle.UnpicklingError("a place that is no number")
        self.memo[int(place)] = self.stack[-1]

    def load_bytearray8(self) -> None:
        size = int.from_bytes(self.read(8), "little")
        if size > self._size:
            raise pickle.UnpicklingError("more bytes than the file has")
        self.append(bytearray(self.read(size)))

    dispatch |= {
        pickle.DICT[0]: load_dict,
        pickle.SETITEM[0]: load_setitem,
        pickle.SETITEMS[0]: load_setitems,
        pickle.ADDITEMS[0]: load_additems,
        pickle.FROZENSET[0]: load_frozenset,
        pickle.PUT[0]: load_put,
        pickle.BYTEARRAY8[0]: load_bytearray8,
    }


def _set_items(target: Any, keys: list[Any], values: list[Any]) -> None:
    if not isinstance(target, dict):
        raise pickle.UnpicklingError(f"entries of a {type(target).__name__}")
    _checked_keys(keys)
    target.update(zip(keys, values, strict=True))


class _Maker:
    """Replaces a function of numpy or Python in a pickle. It returns data only, and a pickle cannot change it."""

    __slots__ = ("_make",)
    _make: Callable[..., Any]

    def __init__(self, make: Callable[..., Any]) -> None:
        object.__setattr__(self, "_make", make)

    def __call__(self, *values: Any) -> Any:
        return self._make(*values)

    def __setattr__(self, name: str, value: Any) -> None:
        raise pickle.UnpicklingError("a state for a function")

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("a state for a function")


class _Type:
    """A pickled dtype. ``dtype`` is the real one; it allows numbers, text and bytes only."""

    __slots__ = ("code", "order")

    def __init__(self, code: str, *_: Any) -> None:
        self.code = code if isinstance(code, str) else ""
        self.order = "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, self.order, subarray, names, fields, itemsize = state[:6]
        if (subarray, names, fields) != (None, None, None):
            raise pickle.UnpicklingError("an array of records")
        if self.code in ("S", "U") and isinstance(itemsize, int):
            self.code += str(itemsize // (4 if self.code == "U" else 1))

    @property
    def dtype(self) -> np.dtype[Any]:
        if not re.fullmatch(r"b1|[iu][1248]|f[248]|[SU][0-9]{1,6}", self.code) or self.order not in (
            "<",
            ">",
            "=",
            "|",
        ):
            raise pickle.UnpicklingError(f"an array of type {self.code!r}")
        return np.dtype(("" if self.order == "|" else self.order) + self.code)


class _Array(np.ndarray[Any, np.dtype[Any]]):
    """An array whose state is checked before numpy reads it. ``spend`` counts its bytes."""

    spend: Callable[[int], None]

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        shape, kind, fortran, raw = state[-4:]
        self.spend(len(raw))
        del self.spend  # it would keep the whole pickle in memory
        raw = raw.encode("latin1") if isinstance(raw, str) else raw
        dtype = _checked(shape, kind, raw)
        checked: Any = (1, shape, dtype, bool(fortran), bytes(raw))
        super().__setstate__(checked)


def _checked(shape: Any, kind: Any, raw: Any) -> np.dtype[Any]:
    """Check that an array's shape, type and bytes agree, and return its dtype."""
    if not isinstance(kind, _Type) or not isinstance(raw, bytes | bytearray):
        raise pickle.UnpicklingError("an array that is not made of bytes")
    if not isinstance(shape, tuple) or not all(isinstance(n, int) and n >= 0 for n in shape):
        raise pickle.UnpicklingError("an array without a shape")
    if math.prod(shape) * kind.dtype.itemsize != len(raw):
        raise pickle.UnpicklingError(f"an array of {len(raw)} bytes whose shape is {shape}")
    return kind.dtype


def _scalar(kind: Any, raw: Any) -> Any:
    raw = raw.encode("latin1") if isinstance(raw, str) else raw
    return np.frombuffer(raw, _checked((), kind, raw))[0]


def _dictionary(*items: Any) -> dict[Any, Any]:
    pairs = items[0] if len(items) == 1 and isinstance(items[0], list) else []
    if (items and items != (pairs,)) or not all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs):
        raise pickle.UnpicklingError("a dictionary that is not made of pairs")
    _checked_keys(pair[0] for pair in pairs)
    return dict(pairs)


def _set(items: Any = ()) -> set[Any]:
    if not isinstance(items, list | tuple):
        raise pickle.UnpicklingError("a set that is not made of a list")
    _checked_keys(items)
    return set(items)


_MAKERS: dict[str, Callable[..., Any]] = {
    "scalar": _scalar,
    "dtype": _Type,
    "bytes": lambda: b"",
    "dictionary": _dictionary,
    "defaults": lambda *_: {},
    "set": _set,
    "nothing": lambda: None,
}

_BUILT_IN = {
    "bytes": "bytes",
    "dict": "dictionary",
    "set": "set",
    "list": "nothing",
    "int": "nothing",
    "long": "nothing",
}
"""``list`` and the numbers are factories of dictionaries with defaults, which are not called."""

_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"): "array",
    ("numpy.core.multiarray", "scalar"): "scalar",
    ("numpy.core.numeric", "_frombuffer"): "buffer",
    ("numpy", "ndarray"): "array",
    ("numpy", "dtype"): "dtype",
    ("_codecs", "encode"): "encode",
    ("collections", "OrderedDict"): "dictionary",
    ("collections", "defaultdict"): "defaults",
    **{(module, name): maker for module in ("builtins", "__builtin__") for name, maker in _BUILT_IN.items()},
}
"""The names that a pickle may ask for, and what makes their values."""
