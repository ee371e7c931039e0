"""Distillation losses: pure functions on tensors, loaded on first use; importing the package does not import torch."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
