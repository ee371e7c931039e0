"""Embeddings of crops by a frozen teacher, kept in memory and in files."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from benchmark.backbones.network import Network, Outputs, at_least_float32
from benchmark.data.augmentation import Crops, ImageLoader, Normalisation
from benchmark.data.image_set import ImageSet, IntArray
from benchmark.errors import InputError, os_reason
from benchmark.hashing import content_key
from benchmark.system.files import write_atomically
from benchmark.system.progress import Progress
from benchmark.training.cost_clock import CostClock
from benchmark.training.device import Device

VERSION = 2
"""Rises when the same crop and teacher give another embedding than before."""

_BATCH_SIZE = 16
_MAX_PADDING = 64
_KEYS_PER_IMAGE = (2 * _MAX_PADDING + 1) ** 2 * 2
_SHOWN_FROM = 256


class EmbeddingCache:
    """Cache of the embeddings of a frozen network, in memory and in the files of a folder that runs share.

    An entry is an image of ``data``, the position of its crop, and whether it is mirrored: with four pixels of padding,
    an image has 162. Cached values equal recomputed values bit for bit. Crops are computed in batches of one size; if a
    trial run shows that batching changes the result, they are computed one by one. It is safe to delete the files at
    any time.

    Attributes:
        data: Images of the cache.
        misses: Number of crops computed.
        hits: Number of crops found.
    """

    def __init__(
        self, network: Network, key: Any, normalisation: Normalisation, data: ImageSet, device: Device, root: Path,
        progress: Progress, size: int = 0, clock: CostClock | None = None, images: IntArray | None = None,
    ) -> None:  # fmt: skip
        """Open the files of a network; they are read on first use.

        Args:
            network: Network in eval mode.
            key: JSON value that identifies the network; device, precision and data are added to it.
            normalisation: Input statistics of the network.
            data: Images.
            device: Device and precision.
            root: Folder of all caches.
            progress: Receives the number of computed crops.
            size: Side length of a crop in pixels (0: the whole image).
            clock: Clock that gets the seconds that a remembered crop took when it was computed.
            images: Indices of the only images that will be asked for; None reads the crops of all from the files.
        """
        self.data = data
        self.misses = self.hits = 0
        self._size = size
        self._network = network
        self._normalisation = normalisation
        self._device = device
        self._progress = progress
        conditions = [device.torch.type, device.precision, torch.__version__, torch.backends.cpu.get_cpu_capability()]
        crop_size = [size] if size else []
        identity = [key, data.fingerprint, data.background, conditions, VERSION, *crop_size]
        self._folder = root / content_key(identity)[:16]
        self._cache: dict[int, Tensor] | None = None
        self._images = images
        self._clock = CostClock() if clock is None else clock
        self._seconds, self._timed = 0.0, 0
        self._unsaved: list[int] = []
        self._batch_size = 0

    def outputs(self, images: IntArray, crops: Crops) -> Outputs:
        """Return embedding and logits of a crop of each image, on the device and without stages.

        Args:
            images: B indices into the data.
            crops: B crops.
        """
        embedding = self.embed(images, crops)
        return Outputs({}, embedding, self._network.head(embedding))

    def embed(self, images: IntArray, crops: Crops | None = None) -> Tensor:
        """Return the embedding of a crop of each image.

        Args:
            images: B indices into the data.
            crops: B crops; by default the centres.

        Returns:
            B x D float32 on the device.

        Raises:
            InputError: If a file of the cache is damaged.
        """
        crops = Crops.plain(len(images)) if crops is None else crops
        cache = self._read() if self._cache is None else self._cache
        keys = _keys(images, crops)
        missing = {key: position for position, key in enumerate(keys) if key not in cache}
        if missing:
            started = time.perf_counter()
            self._compute(images, crops, missing, cache)
            self._seconds += time.perf_counter() - started
            self._timed += len(missing)
        self._clock.seconds_saved += (len(keys) - len(missing)) * self._seconds / max(1, self._timed)
        self.misses += len(missing)
        self.hits += len(keys) - len(missing)
        return torch.stack([cache[key] for key in keys]).to(self._device.torch)

    def facts(self) -> dict[str, int]:
        """Return the number of misses and hits under the names of the record."""
        return {"views_computed": self.misses, "views_remembered": self.hits}

    def save(self) -> None:
        """Write new embeddings to a file named by its content.

        Raises:
            InputError: If the folder cannot be written.
        """
        if not self._unsaved or self._cache is None:
            return
        keys = sorted(self._unsaved)
        content = safetensors.torch.save({
            "views": torch.tensor(keys), "embeddings": torch.stack([self._cache[key] for key in keys]),
            "seconds": torch.tensor(len(keys) * self._seconds / max(1, self._timed)),
        })  # fmt: skip
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_atomically(self._folder / f"{hashlib.sha256(content).hexdigest()}.safetensors", content)
        except OSError as error:
            raise InputError(
                f"cannot keep the teacher's views in {self._folder} ({os_reason(error)}); "
                "choose another folder with --data"
            ) from None
        self._unsaved = []

    def _read(self) -> dict[int, Tensor]:
        cache: dict[int, Tensor] = {}
        for path in sorted(self._folder.glob("*.safetensors")):
            try:
                content = path.read_bytes()
                if hashlib.sha256(content).hexdigest() != path.stem:
                    raise ValueError("its checksum is not its name")
                tensors = safetensors.torch.load(content)
                views, embeddings = tensors["views"], tensors["embeddings"]
                if self._images is not None:
                    chosen = torch.from_numpy(np.isin(views.numpy() // _KEYS_PER_IMAGE, self._images))
                    views, embeddings = views[chosen], embeddings[chosen]
                cache |= zip(views.tolist(), embeddings.unbind(), strict=True)
                self._seconds += float(tensors["seconds"])
                self._timed += len(tensors["views"])
            except (OSError, ValueError, KeyError, SafetensorError) as error:
                raise InputError(f"cached views {path} are damaged ({error}); remove that file") from None
        self._cache = cache
        return cache

    def _compute(self, images: IntArray, crops: Crops, missing: dict[int, int], cache: dict[int, Tensor]) -> None:
        keys, positions = list(missing), np.array(list(missing.values()))
        padding = max(int(offsets.abs().max()) for offsets in (crops.rows, crops.columns))
        if not self._batch_size:
            self._batch_size = _BATCH_SIZE if self._batching_is_exact() else 1
        size, device = self._batch_size, self._device.torch
        shown = len(keys) >= _SHOWN_FROM
        if shown:
            self._progress.begin("teacher's embeddings", len(keys))
        try:
            for start in range(0, len(keys), size):
                batch = positions[start : start + size]
                filled = np.resize(batch, size)  # the last batch is filled with its own crops
                loader = ImageLoader(
                    self.data, images[filled], self._normalisation, padding=padding, size=self._size, device=device
                )
                pixels = loader.crop(torch.arange(size, device=device), Crops(*(part[filled] for part in crops)))
                embeddings = self._forward(pixels)[: len(batch)].cpu()
                cache.update(zip(keys[start : start + size], embeddings.unbind(), strict=True))
                if shown:
                    self._progress.advance(start + len(batch), "")
        finally:
            if shown:
                self._progress.end()
        self._unsaved += keys

    def _forward(self, pixels: Tensor) -> Tensor:
        with torch.no_grad(), self._device.autocast():
            return at_least_float32(self._network.embed(pixels))

    def _batching_is_exact(self) -> bool:
        """Return whether neither the position in a batch nor the other images change an embedding."""
        height, width, channels = self.data.images.shape[1:]
        shape = (_BATCH_SIZE, self._size or height, self._size or width, channels)
        pixels = torch.rand(shape, generator=torch.Generator().manual_seed(0)).permute(0, 3, 1, 2)
        pixels = pixels.to(self._device.torch)
        expected = self._forward(pixels)
        reversed_ = self._forward(pixels.flip(0)).flip(0)
        thinned = self._forward(
            pixels * (torch.arange(_BATCH_SIZE, device=pixels.device) % 3 == 0)[:, None, None, None]
        )
        return torch.equal(expected, reversed_) and torch.equal(expected[::3], thinned[::3])


def _keys(images: IntArray, crops: Crops) -> list[int]:
    """Return one number for each crop."""
    width = 2 * _MAX_PADDING + 1
    rows, columns, mirrored = (part.numpy() for part in crops)
    keys: IntArray = ((images * width + rows + _MAX_PADDING) * width + columns + _MAX_PADDING) * 2 + mirrored
    return list(keys.tolist())
