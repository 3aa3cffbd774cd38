"""Check whether a stored score matches the current protocol: the same metric version against the same reference."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from evalsvc.core.errors import EvalsvcError
from evalsvc.inputs.references import open_reference
from evalsvc.inputs.suite_entries import MetricUse, Split
from evalsvc.inputs.suites import Suite
from evalsvc.metrics.slices import MINIMUM
from evalsvc.plugins.registry import Plugins
from evalsvc.store import tables
from evalsvc.store.session import Database


@dataclass(frozen=True)
class CurrentProtocol:
    """The protocol that a suite defines today. ``digests`` returns the content digests of the reference's splits, if
    known.
    """

    suite: Suite
    digests: Callable[[], Mapping[Split, str]]

    @classmethod
    def of(cls, suite: Suite, database: Database, plugins: Plugins) -> CurrentProtocol:
        """The current protocol. If the files of a reference are on another machine, its registered content is used."""
        return cls(suite, lambda: _digests(suite.reference, database, plugins))

    @cached_property
    def reference(self) -> Mapping[Split, str]:
        """Digest of each split of the reference; computed only if a score has a reference."""
        return self.digests()

    def difference(self, label: str, facts: Mapping[str, Any]) -> str:
        """Describe how the facts of a stored score differ from the current protocol; empty if they do not.

        Facts that the score does not record are not compared. Features are not compared either, because their extractor
        may not be installed here.
        """
        use, _ = self.suite.measures(label) or (None, None)
        if use is None:
            return f"{self.suite.id} no longer measures {label}"
        today = self._fixed(use) | (self._content(use) if use.reference_facts.keys() & facts.keys() else {})
        said = (
            f"{key} {_short(facts[key])} then, {_short(today[key])} today"
            for key in today
            if key in facts and facts[key] != today[key]
        )
        return "; ".join(said)

    def _content(self, use: MetricUse) -> dict[str, Any]:
        return {name: self.reference[split] for name, split in use.reference_facts.items() if split in self.reference}

    def _fixed(self, use: MetricUse) -> dict[str, Any]:
        tokens = {"tokenizer": use.tokenizer} if use.tokenizer else {}
        prompts = {"prompts": self.suite.prompts.sha256} if self.suite.prompts else {}
        items = self.suite.items.drawn if self.suite.items else {}
        items |= {"scored": self.suite.items.scored} if self.suite.items and use.of else {}
        slices = {"by": use.by, "minimum": MINIMUM} if use.by else {}
        facts = {"metric": use.metric, "version": use.spec.version, "options": use.options}
        return {**facts, "samples": self.suite.samples, **tokens, **prompts, **items, **slices}


def _digests(name: str | None, database: Database, plugins: Plugins) -> Mapping[Split, str]:
    if name is None:
        return {}
    try:
        return open_reference(database, plugins, name).digests
    except (EvalsvcError, OSError):
        with database.read() as session:
            row = session.get(tables.Reference, name)
        if row is None:
            return {}
        return {"train": row.digest, **({"heldout": row.heldout_digest} if row.heldout_digest else {})}


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else text[:12]
