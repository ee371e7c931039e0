"""The cost of the losses, forward and backward, against their plain forms in the same run.

    pytest -o addopts= -s tests/benchmarks/test_losses_cost.py

Tests compare ratios, not seconds. Both sides run in turn on the same machine, on one thread, because on a busy machine
threads wait for each other. Memory is the growth of the high-water mark of a fresh process.
"""

import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmark.losses import (
    crd_log_normalizer,
    crd_loss,
    negative_pool,
    rkd_angle_loss,
    sample_negatives,
    tuple_matching_loss,
)

Loss = Callable[..., Tensor]
Batch = tuple[Tensor, ...]


def tuple_batch(size: int, classes: int) -> Batch:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(classes, (size,), generator=generator)
    return torch.randn(size, 128, generator=generator), torch.randn(size, 128, generator=generator), labels


def rkd_batch(size: int, width: int) -> Batch:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(size, width, generator=generator), torch.randn(size, width, generator=generator)


def distances(x: Tensor) -> Tensor:
    unit = F.normalize(x, dim=1)
    return (2 - 2 * unit @ unit.T).clamp_min(1e-12).sqrt()


def semi_hard(student: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return anchors (T,), positives (T,) and a mask (T, B) of their semi-hard negatives, for T tuples."""
    same = labels[:, None] == labels
    anchor, positive = same.clone().fill_diagonal_(False).nonzero(as_tuple=True)
    gap = student.detach()[anchor] - student.detach()[anchor, positive][:, None]
    negatives = (gap > 0) & (gap <= 0.2) & ~same[anchor]
    has_negative = negatives.any(1)
    return anchor[has_negative], positive[has_negative], negatives[has_negative]


def looped_tuples(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    """A Python loop over tuples; only the distances are computed together."""
    d_student, d_teacher = distances(student), distances(teacher)
    terms = []
    for a, p, mask in zip(*semi_hard(d_student, labels), strict=True):
        columns = torch.cat((p[None], mask.nonzero().flatten()))
        log_student = F.log_softmax(-d_student[a][columns] / 4, 0)
        log_teacher = F.log_softmax(-d_teacher[a][columns] / 4, 0)
        terms.append((log_teacher.exp() * (log_teacher - log_student)).sum())
    return 1000 * torch.stack(terms).mean()


def dense_tuples(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    """Masked softmaxes over (tuples, B)."""
    d_student, d_teacher = distances(student), distances(teacher)
    anchor, positive, mask = semi_hard(d_student, labels)
    outside = ~mask.scatter(1, positive[:, None], True)
    log_student = (-d_student[anchor] / 4).masked_fill(outside, -torch.inf).log_softmax(1).masked_fill(outside, 0)
    log_teacher = (-d_teacher[anchor] / 4).masked_fill(outside, -torch.inf).log_softmax(1).masked_fill(outside, 0)
    return 1000 * (log_teacher.exp() * (log_teacher - log_student)).sum(1).mean()


def naive_angle(student: Tensor, teacher: Tensor) -> Tensor:
    """All (B, B, C) differences and all (B, B, B) cosines at once."""

    def cosines(x: Tensor) -> Tensor:
        directions = F.normalize(x[None] - x[:, None], dim=2)
        return torch.bmm(directions, directions.transpose(1, 2)).view(-1)

    with torch.no_grad():
        want = cosines(teacher)
    return F.smooth_l1_loss(cosines(student), want)


def step(loss: Loss, batch: Batch) -> tuple[Tensor, Tensor]:
    student = batch[0].clone().requires_grad_()
    value = loss(student, *batch[1:])
    (gradient,) = torch.autograd.grad(value, student)
    return value.detach(), gradient


def seconds(loss: Loss, batch: Batch, rounds: int) -> list[float]:
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        step(loss, batch)
        times.append(time.perf_counter() - start)
    return times


def slower(plain: Loss, ours: Loss, batch: Batch, rounds: int = 5) -> tuple[float, float, float]:
    """Return the ratio of median seconds and both medians. The sides take turns, so a busy machine slows both."""
    step(plain, batch), step(ours, batch)
    pairs = [(seconds(plain, batch, 1)[0], seconds(ours, batch, 1)[0]) for _ in range(rounds)]
    a, b = (statistics.median(side) for side in zip(*pairs, strict=True))
    return a / b, a, b


def _status(field: str) -> float:
    """Return the megabytes in a field of /proc/self/status."""
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith(field))
    return int(line.split()[1]) / 1024


def _peak(loss: Loss, warm_up: Batch, batch: Batch, queue: "multiprocessing.Queue[float]") -> None:
    torch.set_num_threads(1)
    step(loss, warm_up)
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    step(loss, batch)
    queue.put(_status("VmHWM") - before)


def megabytes(loss: Loss, warm_up: Batch, batch: Batch) -> float:
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=_peak, args=(loss, warm_up, batch, queue))
    process.start()
    process.join()
    assert process.exitcode == 0
    return queue.get()


def report(line: str) -> None:
    sys.stdout.write(line + "\n")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


linux = pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="peak memory is read from /proc")


@pytest.mark.parametrize("classes", [20, 50])
def test_tuples_at_256_beat_the_loop(classes):
    batch = tuple_batch(256, classes)
    torch.testing.assert_close(step(tuple_matching_loss, batch), step(looped_tuples, batch), rtol=1e-3, atol=1e-4)
    ratio, loop, ours = slower(looped_tuples, tuple_matching_loss, batch, rounds=3)
    report(f"tuples B=256 classes={classes}: loop {loop:.3f} s, ours {ours * 1e3:.1f} ms, ratio {ratio:.0f}")
    assert ratio > 20


@linux
@pytest.mark.parametrize("classes", [10, 50, 100])
def test_tuples_at_1024_beat_the_dense_mask(classes):
    batch, warm_up = tuple_batch(1024, classes), tuple_batch(48, 5)
    torch.testing.assert_close(step(tuple_matching_loss, batch), step(dense_tuples, batch), rtol=1e-3, atol=1e-4)
    ratio, dense, ours = slower(dense_tuples, tuple_matching_loss, batch, rounds=1 if classes == 10 else 5)
    dense_mb, ours_mb = (megabytes(loss, warm_up, batch) for loss in (dense_tuples, tuple_matching_loss))
    report(
        f"tuples B=1024 classes={classes}: time {dense * 1e3:.0f} / {ours * 1e3:.0f} ms, ratio {ratio:.1f}; "
        f"memory {dense_mb:.0f} / {ours_mb:.0f} MB, ratio {dense_mb / ours_mb:.1f}"
    )
    if classes <= 50:
        assert ratio > 5
        assert dense_mb / ours_mb > 5


@linux
def test_angle_at_512_is_lean():
    batch, warm_up = rkd_batch(512, 512), rkd_batch(32, 32)
    torch.testing.assert_close(step(rkd_angle_loss, batch), step(naive_angle, batch), rtol=1e-4, atol=1e-8)
    ratio, naive, ours = slower(naive_angle, rkd_angle_loss, batch, rounds=1)
    naive_mb, ours_mb = (megabytes(loss, warm_up, batch) for loss in (naive_angle, rkd_angle_loss))
    report(
        f"rkd angle B=C=512: time {naive:.2f} / {ours:.2f} s, ratio {ratio:.1f}; "
        f"memory {naive_mb:.0f} / {ours_mb:.0f} MB, share {ours_mb / naive_mb:.3f}"
    )
    assert ours_mb / naive_mb < 0.15


def test_crd_negatives_are_a_small_part_of_its_loss():
    generator = torch.Generator().manual_seed(0)
    memory = F.normalize(torch.randn(2, 50_000, 128, generator=generator), dim=2)
    student, teacher = F.normalize(torch.randn(2, 64, 128, generator=generator), dim=2)
    labels = torch.arange(50_000) % 100
    pool, rows = negative_pool(labels, 100), torch.arange(64)

    def sampling() -> Tensor:
        return sample_negatives(pool, labels[:64], 16384)

    def gathered(anchor: Tensor, negatives: Tensor, constant: Tensor) -> Tensor:
        """The same loss from (B, M, C) gathered rows."""
        total = anchor.new_zeros(())
        columns = torch.cat((rows[:, None], negatives), 1)
        for side, bank, offset in zip((anchor, teacher), memory.flip(0), constant, strict=True):
            scores = torch.bmm(bank[columns.view(-1)].view(64, -1, 128), side[:, :, None])[..., 0] / 0.07
            logits = scores - offset - torch.log(torch.tensor(16384.0))
            total = total - (F.logsigmoid(logits[:, 0]) + F.logsigmoid(-logits[:, 1:]).sum(1)).mean()
        return total

    negatives = sampling()
    constant = crd_log_normalizer(student, teacher, *memory, rows, negatives)

    def ours(anchor: Tensor, negatives: Tensor, constant: Tensor) -> Tensor:
        return crd_loss(anchor, teacher, *memory, rows, negatives, constant)

    batch = (student, negatives, constant)
    torch.testing.assert_close(step(ours, batch), step(gathered, batch), rtol=1e-4, atol=1e-6)
    ratio, plain, fast = slower(gathered, ours, batch, rounds=3)
    start = time.perf_counter()
    sampling()
    report(
        f"crd B=64 M=16384: gathered {plain * 1e3:.0f} ms, ours {fast * 1e3:.0f} ms, ratio {ratio:.1f}; "
        f"sampling {(time.perf_counter() - start) * 1e3:.0f} ms"
    )
    assert ratio > 1
