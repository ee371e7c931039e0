"""learn2learn: its methods for episodes, and data sets as its task sets and back. Loads on first use."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
