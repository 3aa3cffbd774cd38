"""Names of checkpoints: ``model@step``, with marks for checkpoints that share a label.

A row of :class:`~evalsvc.store.tables.Checkpoint` is a checkpoint in a configuration. Its name is ``model@step``; if
several digests share that label, ``model@step#9f2c1f7d``; if one digest was scored in several configurations,
``model@step[noise=200]``, with the options that differ. ``key=`` means that an option is not set. Marks consist of
letters, digits and a few signs, so that they are safe in any output; any other value is replaced by the first digits of
its digest, ``skip=~3fa9c01b``. The first digits of the configuration's digest are accepted too:
``model@step[5d1c90ab]``.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, func, select, tuple_
from sqlalchemy.orm import InstrumentedAttribute, Session

from evalsvc.core.digests import CONTENTS, digest_json
from evalsvc.core.errors import AmbiguousError, InputError
from evalsvc.store.tables import Alias, Checkpoint, Gate, Model

SHORT = 8
"""Number of digits of a digest in a name; more if necessary to distinguish two."""
FEW = 500
"""Maximum number of checkpoints whose labels are looked up one by one; otherwise all labels are read."""
LISTED = 10
"""Maximum number of choices in an error."""
LONGEST = 100
"""Maximum length of the options in a name; beyond it, the configuration's digest is used."""
NEIGHBOURS = 100
"""Number of models before and after an unknown name in the alphabet that are compared with it."""
COMPARED = 64
"""Maximum number of compared characters of a name."""
_NAME = re.compile(r"(?P<label>.+?)(?:#(?P<digest>[0-9a-f]{4,64}))?(?:\[(?P<facts>[^\[\]]*)\])?", re.DOTALL)
_DIGEST = re.compile(r"[0-9a-f]{8,64}")
_INERT = re.compile(r'[\w .:/+()"-]{1,40}')
_COLUMNS = (
    Checkpoint.id,
    Checkpoint.model_id,
    Checkpoint.step,
    Checkpoint.digest,
    Checkpoint.generator,
    Checkpoint.generator_version,
    Checkpoint.options,
    Checkpoint.configuration,
)


def find(session: Session, name: str, options: Mapping[str, Any] | None = None) -> Checkpoint:
    """Find a checkpoint by alias, ``model@step``, model (its last step), or 8 or more digits of its digest.

    Raises:
        AmbiguousError: several checkpoints match; the message lists a unique name of each.
        InputError: no checkpoint matches.
    """
    alias = session.get(Alias, name)
    if alias is not None:
        return alias.checkpoint
    candidates = matching(session, name, options)
    if candidates:
        return only(session, repr(name), candidates)
    label = _parsed(name)[0]
    if "@" in name and not is_number(label.rpartition("@")[2]):
        raise InputError(f"invalid checkpoint name {name!r}: the step after '@' must be an integer")
    near = _nearest(session, label)
    hint = f"the nearest are {', '.join(near)}" if near else "nothing has been scored yet"
    raise InputError(f"there is no checkpoint {name!r}; {hint}")


def only(session: Session, what: str, candidates: Sequence[Checkpoint]) -> Checkpoint:
    """The only checkpoint of ``candidates``, to which ``what`` refers.

    Raises:
        AmbiguousError: there are several.
    """
    if len(candidates) == 1:
        return candidates[0]
    listed = dated(session, candidates)
    raise AmbiguousError(f"{what} is ambiguous: choose one of {listed}", list(titles(session, candidates).values()))


def dated(session: Session, candidates: Sequence[Checkpoint]) -> str:
    """Names of checkpoints with their creation times, at most ten."""
    own = titles(session, candidates)
    listed = ", ".join(f"{own[row.id]} ({row.created_at:%Y-%m-%d %H:%M})" for row in candidates[:LISTED])
    return listed + (f" and {len(candidates) - LISTED} more" if len(candidates) > LISTED else "")


def matching(session: Session, name: str, options: Mapping[str, Any] | None = None) -> Sequence[Checkpoint]:
    """All checkpoints that match a name, except aliases; for a model without a step, those of its last step.

    ``options`` are options that the configuration must include.
    """

    wanted = {key: digest_json(value) for key, value in (options or {}).items()}

    def holds(row: Checkpoint) -> bool:
        return all(key in row.options and digest_json(row.options[key]) == value for key, value in wanted.items())

    if matches := _labelled(session, name, keep=holds if options else None):
        return matches
    label, digest, facts = _parsed(name)

    def keep(row: Checkpoint) -> bool:
        return holds(row) and _says(facts or "", row)

    matches = _labelled(session, label, digest or "", keep) if digest or facts else ()
    if not matches and not digest and _DIGEST.fullmatch(label):
        matches = _all(session, select(Checkpoint).where(begins(Checkpoint.digest, label)))
        matches = [row for row in matches if keep(row)]
    return matches


def label_of(name: str) -> tuple[str, int | None]:
    """Model and step in a name."""
    model, _, step = _parsed(name)[0].rpartition("@")
    return (model, int(step)) if model and is_number(step) else (_parsed(name)[0], None)


def title(row: Checkpoint, marks: Mapping[int, str]) -> str:
    """Name of a checkpoint, given the marks of checkpoints that need one."""
    return f"{row.model.name}@{row.step}{marks.get(row.id, '')}"


def titles(session: Session, rows: Iterable[Checkpoint]) -> dict[int, str]:
    """Unique names of checkpoints, by id."""
    rows = list(rows)
    own = marks(session, {row.id for row in rows})
    return {row.id: title(row, own) for row in rows}


def title_of(session: Session, row: Checkpoint) -> str:
    """The unique name of one checkpoint."""
    return titles(session, [row])[row.id]


def titles_of_gates(session: Session, gates: Collection[Gate]) -> dict[int, str]:
    """Names of the candidates of gates, by the gate's id; only the label if no checkpoint was judged."""
    own = marks(session, {gate.checkpoint_id for gate in gates if gate.checkpoint_id is not None})
    return {gate.id: f"{gate.model}@{gate.step}{own.get(gate.checkpoint_id or 0, '')}" for gate in gates}


def marks(session: Session, checkpoints: Collection[int] | None = None) -> dict[int, str]:
    """Suffixes of ``model@step`` in the names of checkpoints that share a label, by id.

    Includes all such checkpoints, or at least those that share a label with one of these ids.
    """
    label = Checkpoint.model_id, Checkpoint.step
    shared = select(*label).group_by(*label).having(func.count() > 1)
    if checkpoints is not None and len(checkpoints) <= FEW:
        shared = shared.where(tuple_(*label).in_(select(*label).where(Checkpoint.id.in_(checkpoints))))
    labels: dict[tuple[int, int], list[Row[Any]]] = {}
    for row in session.execute(select(*_COLUMNS).where(tuple_(*label).in_(shared))):
        labels.setdefault((row.model_id, row.step), []).append(row)
    return {key: mark for group in labels.values() for key, mark in _marks(group).items()}


def series(session: Session) -> dict[tuple[str, str], str]:
    """Marks that distinguish the configurations of a model, by model name and configuration digest."""
    first = select(func.min(Checkpoint.id)).group_by(Checkpoint.model_id, Checkpoint.configuration)
    models: dict[str, list[Checkpoint]] = {}
    for row in session.scalars(select(Checkpoint).where(Checkpoint.id.in_(first))):
        models.setdefault(row.model.name, []).append(row)
    marks: dict[tuple[str, str], str] = {}
    for model, rows in models.items():
        facts = _differing(rows)
        marks |= {(model, row.configuration): f"[{facts[row.id]}]" if facts[row.id] else "" for row in rows}
    return marks


def facts_of(row: Checkpoint | Row[Any]) -> dict[str, str]:
    """Facts about a configuration, as used in names: generator, version, and each option."""
    options = {_key(key): _written(value) for key, value in row.options.items()}
    return {"generator": _written(row.generator), "version": _written(row.generator_version)} | options


def _marks(group: Sequence[Row[Any]]) -> dict[int, str]:
    """Marks of the checkpoints that share one label."""
    digests = {row.digest for row in group}
    length = _telling(digests)
    marks: dict[int, str] = {}
    for digest in digests:
        same = [row for row in group if row.digest == digest]
        for key, difference in _differing(same).items():
            marks[key] = (f"#{digest[:length]}" if len(digests) > 1 else "") + (f"[{difference}]" if difference else "")
    return marks


def _differing(rows: Sequence[Checkpoint] | Sequence[Row[Any]]) -> dict[int, str]:
    """The facts in which configurations differ, as used in names, by id."""
    if len(rows) == 1:
        return {rows[0].id: ""}
    facts = {row.id: facts_of(row) for row in rows}
    keys = dict.fromkeys(key for each in facts.values() for key in each)
    differing = [key for key in keys if len({each.get(key, "") for each in facts.values()}) > 1]
    short = [key for key in differing if key != CONTENTS]  # digests, which are told if nothing else differs
    if len({tuple(each.get(key, "") for key in short) for each in facts.values()}) == len(facts):
        differing = short
    texts = {id: ",".join(f"{key}={each.get(key, '')}" for key in differing) for id, each in facts.items()}
    if len(set(texts.values())) == len(rows) and max(map(len, texts.values())) <= LONGEST:
        return texts
    length = _telling({row.configuration for row in rows})
    return {row.id: row.configuration[:length] for row in rows}


def _telling(digests: Collection[str]) -> int:
    """Number of digits that distinguish digests."""
    length = SHORT
    while len({digest[:length] for digest in digests}) < len(digests):
        length += 4
    return length


def _key(key: str) -> str:
    if key in ("generator", "version"):
        return f"option.{key}"
    return _inert(key, key)


def _written(value: Any) -> str:
    """A value as the command line reads it: text that would parse as JSON is quoted."""
    return _inert(
        value if isinstance(value, str) and not _is_json(value) else json.dumps(value, ensure_ascii=False), value
    )


def _inert(text: str, value: Any) -> str:
    return text if _INERT.fullmatch(text) else f"~{digest_json(value)[:SHORT]}"


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _parsed(name: str) -> tuple[str, str | None, str | None]:
    """Label, digest and facts in a name."""
    match = _NAME.fullmatch(name)
    return (match["label"], match["digest"], match["facts"]) if match else (name, None, None)


def _says(facts: str, row: Checkpoint) -> bool:
    """Whether ``key=value,...``, or the start of a configuration's digest, matches a checkpoint."""
    own = facts_of(row) if facts else {}
    for fact in filter(None, facts.split(",")):
        key, equals, value = fact.partition("=")
        if equals and own.get(key, "") != value:
            return False
        if not equals and not (_DIGEST.fullmatch(key) and row.configuration.startswith(key)):
            return False
    return True


def begins(column: InstrumentedAttribute[str], digits: str) -> ColumnElement[bool]:
    """Condition that a digest starts with these digits, as a range that uses an index."""
    return (column >= digits) & (column < f"{digits}g")


def _labelled(
    session: Session, label: str, digest: str = "", keep: Callable[[Checkpoint], bool] | None = None
) -> Sequence[Checkpoint]:
    """Checkpoints of ``model@step``, or of a model at its last step with a match of ``keep`` and this digest."""
    model, _, step = label.rpartition("@") if "@" in label else (label, "", "")
    if "@" in label and not is_number(step):
        return ()
    query = select(Checkpoint).join(Model).where(Model.name == model)
    if digest:
        query = query.where(begins(Checkpoint.digest, digest))
    if "@" in label:
        query = query.where(Checkpoint.step == int(step))
        return [row for row in _all(session, query) if keep is None or keep(row)]
    if keep:
        query = query.where(Checkpoint.configuration.in_(_kept(session, query, keep)))
    last = query.with_only_columns(func.max(Checkpoint.step)).scalar_subquery()
    return _all(session, query.where(Checkpoint.step == last))


def _kept(session: Session, query: Select[Checkpoint], keep: Callable[[Checkpoint], bool]) -> list[str]:
    """The matching configurations among the checkpoints of a query; one checkpoint of each is inspected."""
    first = query.with_only_columns(func.min(Checkpoint.id)).group_by(Checkpoint.configuration)
    return [
        row.configuration for row in session.scalars(select(Checkpoint).where(Checkpoint.id.in_(first))) if keep(row)
    ]


def _all(session: Session, query: Select[Checkpoint]) -> Sequence[Checkpoint]:
    return session.scalars(query.order_by(Checkpoint.step, Checkpoint.id)).all()


def _nearest(session: Session, label: str) -> list[str]:
    """Existing labels that are similar to an unknown one."""
    model, _, step = label.rpartition("@") if "@" in label else (label, "", "")
    by_name = _around(session, model)
    # Limited, because the comparison takes time proportional to the product of both lengths.
    short = {name[:COMPARED]: name for name in by_name}
    close = difflib.get_close_matches(model[:COMPARED], short, n=3, cutoff=0.3)
    near = [short[name] for name in close] or list(by_name)[:3]
    wanted = int(step) if is_number(step) else 2**63 - 1
    labels: list[str] = []
    for name in near:
        steps = select(Checkpoint.step).where(Checkpoint.model_id == by_name[name]).distinct().limit(3)
        below = session.scalars(steps.where(Checkpoint.step <= wanted).order_by(Checkpoint.step.desc()))
        above = session.scalars(steps.where(Checkpoint.step > wanted).order_by(Checkpoint.step))
        closest = sorted([*below, *above], key=lambda each: abs(each - wanted))
        labels += [f"{name}@{number}" for number in closest[: 3 if name == model else 1]]
    return labels[:3]


def _around(session: Session, model: str) -> dict[str, int]:
    """Ids of models by name: all of a few, else the nearest in alphabetical order."""
    query = select(Model.name, Model.id).limit(NEIGHBOURS)
    after = session.execute(query.where(Model.name >= model).order_by(Model.name)).all()
    before = session.execute(query.where(Model.name < model).order_by(Model.name.desc())).all()
    return {name: id_ for name, id_ in [*reversed(before), *after]}  # noqa: C416  (rows are not pairs to mypy)


def is_number(text: str) -> bool:
    """Whether the text is an integer in the range of a database; '²' is a digit, but not a number."""
    return text.isdecimal() and len(text) < 19
