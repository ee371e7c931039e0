"""learn2learn: its methods for episodes, task sets of the suite's episodes, and its data sets as ``ImageSet``."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
