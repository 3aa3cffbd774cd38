"""The reference ``prose``: a novel in the public domain, with four chapters held out (``prose/README.md``)."""

from __future__ import annotations

from pathlib import Path

from evalsvc.plugins import Reference
from evalsvc.sample_sets import open_samples

PROSE = Path(__file__).with_name("prose")


def prose_reference() -> Reference:
    """The plug-in ``prose``: 323 documents to train on, 69 held out."""
    return Reference("prose", open_samples(PROSE / "train.txt"), open_samples(PROSE / "heldout.txt"))
