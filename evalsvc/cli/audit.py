"""``audit``: the log of changes."""

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

app = typer.Typer(help="Show and prune the log of changes with their users.", invoke_without_command=True)

COLUMNS = ("at", "actor", "action", "subject", "outcome", "detail", "address", "request")
UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
AGO = re.compile(r"([0-9]{1,6})([mhdw])")


@app.callback()
def listed(
    context: typer.Context,
    since: Annotated[str, typer.Option(help="Only entries from this time on: 2026-11-28T15:00, or 24h, 7d ago.")] = "",
    until: Annotated[str, typer.Option(help="Only entries before this time.")] = "",
    actor: Annotated[str | None, typer.Option(help="Name of a token or a user.")] = None,
    action: Annotated[
        str | None, typer.Option(help="Action, such as alias.move, or alias for all actions on aliases.")
    ] = None,
    subject: Annotated[
        str | None, typer.Option(help="Subject, such as 'evaluation 7', or evaluation for all evaluations.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of entries.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document to stdout.")] = False,
) -> None:
    """List changes, newest first: time, user, action, subject, outcome."""
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
    out.print(made if rows else "no entries")


@app.command("prune")
def prune(
    before: Annotated[str, typer.Option(help="Delete older entries: 2026-01-01, or 365d ago.")],
) -> None:
    """Delete old entries; the deletion itself is recorded."""
    database = Database(Settings().database)
    until = moment(before, database_time(database))
    if until is None:
        raise InputError("--before requires a time: use 2026-01-01, or 365d")
    count = audit.prune(database, until)
    err.print(f"deleted {count} entries from before {until:%Y-%m-%d %H:%M:%S} UTC")


def moment(text: str, now: datetime) -> datetime | None:
    """Parse a time: a date, a date with time (UTC by default), or a duration before ``now``; ``None`` for empty text.

    Raises:
        InputError: the text has another format.
    """
    if not text:
        return None
    try:
        if ago := AGO.fullmatch(text):
            return now - timedelta(**{UNITS[ago[2]]: int(ago[1])})
        found = datetime.fromisoformat(text)
        return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise InputError(f"invalid time {text!r}: use 2026-11-28, 2026-11-28T15:00, or 7d for a week ago") from None
