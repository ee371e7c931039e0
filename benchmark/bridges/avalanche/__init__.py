"""Avalanche: its strategies as methods, the suite's methods as its plugins, protocols as its benchmarks."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
