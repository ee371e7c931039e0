"""Benchmark suite for generalized knowledge distillation.

In a notebook or a program::

    from benchmark import compare, leaderboard, load_records, run

    records = run("fewshot-5way1shot", "refilled", seeds=range(3), settings={"method.margin": 0.1})
    leaderboard(load_records())

``METHODS``, ``PROTOCOLS``, ``DATASETS``, ``BACKBONES`` and ``PRETRAINED`` hold what there is: ``METHODS.names()``,
``METHODS.get("refilled").entry``. Names load on first use.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
