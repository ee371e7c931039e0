from __future__ import annotations

import pytest

from benchmark.system.progress import InterruptibleProgress, Silent


def test_a_swallowed_interrupt_is_heeded_at_the_next_step() -> None:
    asked: list[int] = []
    progress = InterruptibleProgress(Silent(), stopped=lambda: bool(asked))
    progress.begin("training", 3)
    progress.advance(1, "")
    asked.append(15)
    progress.say("still heard")
    with pytest.raises(KeyboardInterrupt):
        progress.advance(2, "")
    with pytest.raises(KeyboardInterrupt):
        progress.begin("another", 1)
    progress.end()
