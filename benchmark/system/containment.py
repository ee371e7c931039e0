"""Code of others in this process: what it changes is put back, so that what runs after it is as without it."""

from __future__ import annotations

import builtins
import contextlib
import io
import os
import random
import signal
import sys
import threading
import types
from collections.abc import Callable, Iterator
from typing import Any, NoReturn, TextIO

IMPORT_SECONDS = 30.0
"""How long the import of a plug-in may take."""


class Stopped(BaseException):
    """Code of others that tried to end the process or did not return."""


@contextlib.contextmanager
def contained_import() -> Iterator[None]:
    """Import code of others within the block.

    It can neither end this process nor print on standard output. What it changes is put back.

    Raises:
        Stopped: it tried to end the process, or did not return in ``IMPORT_SECONDS`` (in the main thread).
    """
    with kept_state(wait=False), _torch_kept(), _no_exit(), _time_limit(IMPORT_SECONDS):
        try:
            yield
        except SystemExit:
            raise Stopped("it ends the process when it is imported") from None


_lock = threading.RLock()
"""Held while state is kept: there is one for all threads of a process."""


@contextlib.contextmanager
def kept_state(*, wait: bool = True) -> Iterator[list[str]]:
    """Run code of others within the block, under the normal state of PyTorch, and put back what it changes.

    State is what the results of later runs depend on: switches, threads and generators of PyTorch, its functions, those
    of NumPy and of this suite, the working directory and the standard streams. Prints go to standard error.

    Args:
        wait: whether to wait for another thread in such a block; if not, nothing is kept while there is one.

    Yields:
        A list that names, after the block, the changes that it left. Draws from generators are none.
    """
    changed: list[str] = []
    if not _lock.acquire(blocking=wait):
        yield changed
        return
    with _released(), _streams_kept(changed), _generators_kept(), _functions_kept(changed), _switches_kept(changed):
        yield changed


@contextlib.contextmanager
def _torch_kept() -> Iterator[None]:
    """Keep the state of PyTorch also where the block is the first to import it: from the end of that import on."""
    if "torch" in sys.modules:
        yield
        return
    real = builtins.__import__
    with contextlib.ExitStack() as stack:

        def importing(name: str, *rest: Any, **more: Any) -> Any:
            if name.partition(".")[0] == "torch" and "torch" not in sys.modules:
                builtins.__import__ = real
                real("torch")
                for kept in (_generators_kept(), _functions_kept([]), _switches_kept([])):
                    stack.enter_context(kept)
            return real(name, *rest, **more)

        builtins.__import__ = importing
        try:
            yield
        finally:
            builtins.__import__ = real


@contextlib.contextmanager
def _released() -> Iterator[None]:
    try:
        yield
    finally:
        _lock.release()


class _Notes(io.TextIOBase):
    """Standard output for code of others: it goes to standard error, and closing it closes nothing."""

    def __init__(self, target: TextIO) -> None:
        self._target = target

    def write(self, text: str) -> int:
        return self._target.write(text)

    def flush(self) -> None:
        self._target.flush()

    def close(self) -> None: ...


@contextlib.contextmanager
def _streams_kept(changed: list[str]) -> Iterator[None]:
    files = {}
    for number in (1, 2):
        with contextlib.suppress(OSError):  # a process may lack a standard stream
            files[number] = os.dup(number)
    streams = {"stdout": sys.stdout, "stderr": sys.stderr}
    notes = _Notes(sys.stderr)
    try:
        sys.stdout = notes
        yield
    finally:
        if sys.stdout is notes:
            sys.stdout = streams["stdout"]
        for number, copy in files.items():
            os.dup2(copy, number)
            os.close(copy)
        for number, (name, stream) in enumerate(streams.items(), 1):
            if stream.closed:
                changed.append(f"sys.{name}")
                opened = open(number, "w", encoding=stream.encoding, errors=stream.errors, closefd=False)  # noqa: SIM115
                setattr(sys, name, opened)
            elif getattr(sys, name) is not stream:
                changed.append(f"sys.{name}")
                setattr(sys, name, stream)


@contextlib.contextmanager
def _generators_kept() -> Iterator[None]:
    numpy, torch = sys.modules.get("numpy"), sys.modules.get("torch")
    states: list[tuple[Callable[[Any], object], Any]] = [(random.setstate, random.getstate())]
    if numpy is not None:
        states.append((numpy.random.set_state, numpy.random.get_state()))
    if torch is not None:
        states.append((torch.set_rng_state, torch.get_rng_state()))
    try:
        yield
    finally:
        for put_back, state in states:
            put_back(state)


_Switch = tuple[Callable[[], Any], Callable[[Any], object], Any]
"""Reads a value, sets one, and the normal value; None where the value is the user's choice."""


def _switches() -> dict[str, _Switch]:
    switches: dict[str, _Switch] = {"the working directory": (os.getcwd, os.chdir, None)}
    torch: Any = sys.modules.get("torch")
    if torch is None or not hasattr(torch, "get_default_dtype"):
        return switches

    def attribute(owner: Any, name: str, normal: Any = None) -> _Switch:
        return (lambda: getattr(owner, name)), (lambda value: setattr(owner, name, value)), normal

    def set_device(device: Any) -> None:
        torch.set_default_device(None if str(device) == "cpu" else device)

    def flushes() -> bool:
        return bool((torch.tensor([1e-40], dtype=torch.float32) * 1).item() == 0)

    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    return switches | {
        "torch's default dtype": (torch.get_default_dtype, torch.set_default_dtype, torch.float32),
        "torch's default device": (torch.get_default_device, set_device, torch.device("cpu")),
        "torch's gradient mode": (torch.is_grad_enabled, torch.set_grad_enabled, True),
        "torch's anomaly detection": (torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly, None),
        "torch's number of threads": (torch.get_num_threads, torch.set_num_threads, None),
        "torch's precision of matrix products": (
            torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, None,
        ),
        "torch's determinism": (torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode, 0),
        "torch's flushing of small numbers": (flushes, torch.set_flush_denormal, False),
        "torch's autocast": (
            lambda: tuple(torch.is_autocast_enabled(kind) for kind in ("cpu", "cuda")),
            lambda values: [torch.set_autocast_enabled(*each) for each in zip(("cpu", "cuda"), values, strict=True)],
            (False, False),
        ),
        "torch.backends.mkldnn": attribute(torch.backends.mkldnn, "enabled"),
        "torch.backends.cudnn.enabled": attribute(cudnn, "enabled"),
        "torch.backends.cudnn.benchmark": attribute(cudnn, "benchmark"),
        "torch.backends.cudnn.deterministic": attribute(cudnn, "deterministic"),
        "torch.backends.cudnn.allow_tf32": attribute(cudnn, "allow_tf32"),
        "torch.backends.cuda.matmul.allow_tf32": attribute(matmul, "allow_tf32"),
    }  # fmt: skip


@contextlib.contextmanager
def _switches_kept(changed: list[str]) -> Iterator[None]:
    switches = _switches()
    before = {name: read() for name, (read, _, _) in switches.items()}
    within = {}
    for name, (_, put, normal) in switches.items():
        within[name] = before[name] if normal is None else normal
        if within[name] != before[name]:
            put(normal)
    try:
        yield
    finally:
        for name, (read, put, _) in switches.items():
            try:
                now = read()
            except OSError:  # the working directory is gone
                now = None
            if now != within[name]:
                changed.append(name)
            if now != before[name]:
                put(before[name])


_PACKAGES = ("benchmark", "protocols", "torch.nn", "torch.optim", "torch.autograd", "torch.utils.data")
_MODULES = (
    "torch",
    "torch._tensor",
    "torch.functional",
    "torch.linalg",
    "torch.random",
    "numpy",
    "random",
    "math",
    "json",
)


@contextlib.contextmanager
def _functions_kept(changed: list[str]) -> Iterator[None]:
    """Put back functions, classes and methods that the block replaces in the modules that runs are made of."""
    before = {name: _callables(owner) for name, owner in _owners()}
    owners = dict(_owners())
    try:
        yield
    finally:
        for name, callables in before.items():
            for attribute, value in callables.items():
                if not _same(vars(owners[name]).get(attribute), value):
                    changed.append(f"{name}.{attribute}")
                    setattr(owners[name], attribute, value)
        hooks = sys.modules.get("torch.nn.modules.module")
        for name, value in vars(hooks).items() if hooks is not None else ():
            if name.startswith("_global_") and isinstance(value, dict) and value:
                changed.append(f"hooks of all modules ({name})")
                value.clear()


def _owners() -> Iterator[tuple[str, Any]]:
    """Yield the modules that runs are made of and the classes that they define, by name."""
    for name, module in list(sys.modules.items()):
        if module is not None and (name in _MODULES or name.startswith(tuple(f"{each}." for each in _PACKAGES))):
            yield name, module
            for attribute, value in list(vars(module).items()):
                if isinstance(value, type) and value.__module__ == name:
                    yield f"{name}.{attribute}", value
    if (torch := sys.modules.get("torch")) is not None and hasattr(torch, "Tensor"):
        yield "torch.Tensor", torch.Tensor


def _same(now: Any, before: Any) -> bool:
    """Return whether a function is the earlier one, or one that PyTorch itself lays around that."""
    author = getattr(now, "__globals__", {}).get("__name__", "")
    return now is before or (getattr(now, "__wrapped__", None) is before and author.startswith("torch."))


_CALLABLE = (types.FunctionType, types.BuiltinFunctionType, type, staticmethod, classmethod, property)


def _callables(owner: Any) -> dict[str, Any]:
    return {name: value for name, value in list(vars(owner).items()) if isinstance(value, _CALLABLE)}


@contextlib.contextmanager
def _no_exit() -> Iterator[None]:
    def refuse(status: object = None) -> NoReturn:
        raise Stopped("it ends the process when it is imported")

    before = os._exit, os.abort
    os._exit, os.abort = refuse, refuse
    try:
        yield
    finally:
        os._exit, os.abort = before


@contextlib.contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raise ``Stopped`` in a block that takes longer, again each second, for code that swallows it once."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    def stop(signum: int, frame: object) -> None:
        raise Stopped(f"it does not return from its import within {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
