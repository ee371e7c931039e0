"""What a frozen teacher makes of a view of an image, computed once and kept."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from benchmark.backbones.network import Network, Outputs
from benchmark.data.augmentation import Crops, ImageLoader, Normalisation
from benchmark.data.image_set import ImageSet, IntArray
from benchmark.errors import InputError
from benchmark.hashing import content_key
from benchmark.system.files import write_atomically
from benchmark.system.progress import Progress
from benchmark.training.device import Device

VERSION = 1
"""Rises when the same view of the same teacher gives another embedding than before."""

_TOGETHER = 16
_MOST_PADDING = 64
_SHOWN_FROM = 256


class EmbeddingCache:
    """Embeddings of views by a frozen network, in memory and in the files of a folder, which runs share.

    A view is an image of ``data``, where its crop begins, and whether it is mirrored: with four pixels of padding an
    image has 162. What is remembered is what would be computed, bit for bit, whatever was asked before: views are
    computed in batches of one size, and one by one where a first trial shows that company changes a result.

    ``key``: what identifies the network; device, precision and data are added to it. ``size``: pixels of a side of a
    view (0: of the image). The files may go at any time.
    """

    def __init__(
        self, network: Network, key: Any, normalisation: Normalisation, data: ImageSet, device: Device, root: Path,
        progress: Progress, size: int = 0,
    ) -> None:  # fmt: skip
        self.data = data
        self._size = size
        self.computed = self.remembered = 0
        self._network = network
        self._normalisation = normalisation
        self._device = device
        self._progress = progress
        where = [device.torch.type, device.precision, torch.__version__, torch.backends.cpu.get_cpu_capability()]
        seen = [size] if size else []
        self._folder = root / content_key([key, data.fingerprint, data.background, where, VERSION, *seen])[:16]
        self._known: dict[int, Tensor] | None = None
        self._unsaved: list[int] = []
        self._together = 0

    def outputs(self, images: IntArray, views: Crops) -> Outputs:
        """Embedding and logits of a view of each image, by index into the data, on the device; no stages."""
        embedding = self.embed(images, views)
        return Outputs({}, embedding, self._network.head(embedding))

    def embed(self, images: IntArray, views: Crops | None = None) -> Tensor:
        """Embeddings of a view of each image, of the images as they are by default: B x D float32 on the device."""
        views = Crops.plain(len(images)) if views is None else views
        known = self._read() if self._known is None else self._known
        keys = _keys(images, views)
        missing = {key: position for position, key in enumerate(keys) if key not in known}
        if missing:
            self._compute(images, views, missing, known)
        self.computed += len(missing)
        self.remembered += len(keys) - len(missing)
        return torch.stack([known[key] for key in keys]).to(self._device.torch)

    def facts(self) -> dict[str, int]:
        """How many views were computed and how many remembered, for the record."""
        return {"views_computed": self.computed, "views_remembered": self.remembered}

    def save(self) -> None:
        """Write what is new to a file of its own, named by its content; nothing new, no file."""
        if not self._unsaved or self._known is None:
            return
        keys = sorted(self._unsaved)
        content = safetensors.torch.save({
            "views": torch.tensor(keys), "embeddings": torch.stack([self._known[key] for key in keys])
        })  # fmt: skip
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_atomically(self._folder / f"{hashlib.sha256(content).hexdigest()}.safetensors", content)
        except OSError as error:
            raise InputError(
                f"cannot keep the teacher's views in {self._folder} ({error.strerror or error}); "
                "choose another folder with --data"
            ) from None
        self._unsaved = []

    def _read(self) -> dict[int, Tensor]:
        known: dict[int, Tensor] = {}
        for path in sorted(self._folder.glob("*.safetensors")):
            try:
                content = path.read_bytes()
                if hashlib.sha256(content).hexdigest() != path.stem:
                    raise ValueError("its checksum is not its name")
                part = safetensors.torch.load(content)
                known |= zip(part["views"].tolist(), part["embeddings"].unbind(), strict=True)
            except (OSError, ValueError, KeyError, SafetensorError) as error:
                raise InputError(f"remembered views {path} are damaged ({error}); remove that file") from None
        self._known = known
        return known

    def _compute(self, images: IntArray, views: Crops, missing: dict[int, int], known: dict[int, Tensor]) -> None:
        keys, positions = list(missing), np.array(list(missing.values()))
        padding = max(int(part.abs().max()) for part in (views.rows, views.columns))
        size = self._together = self._together or self._try_company()
        shown = len(keys) >= _SHOWN_FROM
        if shown:
            self._progress.begin("teacher's embeddings", len(keys))
        try:
            for start in range(0, len(keys), size):
                own = positions[start : start + size]
                chosen = np.resize(own, size)  # the last batch is filled up with its own views again
                pixels = ImageLoader(
                    self.data,
                    images[chosen],
                    self._normalisation,
                    padding=padding,
                    size=self._size,
                    device=self._device.torch,
                ).crop(torch.arange(size, device=self._device.torch), Crops(*(part[chosen] for part in views)))
                rows = self._forward(pixels)[: len(own)].cpu()
                known.update(zip(keys[start : start + size], rows.unbind(), strict=True))
                if shown:
                    self._progress.advance(start + len(own), "")
        finally:
            if shown:
                self._progress.end()
        self._unsaved += keys

    def _forward(self, pixels: Tensor) -> Tensor:
        with torch.no_grad(), self._device.autocast():
            return self._network.embed(pixels).float()

    def _try_company(self) -> int:
        """How many views to compute at a time: more than one where place and neighbours change nothing."""
        height, width, channels = self.data.images.shape[1:]
        shape = (_TOGETHER, self._size or height, self._size or width, channels)
        pixels = torch.rand(shape, generator=torch.Generator().manual_seed(0)).permute(0, 3, 1, 2)
        pixels = pixels.to(self._device.torch)
        expected = self._forward(pixels)
        turned = self._forward(pixels.flip(0)).flip(0)
        thinned = self._forward(pixels * (torch.arange(_TOGETHER, device=pixels.device) % 3 == 0)[:, None, None, None])
        return _TOGETHER if torch.equal(expected, turned) and torch.equal(expected[::3], thinned[::3]) else 1


def _keys(images: IntArray, views: Crops) -> list[int]:
    """One number for each view."""
    width = 2 * _MOST_PADDING + 1
    rows, columns, mirrored = (part.numpy() for part in views)
    keys: IntArray = ((images * width + rows + _MOST_PADDING) * width + columns + _MOST_PADDING) * 2 + mirrored
    return list(keys.tolist())
