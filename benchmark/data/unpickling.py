"""Read untrusted pickles without running code: only containers, numbers, text and numpy arrays are allowed."""

from __future__ import annotations

import math
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.errors import InputError, os_reason


def load_pickle(path: Path) -> Any:
    """Load a pickle of Python 2 or 3. Text of Python 2 is read as Latin-1; arrays are built from checked bytes.

    Args:
        path: the pickle.

    Raises:
        InputError: the pickle is damaged, or asks for anything but containers, numbers, text and arrays of these.
    """
    try:
        with path.open("rb") as file:
            return _Unpickler(file, encoding="latin1").load()
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


class _Refused(Exception):
    """The pickle asks for a name that is not allowed."""


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        allowed = _ALLOWED.get((module.replace("numpy._core", "numpy.core"), name))
        if allowed is None:
            raise _Refused(f"{module}.{name}")
        return allowed


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
    """An array whose state is checked before numpy reads it."""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        shape, kind, fortran, raw = state[-4:]
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


def _reconstruct(*_: Any) -> _Array:
    return np.ndarray.__new__(_Array, (0,), np.uint8)


def _from_buffer(raw: Any, kind: Any, shape: Any, order: Any) -> Any:
    dtype = _checked(shape, kind, raw)
    return np.frombuffer(raw, dtype).reshape(shape, order="F" if order == "F" else "C")


def _scalar(kind: Any, raw: Any) -> Any:
    raw = raw.encode("latin1") if isinstance(raw, str) else raw
    return np.frombuffer(raw, _checked((), kind, raw))[0]


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError("bytes that are not Latin-1 text")
    return text.encode("latin1")


def _empty_bytes() -> bytes:
    return b""


def _dictionary(*items: Any) -> dict[Any, Any]:
    return dict(*items)


_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"): _Maker(_reconstruct),
    ("numpy.core.multiarray", "scalar"): _Maker(_scalar),
    ("numpy.core.numeric", "_frombuffer"): _Maker(_from_buffer),
    ("numpy", "ndarray"): _Maker(_reconstruct),
    ("numpy", "dtype"): _Maker(_Type),
    ("_codecs", "encode"): _Maker(_encode),
    ("builtins", "bytes"): _Maker(_empty_bytes),
    ("__builtin__", "bytes"): _Maker(_empty_bytes),
    ("collections", "OrderedDict"): _Maker(_dictionary),
}
