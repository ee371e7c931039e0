from __future__ import annotations

import platform
import subprocess
import sys

import pytest
import torch

from benchmark.errors import InputError
from benchmark.training import select_device


def test_select_device_by_name_and_precision() -> None:
    assert select_device("cpu", "float32").precision == "float32"
    assert select_device("cpu", "bfloat16").precision == "bfloat16"
    assert select_device("cpu").torch == torch.device("cpu")
    with pytest.raises(InputError, match="unknown device"):
        select_device("tpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_missing_device_raises() -> None:
    with pytest.raises(InputError, match="not available"):
        select_device("cuda")
    assert select_device("auto").torch.type != "cuda"


def test_precision_is_float32_on_every_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    assert select_device("cpu").precision == "float32"


def test_float32_on_a_gpu_is_not_the_shorter_tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    select_device("cuda")
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32


def test_autocast_reaches_the_networks() -> None:
    layer = torch.nn.Linear(4, 4)
    with select_device("cpu", "bfloat16").autocast():
        assert layer(torch.ones(1, 4)).dtype == torch.bfloat16
    with select_device("cpu", "float16").autocast():
        assert layer(torch.ones(1, 4)).dtype == torch.float16
    with select_device("cpu", "float32").autocast():
        assert layer(torch.ones(1, 4)).dtype == torch.float32


def test_gradients_are_scaled_in_float16_alone() -> None:
    enabled = {name: select_device("cpu", name).scaler().is_enabled() for name in ("float32", "bfloat16", "float16")}
    assert enabled == {"float32": False, "bfloat16": False, "float16": True}


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the allocator is glibc's")
def test_cpu_device_keeps_freed_memory() -> None:
    """Freed blocks of a size that malloc otherwise unmaps are used again without page faults."""
    code = (
        "import resource, sys, torch\n"
        "from benchmark.training import select_device\n"
        "if sys.argv[1] == 'selected': select_device('cpu')\n"
        "torch.set_num_threads(1)\n"
        "def touch():\n"
        "    a = torch.ones(20 << 20); b = torch.ones(20 << 20); del a, b\n"
        "for _ in range(12): touch()\n"  # until small blocks have settled between the large ones
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "touch(); touch()\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)\n"
    )
    faults = {
        how: int(subprocess.run([sys.executable, "-c", code, how], check=True, capture_output=True).stdout)
        for how in ("selected", "not")
    }
    assert faults["selected"] < faults["not"] / 4
