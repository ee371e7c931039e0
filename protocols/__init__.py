"""Protocols: one file per family."""

from __future__ import annotations

from benchmark.registry import Registry
from protocols.base import Protocol, Result, Score

PROTOCOLS: Registry[type[Protocol]] = Registry(
    "protocol", package="protocols", group="benchmark.protocols", base=Protocol
)

__all__ = ["PROTOCOLS", "Protocol", "Result", "Score"]
