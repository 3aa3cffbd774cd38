"""``audit``: who did what."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from evalsvc.cli.console import err, out, print_json, table
from evalsvc.core.errors import InputError
from evalsvc.core.settings import Settings
from evalsvc.store import audit
from evalsvc.store.session import Database, database_time
from evalsvc.store.tables import AuditEntry

app = typer.Typer(help="Who did what: every change, with its actor.", invoke_without_command=True)

COLUMNS = ("at", "actor", "action", "subject", "outcome", "detail", "address", "request")
UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
AGO = re.compile(r"([0-9]{1,6})([mhdw])")


@app.callback()
def listed(
    context: typer.Context,
    since: Annotated[str, typer.Option(help="Only from this moment on: 2026-11-28T15:00, or 24h, 7d ago.")] = "",
    until: Annotated[str, typer.Option(help="Only before this moment.")] = "",
    actor: Annotated[str | None, typer.Option(help="Name of a token or a user.")] = None,
    action: Annotated[str | None, typer.Option(help="Such as alias.move, or alias for all about aliases.")] = None,
    subject: Annotated[str | None, typer.Option(help="Such as 'evaluation 7', or evaluation for all of them.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Changes, the newest first: when, who, what, to what, how it ended."""
    if context.invoked_subcommand is not None:
        return
    if action is not None and not any(each == action or each.startswith(f"{action}.") for each in audit.Action):
        raise InputError(f"there is no action {action!r}: use one of {', '.join(audit.Action)}")
    database = Database(Settings().database)
    now = database_time(database)
    wanted = audit.entries(moment(since, now), moment(until, now), actor, action, subject)
    with database.read() as session:
        rows = session.scalars(wanted.order_by(AuditEntry.id.desc()).limit(limit)).all()
    if as_json:
        keys = [column.key for column in AuditEntry.__table__.columns]
        print_json([{key: getattr(row, key) for key in keys} | {"at": row.at.isoformat()} for row in rows])
        return
    made = table("audit", *COLUMNS)
    for row in rows:
        who = row.actor if row.token_id is None else f"{row.actor} (token {row.token_id})"
        facts = "  ".join(f"{key} {value}" for key, value in row.detail.items() if value not in (None, ""))
        at = f"{row.at:%Y-%m-%d %H:%M:%S}"
        made.add_row(at, who, row.action, row.subject, row.outcome, facts, row.address, row.request)
    out.print(made if rows else "nothing was recorded")


@app.command("prune")
def prune(
    before: Annotated[str, typer.Option(help="Delete what is older: 2026-01-01, or 365d ago.")],
) -> None:
    """Delete old rows; that it was done is a row itself."""
    database = Database(Settings().database)
    until = moment(before, database_time(database))
    if until is None:
        raise InputError("--before needs a moment: give 2026-01-01, or 365d")
    count = audit.prune(database, until)
    err.print(f"deleted {count} rows from before {until:%Y-%m-%d %H:%M:%S} UTC")


def moment(text: str, now: datetime) -> datetime | None:
    """A moment as a date, a time (UTC unless it says otherwise), or how long before ``now``; ``None`` for no text.

    Raises:
        InputError: it is none of these.
    """
    if not text:
        return None
    try:
        if ago := AGO.fullmatch(text):
            return now - timedelta(**{UNITS[ago[2]]: int(ago[1])})
        found = datetime.fromisoformat(text)
        return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise InputError(f"{text!r} is not a moment: give 2026-11-28, 2026-11-28T15:00, or 7d for a week ago") from None
