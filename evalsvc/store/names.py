"""Names of checkpoints: ``model@step``, and what tells those apart that share one.

A row of :class:`~evalsvc.store.tables.Checkpoint` is a checkpoint in a configuration. Its name is ``model@step``; where
that names several digests ``model@step#9f2c1f7d``; where one digest was scored in several configurations
``model@step[noise=200]``, with the options that differ. ``key=`` says that an option is not set, and a value that is
long or has a structure is named by the first digits of its digest, ``skip=~3fa9c01b``. The first digits of the
configuration's own digest name it too: ``model@step[5d1c90ab]``.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Select, func, select, tuple_
from sqlalchemy.orm import Session

from evalsvc.digests import digest_json
from evalsvc.errors import InputError
from evalsvc.store.tables import Alias, Checkpoint, Model

SHORT = 8
"""Digits of a digest in a name, more where these do not tell two apart."""
_MARKED = re.compile(r"(?P<label>.+?)(?:#(?P<digest>[0-9a-f]{4,64}))?(?P<facts>\[.*\])?", re.DOTALL)
_PLAIN = re.compile(r"[^\[\],=~\x00-\x1f]{1,40}")


def find(session: Session, name: str) -> Checkpoint:
    """A checkpoint by alias, ``model@step``, model (its last step) or the first 8 or more digits of its digest.

    Raises:
        InputError: nothing has this name, or several have it; each of those is listed with a name of its own.
    """
    alias = session.get(Alias, name)
    if alias is not None:
        return alias.checkpoint
    found = matching(session, name)
    if len(found) == 1:
        return found[0]
    if found:
        own = marks(session, found)
        listed = ", ".join(f"{title(row, own)} ({row.created_at:%Y-%m-%d %H:%M})" for row in found[:10])
        more = f" and {len(found) - 10} more" if len(found) > 10 else ""
        raise InputError(f"{name!r} is ambiguous: choose one of {listed}{more}")
    label = _MARKED.fullmatch(name)
    step = (label["label"] if label else name).rpartition("@")[2]
    if "@" in name and not is_number(step):
        raise InputError(f"{name!r} names no checkpoint: the step after '@' is a whole number")
    known = [f"{model}@{step}" for model, step in session.execute(select(Model.name, Checkpoint.step).join(Model))]
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.3) or known[:3]
    hint = f"the nearest are {', '.join(dict.fromkeys(near))}" if near else "nothing has been scored yet"
    raise InputError(f"there is no checkpoint {name!r}; {hint}")


def matching(session: Session, name: str) -> Sequence[Checkpoint]:
    """All checkpoints that a name could mean, an alias excepted; of a model without a step those of its last step."""
    if found := _labelled(session, name):
        return found
    marked = _MARKED.fullmatch(name)
    label, digest, facts = marked.group("label", "digest", "facts") if marked else (name, None, None)
    found = _labelled(session, label, digest or "") if digest or facts else ()
    if not found and not digest and len(label) >= SHORT:
        found = _all(session, select(Checkpoint).where(Checkpoint.digest.startswith(label, autoescape=True)))
    return [row for row in found if _says(facts or "", row)]


def title(row: Checkpoint, marks: Mapping[int, str]) -> str:
    """The name of a checkpoint, by the marks of those that need one."""
    return f"{row.model.name}@{row.step}{marks.get(row.id, '')}"


def titles(session: Session, rows: Iterable[Checkpoint]) -> dict[int, str]:
    """Names of checkpoints that mean nothing else, by id."""
    rows = list(rows)
    own = marks(session, rows)
    return {row.id: title(row, own) for row in rows}


def marks(session: Session, rows: Iterable[Checkpoint] | None = None) -> dict[int, str]:
    """What follows ``model@step`` in the names of those checkpoints that share it with others, by id.

    All such checkpoints, or those that share a label with ``rows``.
    """
    shared = select(Checkpoint.model_id, Checkpoint.step).group_by(Checkpoint.model_id, Checkpoint.step)
    shared = shared.having(func.count() > 1)
    if rows is not None:
        shared = shared.where(tuple_(Checkpoint.model_id, Checkpoint.step).in_({(r.model_id, r.step) for r in rows}))
    query = select(Checkpoint).where(tuple_(Checkpoint.model_id, Checkpoint.step).in_(shared))
    labels: dict[tuple[int, int], list[Checkpoint]] = {}
    for row in session.scalars(query):
        labels.setdefault((row.model_id, row.step), []).append(row)
    return {key: mark for group in labels.values() for key, mark in _marks(group).items()}


def series(session: Session) -> dict[tuple[str, str], str]:
    """What tells the configurations of a model apart, by the model's name and the configuration's digest."""
    first = select(func.min(Checkpoint.id)).group_by(Checkpoint.model_id, Checkpoint.configuration)
    models: dict[str, list[Checkpoint]] = {}
    for row in session.scalars(select(Checkpoint).where(Checkpoint.id.in_(first))):
        models.setdefault(row.model.name, []).append(row)
    found: dict[tuple[str, str], str] = {}
    for model, rows in models.items():
        facts = _differing(rows)
        found |= {(model, row.configuration): f"[{facts[row.id]}]" if facts[row.id] else "" for row in rows}
    return found


def facts_of(row: Checkpoint) -> dict[str, str]:
    """What a configuration is, as names write it: generator, version, and each option."""
    options = {key: _written(value) for key, value in row.options.items()}
    return {"generator": _written(row.generator), "version": _written(row.generator_version)} | options


def _marks(group: Sequence[Checkpoint]) -> dict[int, str]:
    """Marks of the checkpoints that share one label."""
    digests = {row.digest for row in group}
    length = SHORT
    while len({digest[:length] for digest in digests}) < len(digests):
        length += 4
    found: dict[int, str] = {}
    for digest in digests:
        same = [row for row in group if row.digest == digest]
        for key, told in _differing(same).items():
            found[key] = (f"#{digest[:length]}" if len(digests) > 1 else "") + (f"[{told}]" if told else "")
    return found


def _differing(rows: Sequence[Checkpoint]) -> dict[int, str]:
    """The facts in which configurations differ, as names write them, by id."""
    facts = {row.id: facts_of(row) for row in rows}
    keys = dict.fromkeys(key for each in facts.values() for key in each)
    differing = [key for key in keys if len({each.get(key, "") for each in facts.values()}) > 1]
    return {id: ",".join(f"{key}={each.get(key, '')}" for key in differing) for id, each in facts.items()}


def _written(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False)
    return text if _PLAIN.fullmatch(text) else f"~{digest_json(value)[:SHORT]}"


def _says(facts: str, row: Checkpoint) -> bool:
    """Whether ``[key=value,...]``, or the beginning of a configuration's digest, holds of a checkpoint."""
    own = facts_of(row)
    for fact in filter(None, facts.removeprefix("[").removesuffix("]").split(",")):
        key, equals, value = fact.partition("=")
        if own.get(key, "") != value if equals else not row.configuration.startswith(key):
            return False
    return True


def _labelled(session: Session, label: str, digest: str = "") -> Sequence[Checkpoint]:
    """Checkpoints of ``model@step``, or of a model at its last step; only those whose digest begins so."""
    model, _, step = label.rpartition("@") if "@" in label else (label, "", "")
    query = select(Checkpoint).join(Model).where(Model.name == model)
    if digest:
        query = query.where(Checkpoint.digest.startswith(digest))
    if "@" in label:
        return _all(session, query.where(Checkpoint.step == int(step))) if is_number(step) else ()
    found = _all(session, query)
    return [row for row in found if row.step == found[-1].step]


def _all(session: Session, query: Select[Checkpoint]) -> Sequence[Checkpoint]:
    return session.scalars(query.order_by(Checkpoint.step, Checkpoint.id)).all()


def is_number(text: str) -> bool:
    """Whether it is a whole number that a database holds; '²' is a digit, and none."""
    return text.isdecimal() and len(text) < 19
