"""Quotas of tokens: bytes of uploads, places in the queue, device seconds. Tokens with the same name share a quota.

The operator sets limits under ``limits`` in the server file. A day is a UTC day by the clock of the database.
Evaluations from the command line are not limited.
"""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from evalsvc.core.errors import QuotaError
from evalsvc.inputs.server_file import Quota
from evalsvc.store import audit
from evalsvc.store.session import clock, get_or_insert
from evalsvc.store.tables import ActorKind, Evaluation, QuotaUse, Status, UploadUse

ABANDONED = timedelta(days=1)
"""Time after which an unfinished upload counts as interrupted."""


def admit(session: Session) -> str | None:
    """Check that the current actor may queue another evaluation; return the name of its token, or ``None``.

    Raises:
        QuotaError: the token has too many queued evaluations, or no device time left today.
    """
    actor = audit.current()
    if actor.kind is not ActorKind.TOKEN:
        return None
    quota, used, moment = _quota(actor.name), _used(session, actor.name), clock(session)
    if quota.queued is not None:
        waiting = select(func.count()).where(Evaluation.token == actor.name, Evaluation.status == Status.QUEUED)
        count = session.scalar(waiting) or 0
        if count >= quota.queued:
            ends = "one of them starts or is canceled"
            raise _used_up("queued", actor.name, f"{count} evaluations are waiting", ends, timedelta(minutes=1))
    most = quota.device_seconds_a_day
    if most is not None and used.device_seconds >= most:
        raise _today("device_seconds_a_day", actor.name, f"{used.device_seconds:.0f} of {most:.0f} seconds", moment)
    return actor.name


def charge(session: Session, token: str | None, seconds: float) -> None:
    """Charge device time to a token; running evaluations continue beyond the quota."""
    if token is not None:
        _used(session, token).device_seconds += seconds


def begin_upload(session: Session, token: str, announced: int, uploads: Path) -> int:
    """Start an upload of this many bytes, 0 if unknown; return its number.

    Raises:
        QuotaError: the upload exceeds the quota.
    """
    moment = clock(session)
    mine = select(UploadUse).where(UploadUse.token == token).order_by(UploadUse.id)
    for row in session.scalars(mine).all():
        if row.digest is None and row.created_at < moment - ABANDONED:
            session.delete(row)
        elif row.digest is not None and not (uploads / row.digest).exists():
            session.delete(row)  # it was removed by a sweep
    new = UploadUse(token=token, digest=None, bytes=0, created_at=moment)
    session.add(new)
    session.flush()
    _check_upload(session, token, announced, moment)
    return new.id


def count_upload(session: Session, number: int, token: str, size: int) -> None:
    """Count received bytes, for the day and for the storage.

    Raises:
        QuotaError: they exceed the quota of the token.
    """
    used = _used(session, token)  # locked first, so that concurrent uploads of a token count each other
    _check_upload(session, token, size, clock(session))
    used.upload_bytes += size
    if row := session.get(UploadUse, number):
        row.bytes += size


def end_upload(session: Session, number: int, digest: str | None) -> None:
    """Register an upload under its digest, once per token; an upload without a digest failed."""
    row = session.get(UploadUse, number)
    if row is None:
        return
    same = select(UploadUse.id).where(UploadUse.token == row.token, UploadUse.digest == digest)
    if digest is None or session.scalar(same) is not None:
        session.execute(delete(UploadUse).where(UploadUse.id == number))
    else:
        row.digest = digest


def _check_upload(session: Session, token: str, size: int, moment: datetime) -> None:
    quota, used = _quota(token), _used(session, token)
    if quota.uploads_a_day is not None and used.upload_bytes + size > quota.uploads_a_day:
        amount = f"{used.upload_bytes} of {int(quota.uploads_a_day)} bytes"
        raise _today("uploads_a_day", token, amount, moment)
    if quota.uploads_kept is not None:
        kept = session.scalar(select(func.sum(UploadUse.bytes)).where(UploadUse.token == token)) or 0
        if kept + size > quota.uploads_kept:
            ends = "the operator's 'evalsvc cache sweep' removes unused uploads"
            amount = f"{kept} of {int(quota.uploads_kept)} bytes are stored"
            raise _used_up("uploads_kept", token, amount, ends, timedelta(hours=1))


def _quota(token: str) -> Quota:
    from evalsvc.inputs.server_file import server_file  # it contains the limits

    return server_file().limits.of(token)


def _used(session: Session, token: str) -> QuotaUse:
    """Usage of a token today, locked until the end of the transaction."""
    day = clock(session).date().isoformat()
    today = select(QuotaUse).where(QuotaUse.token == token, QuotaUse.day == day)
    get_or_insert(session, today, QuotaUse(token=token, day=day, device_seconds=0.0, upload_bytes=0))
    return session.scalars(today.with_for_update().execution_options(populate_existing=True)).one()


def _today(quota: str, token: str, amount: str, moment: datetime) -> QuotaError:
    midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    return _used_up(quota, token, amount, f"it is reset at {midnight:%Y-%m-%d %H:%M} UTC", midnight - moment)


def _used_up(quota: str, token: str, amount: str, ends: str, after: timedelta) -> QuotaError:
    until = ends if ends.startswith("it ") else f"it ends when {ends}"
    message = f"quota {quota} of token {token!r} is used up ({amount}): {until}"
    return QuotaError(message, math.ceil(after.total_seconds()))
