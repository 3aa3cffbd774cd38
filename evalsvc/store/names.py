"""Names of checkpoints: ``model@step``, and what tells those apart that share one.

A row of :class:`~evalsvc.store.tables.Checkpoint` is a checkpoint in a configuration. Its name is ``model@step``; where
that names several digests ``model@step#9f2c1f7d``; where one digest was scored in several configurations
``model@step[noise=200]``, with the options that differ. ``key=`` says that an option is not set. A mark is inert
wherever it is shown: letters, digits and few signs; any other value is named by the first digits of its digest,
``skip=~3fa9c01b``. The first digits of the configuration's own digest name it too: ``model@step[5d1c90ab]``.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, func, select, tuple_
from sqlalchemy.orm import InstrumentedAttribute, Session

from evalsvc.core.digests import digest_json
from evalsvc.core.errors import AmbiguousError, InputError
from evalsvc.store.tables import Alias, Checkpoint, Gate, Model

SHORT = 8
"""Digits of a digest in a name, more where these do not tell two apart."""
FEW = 500
"""Checkpoints whose labels are looked up one by one; of more, all labels are."""
LISTED = 10
"""Choices that an error lists."""
LONGEST = 100
"""Letters of the options in a name; where more differ, the configuration's digest stands for them."""
NEIGHBOURS = 100
"""Models before and after an unknown one in the alphabet that it is compared with."""
COMPARED = 64
"""Letters of a name that are compared."""
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
    """A checkpoint by alias, ``model@step``, model (its last step) or the first 8 or more digits of its digest.

    Raises:
        AmbiguousError: several have this name; each of those is listed with a name of its own.
        InputError: nothing has this name.
    """
    alias = session.get(Alias, name)
    if alias is not None:
        return alias.checkpoint
    found = matching(session, name, options)
    if found:
        return only(session, repr(name), found)
    label = _parsed(name)[0]
    if "@" in name and not is_number(label.rpartition("@")[2]):
        raise InputError(f"{name!r} names no checkpoint: the step after '@' is a whole number")
    near = _nearest(session, label)
    hint = f"the nearest are {', '.join(near)}" if near else "nothing has been scored yet"
    raise InputError(f"there is no checkpoint {name!r}; {hint}")


def only(session: Session, what: str, found: Sequence[Checkpoint]) -> Checkpoint:
    """The one of ``found`` that ``what`` means.

    Raises:
        AmbiguousError: there are several.
    """
    if len(found) == 1:
        return found[0]
    listed = dated(session, found)
    raise AmbiguousError(f"{what} is ambiguous: choose one of {listed}", list(titles(session, found).values()))


def dated(session: Session, found: Sequence[Checkpoint]) -> str:
    """Names of checkpoints with the time since when each is known, the first ten."""
    own = titles(session, found)
    listed = ", ".join(f"{own[row.id]} ({row.created_at:%Y-%m-%d %H:%M})" for row in found[:LISTED])
    return listed + (f" and {len(found) - LISTED} more" if len(found) > LISTED else "")


def matching(session: Session, name: str, options: Mapping[str, Any] | None = None) -> Sequence[Checkpoint]:
    """All checkpoints that a name could mean, an alias excepted; of a model without a step those of its last step.

    ``options`` are those that the configuration must hold, among others.
    """

    wanted = {key: digest_json(value) for key, value in (options or {}).items()}

    def holds(row: Checkpoint) -> bool:
        return all(key in row.options and digest_json(row.options[key]) == value for key, value in wanted.items())

    if found := _labelled(session, name, keep=holds if options else None):
        return found
    label, digest, facts = _parsed(name)

    def keep(row: Checkpoint) -> bool:
        return holds(row) and _says(facts or "", row)

    found = _labelled(session, label, digest or "", keep) if digest or facts else ()
    if not found and not digest and _DIGEST.fullmatch(label):
        found = _all(session, select(Checkpoint).where(begins(Checkpoint.digest, label)))
        found = [row for row in found if keep(row)]
    return found


def label_of(name: str) -> tuple[str, int | None]:
    """The model and the step that a name states."""
    model, _, step = _parsed(name)[0].rpartition("@")
    return (model, int(step)) if model and is_number(step) else (_parsed(name)[0], None)


def title(row: Checkpoint, marks: Mapping[int, str]) -> str:
    """The name of a checkpoint, by the marks of those that need one."""
    return f"{row.model.name}@{row.step}{marks.get(row.id, '')}"


def titles(session: Session, rows: Iterable[Checkpoint]) -> dict[int, str]:
    """Names of checkpoints that mean nothing else, by id."""
    rows = list(rows)
    own = marks(session, {row.id for row in rows})
    return {row.id: title(row, own) for row in rows}


def title_of(session: Session, row: Checkpoint) -> str:
    """The name of one checkpoint, which means nothing else."""
    return titles(session, [row])[row.id]


def titles_of_gates(session: Session, gates: Collection[Gate]) -> dict[int, str]:
    """Names of what gates judged, by the gate's id; a label alone where nothing was found to judge."""
    own = marks(session, {gate.checkpoint_id for gate in gates if gate.checkpoint_id is not None})
    return {gate.id: f"{gate.model}@{gate.step}{own.get(gate.checkpoint_id or 0, '')}" for gate in gates}


def marks(session: Session, checkpoints: Collection[int] | None = None) -> dict[int, str]:
    """What follows ``model@step`` in the names of those checkpoints that share it with others, by id.

    All such checkpoints, or at least those that share a label with one of these ids.
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


def facts_of(row: Checkpoint | Row[Any]) -> dict[str, str]:
    """What a configuration is, as names write it: generator, version, and each option."""
    options = {_key(key): _written(value) for key, value in row.options.items()}
    return {"generator": _written(row.generator), "version": _written(row.generator_version)} | options


def _marks(group: Sequence[Row[Any]]) -> dict[int, str]:
    """Marks of the checkpoints that share one label."""
    digests = {row.digest for row in group}
    length = _telling(digests)
    found: dict[int, str] = {}
    for digest in digests:
        same = [row for row in group if row.digest == digest]
        for key, told in _differing(same).items():
            found[key] = (f"#{digest[:length]}" if len(digests) > 1 else "") + (f"[{told}]" if told else "")
    return found


def _differing(rows: Sequence[Checkpoint] | Sequence[Row[Any]]) -> dict[int, str]:
    """The facts in which configurations differ, as names write them, by id."""
    if len(rows) == 1:
        return {rows[0].id: ""}
    facts = {row.id: facts_of(row) for row in rows}
    keys = dict.fromkeys(key for each in facts.values() for key in each)
    differing = [key for key in keys if len({each.get(key, "") for each in facts.values()}) > 1]
    told = {id: ",".join(f"{key}={each.get(key, '')}" for key in differing) for id, each in facts.items()}
    if len(set(told.values())) == len(rows) and max(map(len, told.values())) <= LONGEST:
        return told
    length = _telling({row.configuration for row in rows})
    return {row.id: row.configuration[:length] for row in rows}


def _telling(digests: Collection[str]) -> int:
    """How many digits tell digests apart."""
    length = SHORT
    while len({digest[:length] for digest in digests}) < len(digests):
        length += 4
    return length


def _key(key: str) -> str:
    if key in ("generator", "version"):
        return f"option.{key}"
    return _inert(key, key)


def _written(value: Any) -> str:
    """A value as the command line reads it: a text that would be read as JSON stands in quotes."""
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
    """Label, digest and facts of a name."""
    found = _NAME.fullmatch(name)
    return (found["label"], found["digest"], found["facts"]) if found else (name, None, None)


def _says(facts: str, row: Checkpoint) -> bool:
    """Whether ``key=value,...``, or the beginning of a configuration's digest, holds of a checkpoint."""
    own = facts_of(row) if facts else {}
    for fact in filter(None, facts.split(",")):
        key, equals, value = fact.partition("=")
        if equals and own.get(key, "") != value:
            return False
        if not equals and not (_DIGEST.fullmatch(key) and row.configuration.startswith(key)):
            return False
    return True


def begins(column: InstrumentedAttribute[str], digits: str) -> ColumnElement[bool]:
    """That a digest begins with these digits, as a range that an index answers."""
    return (column >= digits) & (column < f"{digits}g")


def _labelled(
    session: Session, label: str, digest: str = "", keep: Callable[[Checkpoint], bool] | None = None
) -> Sequence[Checkpoint]:
    """Checkpoints of ``model@step``, or of a model at the last step that has any to ``keep`` with this digest."""
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
    """The configurations to keep among the checkpoints of a query: one of each is looked at, however many have it."""
    first = query.with_only_columns(func.min(Checkpoint.id)).group_by(Checkpoint.configuration)
    return [
        row.configuration for row in session.scalars(select(Checkpoint).where(Checkpoint.id.in_(first))) if keep(row)
    ]


def _all(session: Session, query: Select[Checkpoint]) -> Sequence[Checkpoint]:
    return session.scalars(query.order_by(Checkpoint.step, Checkpoint.id)).all()


def _nearest(session: Session, label: str) -> list[str]:
    """Labels that are there and look like one that is not."""
    model, _, step = label.rpartition("@") if "@" in label else (label, "", "")
    by_name = _around(session, model)
    # Short, since comparing takes the product of both lengths.
    short = {name[:COMPARED]: name for name in by_name}
    close = difflib.get_close_matches(model[:COMPARED], short, n=3, cutoff=0.3)
    near = [short[name] for name in close] or list(by_name)[:3]
    wanted = int(step) if is_number(step) else 2**63 - 1
    found: list[str] = []
    for name in near:
        steps = select(Checkpoint.step).where(Checkpoint.model_id == by_name[name]).distinct().limit(3)
        below = session.scalars(steps.where(Checkpoint.step <= wanted).order_by(Checkpoint.step.desc()))
        above = session.scalars(steps.where(Checkpoint.step > wanted).order_by(Checkpoint.step))
        closest = sorted([*below, *above], key=lambda each: abs(each - wanted))
        found += [f"{name}@{number}" for number in closest[: 3 if name == model else 1]]
    return found[:3]


def _around(session: Session, model: str) -> dict[str, int]:
    """Ids of models by name: all where there are few, else those nearest in the alphabet."""
    query = select(Model.name, Model.id).limit(NEIGHBOURS)
    after = session.execute(query.where(Model.name >= model).order_by(Model.name)).all()
    before = session.execute(query.where(Model.name < model).order_by(Model.name.desc())).all()
    return {name: id_ for name, id_ in [*reversed(before), *after]}  # noqa: C416  (rows are not pairs to mypy)


def is_number(text: str) -> bool:
    """Whether it is a whole number that a database holds; '²' is a digit, and none."""
    return text.isdecimal() and len(text) < 19
