"""A file of random Inception weights, in place of the published ones: neither agreement nor speed depend on them."""

from __future__ import annotations

from pathlib import Path

import torch

from tests.random_inception import random_state


def save(path: Path) -> Path:
    torch.save(random_state(), path)
    return path
