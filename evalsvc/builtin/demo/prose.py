"""The references ``prose``, a novel in the public domain (``prose/README.md``), and ``prose-tiny``, a part of it."""

from __future__ import annotations

from pathlib import Path

from evalsvc.core.digests import digest_json
from evalsvc.inputs.sample_sets import open_samples
from evalsvc.plugins.interfaces import Modality, Reference, SampleSet
from evalsvc.plugins.samples import Samples, Texts

PROSE = Path(__file__).with_name("prose")
EVERY = 3


def prose_reference() -> Reference:
    """The plug-in ``prose``: 323 training documents and 69 held-out documents."""
    return Reference("prose", open_samples(PROSE / "train.txt"), open_samples(PROSE / "heldout.txt"))


def prose_tiny_reference() -> Reference:
    """The plug-in ``prose-tiny``: the same training documents, every third of the held-out documents."""
    prose = prose_reference()
    assert prose.heldout is not None
    return Reference("prose-tiny", prose.train, _EveryThird(prose.heldout))


class _EveryThird:
    """Documents 0, 3, 6, ... of a set."""

    modality: Modality = "text"

    def __init__(self, whole: SampleSet) -> None:
        documents = whole.read(0, len(whole))
        assert isinstance(documents, Texts)
        self._whole, self._items = whole, documents.items[::EVERY]

    def __len__(self) -> int:
        return len(self._items)

    def digest(self) -> str:
        """sha256 of the whole set and of the selection."""
        return digest_json([self._whole.digest(), EVERY])

    def read(self, start: int, stop: int) -> Samples:
        """Documents ``start`` to ``stop``."""
        return Texts(self._items[start:stop])
