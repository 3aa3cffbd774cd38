"""Item sets: the rows of a task in memory, with the digests that identify them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
from jaxtyping import Int64

from evalsvc.core.digests import digest_json
from evalsvc.metrics.lazy_torch import torch
from evalsvc.plugins.interfaces import Modality
from evalsvc.plugins.items import Message, Prompt
from evalsvc.plugins.rng import hashed

ITEMS_VERSION: Literal[1] = 1
"""Raise it if the same rows may give other items."""
_DOMAIN = 0x6974656D
"""Separates the order of items from the order of indices and from the seeds of samples."""
CONDITIONS = ("ids", "prompts", "labels", "sources")
"""Columns on which samples depend."""


@dataclass(frozen=True, eq=False)
class ItemSet:
    """Items as columns: entry i of each belongs to item i; a column that the set lacks is empty, or ``None``.

    ``positions`` are the numbers of the rows in the file, from 0. ``sources`` and ``targets`` are texts; where
    ``media`` names a modality for ``source`` or ``target``, they are names of files, ``<sha256>.<suffix>``, and ""
    where an item has none. ``answers`` are texts, or indices of the right choice.
    """

    ids: tuple[str, ...]
    positions: Int64[np.ndarray, " n"]
    prompts: tuple[Prompt, ...] = ()
    labels: Int64[np.ndarray, " n"] | None = None
    sources: tuple[str, ...] = ()
    targets: tuple[tuple[str, ...], ...] = ()
    choices: tuple[tuple[str, ...], ...] = ()
    answers: tuple[str | int, ...] = ()
    groups: tuple[str, ...] = ()
    tags: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    media: Mapping[str, Modality] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def of_classes(cls, count: int) -> ItemSet:
        """One item for each class label, 0 to ``count`` - 1."""
        return cls(tuple(map(str, range(count))), np.arange(count), labels=np.arange(count))

    @classmethod
    def of_prompts(cls, prompts: Sequence[str]) -> ItemSet:
        """One item for each prompt of a suite that has prompts alone."""
        return cls(ids_of([{"prompt": prompt} for prompt in prompts]), np.arange(len(prompts)), tuple(prompts))

    @cached_property
    def hashes(self) -> Int64[np.ndarray, " n"]:
        """63-bit hash of the id of each item, which its seeds and its place follow."""
        words = [int.from_bytes(hashlib.sha256(each.encode()).digest()[:8]) >> 1 for each in self.ids]
        return np.array(words, np.int64)

    def taken(self, rows: Int64[np.ndarray, " k"]) -> ItemSet:
        """The items at these rows, in this order."""
        chosen = rows.tolist()

        def of(column: tuple[Any, ...]) -> tuple[Any, ...]:
            return tuple(column[i] for i in chosen) if column else ()

        columns: dict[str, Any] = {name: of(getattr(self, name)) for name in _LISTS}
        return replace(
            self,
            positions=self.positions[rows],
            labels=None if self.labels is None else self.labels[rows],
            tags={name: of(values) for name, values in self.tags.items()},
            **columns,
        )

    def ordered(self, seed: int) -> ItemSet:
        """The items in ascending order of a keyed hash of (seed, id), so that any first items are a random part."""
        low, high = hashed(seed, torch.from_numpy(self.hashes), _DOMAIN)
        return self.taken(np.lexsort((low.numpy(), high.numpy())))

    @cached_property
    def conditions(self) -> str:
        """sha256 of the ids and of all that a generator is given."""
        body = self.body
        return digest_json({name: body[name] for name in (*CONDITIONS, "source_media") if name in body})

    @cached_property
    def sha256(self) -> str:
        """sha256 of the whole content, in the order of the file."""
        return digest_json(self.body)

    @property
    def json(self) -> bytes:
        """The whole content as canonical JSON, in the order of the file."""
        return json.dumps(self.body, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode(
            errors="surrogatepass"
        )

    @cached_property
    def body(self) -> dict[str, Any]:
        """The whole content as plain data, in the order of the file; columns that the set lacks are left out."""
        rows = np.argsort(self.positions, kind="stable")
        filed = self if np.array_equal(rows, np.arange(len(self))) else self.taken(rows)
        columns: dict[str, Any] = {name: list(getattr(filed, name)) for name in _LISTS}
        columns["prompts"] = [_plain(prompt) for prompt in filed.prompts]
        columns["targets"] = [list(each) for each in filed.targets]
        columns["choices"] = [list(each) for each in filed.choices]
        columns["labels"] = [] if filed.labels is None else filed.labels.tolist()
        columns["tags"] = {name: list(values) for name, values in filed.tags.items()}
        columns |= {f"{column}_media": modality for column, modality in self.media.items()}
        return {"version": ITEMS_VERSION} | {name: values for name, values in columns.items() if values}

    @classmethod
    def of_body(cls, body: Mapping[str, Any]) -> ItemSet:
        """The items of :attr:`body`.

        Raises:
            ValueError, TypeError, KeyError, AttributeError: it is malformed.
        """
        if body["version"] != ITEMS_VERSION:
            raise ValueError(f"unsupported version {body['version']!r}")
        columns = {name: tuple(body.get(name, ())) for name in _LISTS}
        columns["prompts"] = tuple(_prompt(each) for each in columns["prompts"])
        columns["targets"] = tuple(tuple(each) for each in columns["targets"])
        columns["choices"] = tuple(tuple(each) for each in columns["choices"])
        return cls(
            positions=np.arange(len(columns["ids"])),
            labels=np.array(body["labels"], np.int64) if "labels" in body else None,
            tags={name: tuple(values) for name, values in body.get("tags", {}).items()},
            media={name: body[f"{name}_media"] for name in ("source", "target") if f"{name}_media" in body},
            **columns,
        )


_LISTS = ("ids", "prompts", "sources", "targets", "choices", "answers", "groups")


def ids_of(conditions: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """The id of each row without one: the digest of its conditions, with a number where they occur again."""
    seen: dict[str, int] = {}
    ids = []
    for each in conditions:
        name = digest_json(each)[:16]
        seen[name] = occurrence = seen.get(name, 0) + 1
        ids.append(name if occurrence == 1 else f"{name}-{occurrence}")
    return tuple(ids)


def _plain(prompt: Prompt) -> str | list[dict[str, str]]:
    return prompt if isinstance(prompt, str) else [message._asdict() for message in prompt]


def _prompt(plain: Any) -> Prompt:
    return plain if isinstance(plain, str) else tuple(Message(each["role"], each["content"]) for each in plain)
