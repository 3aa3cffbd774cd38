"""What one token may use: bytes of uploads, places in the queue, seconds of devices. Tokens of one name share a quota.

The limits are the operator's, under ``limits`` in the server file. A day is one of UTC, by the clock of the database.
What is asked for from the command line is the operator's own, and counts for nobody.
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
from evalsvc.store.session import clock, ensured
from evalsvc.store.tables import ActorKind, Evaluation, QuotaUse, Status, UploadUse

ABANDONED = timedelta(days=1)
"""After which an upload that has not ended was cut off with its server."""


def admit(session: Session) -> str | None:
    """Let who acts here queue one evaluation more; the name of their token, ``None`` where it is none.

    Raises:
        QuotaError: as many are queued, or as much device time was used today, as the token may.
    """
    actor = audit.current()
    if actor.kind is not ActorKind.TOKEN:
        return None
    quota, used, moment = _quota(actor.name), _used(session, actor.name), clock(session)
    if quota.queued is not None:
        waiting = select(func.count()).where(Evaluation.token == actor.name, Evaluation.status == Status.QUEUED)
        count = session.scalar(waiting) or 0
        if count >= quota.queued:
            ends = "one of them begins or is cancelled"
            raise _used_up("queued", actor.name, f"{count} evaluations wait", ends, timedelta(minutes=1))
    most = quota.device_seconds_a_day
    if most is not None and used.device_seconds >= most:
        raise _today("device_seconds_a_day", actor.name, f"{used.device_seconds:.0f} of {most:.0f} seconds", moment)
    return actor.name


def charge(session: Session, token: str | None, seconds: float) -> None:
    """Count device time for a token; whatever its quota is, what was begun goes on."""
    if token is not None:
        _used(session, token).device_seconds += seconds


def begin_upload(session: Session, token: str, announced: int, uploads: Path) -> int:
    """Begin an upload of so many bytes, 0 where that is not said; its number.

    Raises:
        QuotaError: there is no room for it.
    """
    moment = clock(session)
    mine = select(UploadUse).where(UploadUse.token == token).order_by(UploadUse.id)
    for row in session.scalars(mine).all():
        if row.digest is None and row.created_at < moment - ABANDONED:
            session.delete(row)
        elif row.digest is not None and not (uploads / row.digest).exists():
            session.delete(row)  # it was swept
    new = UploadUse(token=token, digest=None, bytes=0, created_at=moment)
    session.add(new)
    session.flush()
    _check_upload(session, token, announced, moment)
    return new.id


def count_upload(session: Session, number: int, token: str, size: int) -> None:
    """Count bytes that came, for the day and for what is kept.

    Raises:
        QuotaError: they are more than the token may send.
    """
    used = _used(session, token)  # locked first, so that two uploads of a token see each other
    _check_upload(session, token, size, clock(session))
    used.upload_bytes += size
    if row := session.get(UploadUse, number):
        row.bytes += size


def end_upload(session: Session, number: int, digest: str | None) -> None:
    """Keep what an upload counts for under its digest, once for a token; one without a digest came to nothing."""
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
            ends = "the operator's 'evalsvc cache sweep' removes uploads that nothing uses"
            amount = f"{kept} of {int(quota.uploads_kept)} bytes are kept"
            raise _used_up("uploads_kept", token, amount, ends, timedelta(hours=1))


def _quota(token: str) -> Quota:
    from evalsvc.inputs.server_file import server_file  # which holds the limits

    return server_file().limits.of(token)


def _used(session: Session, token: str) -> QuotaUse:
    """What a token used today, locked until the end of the transaction."""
    day = clock(session).date().isoformat()
    today = select(QuotaUse).where(QuotaUse.token == token, QuotaUse.day == day)
    ensured(session, today, QuotaUse(token=token, day=day, device_seconds=0.0, upload_bytes=0))
    return session.scalars(today.with_for_update().execution_options(populate_existing=True)).one()


def _today(quota: str, token: str, amount: str, moment: datetime) -> QuotaError:
    midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    return _used_up(quota, token, amount, f"it starts anew at {midnight:%Y-%m-%d %H:%M} UTC", midnight - moment)


def _used_up(quota: str, token: str, amount: str, ends: str, after: timedelta) -> QuotaError:
    until = ends if ends.startswith("it ") else f"it ends when {ends}"
    message = f"quota {quota} of token {token!r} is used up ({amount}): {until}"
    return QuotaError(message, math.ceil(after.total_seconds()))
