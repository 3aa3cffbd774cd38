"""Boxes of objects in images."""

from __future__ import annotations

from typing import NamedTuple


class Box(NamedTuple):
    """A box in pixels from the upper left corner of an image."""

    left: float
    top: float
    right: float
    bottom: float
