"""Audit log: one row per change, written in the transaction of the change.

The actor is part of the context: the API sets the token of the request, pages their session, workers themselves; the
default is the user of the operating system.
"""

from __future__ import annotations

import getpass
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar, Token
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial

from sqlalchemy import ColumnElement, Select, delete, func, or_, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from evalsvc.core.errors import one_line
from evalsvc.core.observability import logs
from evalsvc.core.observability.redaction import redacted
from evalsvc.store.session import AFTER_COMMIT, Database, clock
from evalsvc.store.tables import ActorKind, AuditEntry, Outcome

LONGEST = {"actor": 200, "address": 64, "request": 64, "subject": 300}
AGAIN = timedelta(minutes=1)
LONGEST_FACT = 200
"""Maximum length of a fact in ``detail``, in characters; it names objects and contains no documents."""

log = logging.getLogger("evalsvc.audit")
Fact = str | int | float | bool | None


class Action(StrEnum):
    """Actions on the store. ``read`` is recorded only if it was refused."""

    READ = "read"
    EVALUATION_SUBMIT = "evaluation.submit"
    EVALUATION_CANCEL = "evaluation.cancel"
    EVALUATION_RETRY = "evaluation.retry"
    GATE_DECIDE = "gate.decide"
    ALIAS_MOVE = "alias.move"
    ALIAS_PROTECT = "alias.protect"
    ALIAS_UNPROTECT = "alias.unprotect"
    TOKEN_CREATE = "token.create"
    TOKEN_REVOKE = "token.revoke"
    WEBHOOK_CREATE = "webhook.create"
    WEBHOOK_REMOVE = "webhook.remove"
    WEBHOOK_SECRET = "webhook.secret"
    UPLOAD_CREATE = "upload.create"
    REFERENCE_ADD = "reference.add"
    RATING_ADD = "rating.add"
    JUDGE_RUN = "judge.run"
    CHECKPOINT_REDIGEST = "checkpoint.redigest"
    CACHE_PRUNE = "cache.prune"
    CACHE_SWEEP = "cache.sweep"
    DATABASE_UPGRADE = "database.upgrade"
    AUDIT_PRUNE = "audit.prune"


@dataclass(frozen=True)
class Actor:
    """The actor, with the id of its token (names may be reused), its address and its request."""

    kind: ActorKind
    name: str
    token: int | None = None
    address: str = ""
    request: str = ""


_actor: ContextVar[Actor | None] = ContextVar("evalsvc_actor", default=None)


def current() -> Actor:
    """The current actor; by default, the user of the operating system."""
    return _actor.get() or Actor(ActorKind.USER, _user())


def act_as(actor: Actor) -> Token[Actor | None]:
    """Set the actor of this context."""
    return _actor.set(actor)


@contextmanager
def acting(actor: Actor) -> Iterator[None]:
    """Set the actor inside the block."""
    before = act_as(actor)
    try:
        yield
    finally:
        _actor.reset(before)


def record(
    session: Session,
    action: Action,
    subject: str,
    detail: Mapping[str, Fact] | None = None,
    *,
    outcome: Outcome = Outcome.DONE,
) -> None:
    """Add a row to the transaction of the action; ``subject`` is a kind and a name or number, as in ``evaluation 7``.

    ``detail`` contains a few short facts, and no secrets, webhook addresses or documents. Repeated requests for an
    existing object are recorded once a minute. After the commit, the row is also logged.
    """
    actor = current()
    facts = {key: _line(fact, LONGEST_FACT) if isinstance(fact, str) else fact for key, fact in (detail or {}).items()}
    moment = clock(session)
    row = AuditEntry(
        at=moment,
        actor_kind=actor.kind,
        actor=_line(actor.name, LONGEST["actor"]),
        token_id=actor.token,
        address=_line(actor.address, LONGEST["address"]),
        request=_line(actor.request, LONGEST["request"]),
        action=action,
        subject=_line(subject, LONGEST["subject"]),
        outcome=outcome,
        detail=facts,
    )
    if outcome is Outcome.UNCHANGED and _was_recorded(session, row):
        return
    session.add(row)
    session.info.setdefault(AFTER_COMMIT, []).append(partial(_tell, row))


def entries(
    since: datetime | None = None,
    until: datetime | None = None,
    actor: str | None = None,
    action: str | None = None,
    subject: str | None = None,
) -> Select[AuditEntry]:
    """Rows that match all filters.

    ``action`` is one action or the common noun of several (``alias``); ``subject`` is one subject or its kind
    (``evaluation``).
    """
    filters: list[ColumnElement[bool]] = []
    if since is not None:
        filters.append(AuditEntry.at >= since)
    if until is not None:
        filters.append(AuditEntry.at < until)
    if actor is not None:
        filters.append(AuditEntry.actor == actor)
    if action is not None:
        filters.append(_is_or_begins(AuditEntry.action, action, "."))
    if subject is not None:
        filters.append(_is_or_begins(AuditEntry.subject, subject, " "))
    return select(AuditEntry).where(*filters)


def prune(database: Database, before: datetime) -> int:
    """Delete rows older than a time, which is itself recorded; return their number."""
    with database.write() as session:
        old = AuditEntry.at < before
        count = session.scalar(select(func.count()).select_from(AuditEntry).where(old)) or 0
        if count:
            session.execute(delete(AuditEntry).where(old))
            facts: dict[str, Fact] = {"rows": count, "before": before.isoformat(timespec="seconds")}
            record(session, Action.AUDIT_PRUNE, "audit", facts)
        return count


def _was_recorded(session: Session, row: AuditEntry) -> bool:
    """Whether the same action of the same actor was recorded within the last minute."""
    same = select(AuditEntry.id).where(
        AuditEntry.subject == row.subject,
        AuditEntry.action == row.action,
        AuditEntry.actor == row.actor,
        AuditEntry.token_id.is_(None) if row.token_id is None else AuditEntry.token_id == row.token_id,
        AuditEntry.outcome == row.outcome,
        AuditEntry.at > row.at - AGAIN,
    )
    return session.scalar(same.limit(1)) is not None


def _tell(row: AuditEntry) -> None:
    place = f" from {row.address}" if row.address else ""
    facts = logs.fields(
        action=row.action,
        subject=row.subject,
        outcome=row.outcome,
        actor_kind=row.actor_kind,
        actor=row.actor,
        token_id=row.token_id,
        address=row.address,
        detail=row.detail,
    )
    said = row.action, row.subject, row.outcome, row.actor_kind, row.actor, place
    log.info("%s of %s is %s, by %s %r%s", *said, extra=facts)


def _is_or_begins(column: InstrumentedAttribute[str], wanted: str, separator: str) -> ColumnElement[bool]:
    if separator in wanted:
        return column == wanted  # which uses an index
    return or_(column == wanted, column.startswith(f"{wanted}{separator}", autoescape=True))


def _line(text: str, most: int) -> str:
    """One line of at most ``most`` characters, without passwords."""
    shown = one_line(redacted(text[: most + 500]))
    return shown if len(shown) <= most else shown[: most - 1] + "…"


def _user() -> str:
    try:
        import pwd
    except ImportError:  # Windows
        return getpass.getuser()
    try:
        return pwd.getpwuid(os.getuid()).pw_name  # which, unlike the environment, a user cannot set
    except KeyError:  # as in a container
        return f"uid {os.getuid()}"
