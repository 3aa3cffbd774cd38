"""Cached features of references: listing and removal."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import select

from evalsvc.inputs.reference_arrays import FOLDER, lock_of
from evalsvc.inputs.references import open_reference
from evalsvc.plugins.registry import PluginKind, Plugins
from evalsvc.store.artifacts import Artifacts
from evalsvc.store.session import Database
from evalsvc.store.tables import Reference


@dataclass(frozen=True)
class Entry:
    """All arrays of one extractor on one backend for one split of a reference, or a file of its first samples.

    The name of the reference is empty if it no longer exists.
    """

    key: str
    digest: str
    extractor: str
    reference: str
    split: str
    files: int
    bytes: int


def entries(artifacts: Artifacts, database: Database, plugins: Plugins) -> list[Entry]:
    """All entries of the cache, by reference and extractor."""
    owners = _owners(database, plugins)
    folders: dict[str, list[int]] = {}
    for key, size in artifacts.sizes(FOLDER).items():
        folders.setdefault("/".join(key.split("/")[:3]), []).append(size)
    listed = []
    for folder, sizes in folders.items():
        _, digest, extractor = folder.split("/", 2)
        reference, split = owners.get(digest, ("", ""))
        listed.append(Entry(folder, digest, extractor, reference, split, len(sizes), sum(sizes)))
    return sorted(listed, key=lambda entry: (entry.reference, entry.split, entry.digest, entry.extractor))


def prune(artifacts: Artifacts, doomed: Iterable[Entry]) -> int:
    """Remove entries and return the bytes freed. Waits for running extractions; later use extracts again."""
    freed = 0
    for entry in doomed:
        with lock_of(artifacts, entry.digest):
            artifacts.remove(entry.key)
        freed += entry.bytes
    return freed


def _owners(database: Database, plugins: Plugins) -> dict[str, tuple[str, str]]:
    """Reference and split by digest, for references of the database and of plug-ins."""
    owners: dict[str, tuple[str, str]] = {}
    for plugin in plugins:
        if plugin.kind is PluginKind.REFERENCE:
            digests = open_reference(database, plugins, plugin.name).digests
            owners |= {digest: (plugin.name, split) for split, digest in digests.items()}
    with database.read() as session:
        for row in session.scalars(select(Reference).order_by(Reference.name)):
            owners[row.digest] = row.name, "train"
            if row.heldout_digest:
                owners[row.heldout_digest] = row.name, "heldout"
    return owners
