from __future__ import annotations

import pytest

from benchmark.system.progress import Event, InterruptibleProgress, Progress, Silent


def report(progress: Progress) -> None:
    """Report one event of each kind."""
    progress.say("a line")
    progress.begin("training", 3)
    progress.advance(1, "ce 1.5")
    progress.end()


def test_progress_emits_one_event_per_call() -> None:
    direct: list[Event] = []
    report(Progress(direct.append))
    assert direct == [
        Event("message", "a line"),
        Event("started", "training", steps=3),
        Event("advanced", "ce 1.5", done=1),
        Event("ended"),
    ]
    wrapped: list[Event] = []
    report(InterruptibleProgress(Progress(wrapped.append), stopped=lambda: False))
    assert wrapped == direct
    report(Silent())


def test_interruptible_progress_raises_at_the_next_step() -> None:
    stops: list[int] = []
    events: list[Event] = []
    progress = InterruptibleProgress(Progress(events.append), stopped=lambda: bool(stops))
    progress.begin("training", 3)
    progress.advance(1, "")
    stops.append(15)
    progress.say("messages still pass")
    with pytest.raises(KeyboardInterrupt):
        progress.advance(2, "")
    with pytest.raises(KeyboardInterrupt):
        progress.begin("another", 1)
    progress.end()
    assert [event.kind for event in events] == ["started", "advanced", "message", "ended"]


def test_silent_hears_only_what_a_subclass_overrides() -> None:
    class Listener(Silent):
        def __init__(self) -> None:
            self.lines: list[str] = []

        def say(self, message: str) -> None:
            self.lines.append(message)

    listener = Listener()
    report(InterruptibleProgress(listener, stopped=lambda: False))
    assert listener.lines == ["a line"]
