from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator

import pytest

from benchmark.system import interrupts


@pytest.fixture(autouse=True)
def _handled(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(interrupts, "_signals", [])
    before = signal.signal(signal.SIGUSR1, interrupts.handle_stop_signal)
    yield
    signal.signal(signal.SIGUSR1, before)


def test_stop_signal_raises_and_is_remembered() -> None:
    assert not interrupts.stop_requested()
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGUSR1)
    assert interrupts.stop_requested()


def write(done: list[str]) -> None:
    with interrupts.defer_signals():
        with interrupts.defer_signals():
            signal.raise_signal(signal.SIGUSR1)
        done.append("all of it")


def test_defer_signals_finishes_nested_blocks_first() -> None:
    done: list[str] = []
    with interrupts.defer_signals():
        done.append("no signal")
    with pytest.raises(KeyboardInterrupt):
        write(done)
    assert done == ["no signal", "all of it"]


def test_first_signal_that_is_put_off_says_so_at_once(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with contextlib.suppress(KeyboardInterrupt), interrupts.defer_signals():
        signal.raise_signal(signal.SIGUSR1)
        said = capfd.readouterr().err
    assert said == "\nstopping after this step; again to stop now\n"
    interrupts._signals.clear()
    monkeypatch.setattr(interrupts, "_announce", True)
    interrupts.stop_silently()
    with contextlib.suppress(KeyboardInterrupt), interrupts.defer_signals():
        signal.raise_signal(signal.SIGUSR1)
    assert capfd.readouterr().err == ""


def test_defer_signals_does_not_defer_a_second_signal() -> None:
    done: list[str] = []
    with interrupts.defer_signals():
        signal.raise_signal(signal.SIGUSR1)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGUSR1)
        done.append("within")
        interrupts._signals.clear()
    assert done == ["within"]
