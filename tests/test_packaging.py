from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path


def test_dependencies_are_installed() -> None:
    for package in ("torch", "torchvision", "learn2learn", "avalanche-lib", "pandas", "scipy", "matplotlib"):
        assert importlib.metadata.version(package)


def test_import_of_benchmark_is_light() -> None:
    program = (
        "import sys, benchmark, protocols\n"
        "heavy = {'torch', 'learn2learn', 'avalanche', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_package_neither_writes_nor_loads_pickles() -> None:
    """Weights are safetensors, records JSON, arrays npz without pickles; others' weights are read as tensors alone.

    Pickles of others go through one reader.
    """
    root = Path(__file__).parent.parent
    for path in [*(root / "benchmark").rglob("*.py"), *(root / "protocols").rglob("*.py")]:
        text = path.read_text()
        if path.name == "unpickling.py":
            assert not re.search(r"pickle\.loads?\(", text)
            continue
        assert not re.search(r"import pickle|(?<!safetensors\.)torch\.save\(|allow_pickle=True", text), path
        assert not re.search(r"(?<!safetensors\.)torch\.load\((?!.*weights_only=True)", text), path
