"""Files of weights as they are found: safetensors, and what PyTorch saves. Reading them runs nothing in them."""

from __future__ import annotations

import hashlib
import os
import shlex
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from benchmark.errors import InputError, os_reason
from benchmark.system.files import expand_user

_NAMES = ("state_dict", "model_state_dict", "model", "net", "network", "weights")
"""What checkpoints call the state dict of the network, the usual name first."""


@dataclass(frozen=True)
class WeightsFile:
    """A file of weights: ``.safetensors``, or a state dict that PyTorch saved, alone or within a checkpoint.

    Attributes:
        path: the file.
        sha256: hash of its tensors: names without a prefix that all share, types, shapes and values. The format, the
            header and what else the file holds do not change it.
    """

    path: Path
    sha256: str

    @classmethod
    def at(cls, path: str) -> WeightsFile:
        """Open a file.

        Args:
            path: path of the file; ``~`` is the user's home.

        Raises:
            InputError: the file cannot be read, or holds no weights.
        """
        file = expand_user(path)
        return cls(file, _digest(_read(file)))

    @property
    def is_safetensors(self) -> bool:
        """Whether the file is one of safetensors, which may have a text in its header."""
        return self.path.suffix == ".safetensors"

    def metadata(self) -> dict[str, str]:
        """Return the text in the header of a safetensors file; other files have none.

        Raises:
            InputError: the file has another format.
        """
        if not self.is_safetensors:
            return {}
        try:
            with safetensors.safe_open(self.path, framework="pt") as file:
                return file.metadata() or {}
        except (OSError, SafetensorError) as error:
            raise InputError(f"{self.path} is not a safetensors file ({error})") from None

    def tensors(self) -> dict[str, Tensor]:
        """Return all tensors by name, without a prefix that all names share, such as ``module.``.

        Raises:
            InputError: the file cannot be read, or holds no weights.
        """
        return _read(self.path)

    def fill(self, module: nn.Module, tensors: Mapping[str, Tensor], what: str) -> None:
        """Load tensors into a module.

        Args:
            module: the module.
            tensors: the tensors by name.
            what: name of the module, for the message.

        Raises:
            InputError: names or shapes are not the module's.
        """
        wanted = module.state_dict()
        lacking = [name for name in wanted if name not in tensors and not name.endswith(".num_batches_tracked")]
        beyond = [name for name in tensors if name not in wanted]
        shapes = [name for name in wanted if name in tensors and tensors[name].shape != wanted[name].shape]
        reasons = [f"it lacks {_some(lacking)}"] if lacking else []
        reasons += [f"it has {_some(beyond)}, which that has not"] if beyond else []
        reasons += [
            f"{name} is {'x'.join(map(str, tensors[name].shape))}, not {'x'.join(map(str, wanted[name].shape))}"
            for name in shapes[:1]
        ]
        if reasons:
            raise InputError(f"{self.path} does not hold the weights of {what}: {'; '.join(reasons)}")
        module.load_state_dict({**wanted, **tensors})


def file_digest(path: Path) -> str:
    """Return the sha256 of a file's content.

    Args:
        path: the file.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"cannot read the weights {path} ({os_reason(error)})") from None


def _some(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


def _read(path: Path) -> dict[str, Tensor]:
    try:
        if not path.is_file():
            raise InputError(f"cannot read the weights {path} ({'not a file' if path.exists() else 'No such file'})")
        tensors = safetensors.torch.load_file(path) if path.suffix == ".safetensors" else _read_pytorch(path)
    except SafetensorError as error:
        raise InputError(f"{path} is not a safetensors file ({error})") from None
    except OSError as error:
        raise InputError(f"cannot read the weights {path} ({os_reason(error)})") from None
    return _without_prefix(tensors)


def _digest(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode("utf-8", "surrogatepass"))
        digest.update(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _without_prefix(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Take off what wrappers put before every name: ``module.``, ``_orig_mod.``, ``model.`` and the like."""
    tensors = {name: value for name, value in tensors.items() if name != "n_averaged"}  # of torch's averaged models
    while tensors:
        first = {name.partition(".")[0] for name in tensors}
        if len(first) > 1 or not all("." in name.partition(".")[2] for name in tensors):
            break
        tensors = {name.partition(".")[2]: value for name, value in tensors.items()}
    return tensors


def _read_pytorch(path: Path) -> dict[str, Tensor]:
    """Return the state dict in a file that ``torch.save`` wrote. Only tensors and plain values are made of it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is wrong with the content is told below
            content = _load(path)
    except InputError:
        raise
    except Exception as error:  # a damaged file can raise anything in an unpickler
        reason = str(error).strip().split("\n", 1)[0].split(". ", 1)[0] or type(error).__name__
        raise InputError(f"{path} is not a file that torch.save wrote, or damaged ({reason})") from None
    found = dict(_state_dicts(content))
    if not found:
        raise InputError(f"{path} holds no state dict; write that of the model, model.state_dict(), with torch.save")
    usual = [name for name in _NAMES if name in found]
    if len(found) > 1 and not usual:
        name = next(iter(found))
        convert = (
            f"import torch, safetensors.torch; w = torch.load({str(path)!r}, map_location='cpu', weights_only=True); "
            f"w = {{k: v.clone() for k, v in w[{name!r}].items()}}; "
            "safetensors.torch.save_file(w, 'teacher.safetensors')"
        )
        raise InputError(
            f"{path} holds several networks ({', '.join(found)}); write one of them to a file of its own: "
            f"python -c {shlex.quote(convert)}"
        )
    tensors = found[usual[0]] if usual else next(iter(found.values()))
    size = path.stat().st_size
    if any(value.device.type != "cpu" or value.layout != torch.strided for value in tensors.values()):
        raise InputError(f"{path} holds tensors that are not dense; save its state dict from dense ones")
    if any(value.numel() * value.element_size() > size for value in tensors.values()):
        raise InputError(f"{path} holds tensors that are larger than the file: it is not read")
    return tensors


class _Ignored:
    """Stands for every object of a checkpoint that is no tensor and no plain value. It does nothing."""

    def __init__(self, *values: object, **more: object) -> None: ...

    def __setstate__(self, state: object) -> None: ...


def _load(path: Path) -> Any:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if sum(part.file_size for part in archive.infolist()) > 2 * os.path.getsize(path):
                raise InputError(f"{path} unpacks to much more than its size: it is not read")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of an object that PyTorch does not make of files
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path) if zipfile.is_zipfile(path) else []
        if not names:
            raise error from None
        others: Any = [(_Ignored, name) for name in names]
        with torch.serialization.safe_globals(others):
            return torch.load(path, map_location="cpu", weights_only=True)


def _state_dicts(content: Any, name: str = "", depth: int = 3) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Yield the state dicts within plain containers, with the name under which each is found."""
    if not isinstance(content, Mapping) or not depth:
        return
    tensors = {key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, Tensor)}
    if any("." in key for key in tensors):
        yield name, tensors
        return
    for key, value in content.items():
        yield from _state_dicts(value, str(key), depth - 1)
