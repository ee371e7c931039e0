"""Images in memory, their classes, splits and groups; episodes, batches and augmentation. Names load on first use."""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
