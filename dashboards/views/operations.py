"""Page "Operations": queue, workers, progress and failures, updated continuously."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import streamlit as st

from evalsvc.core.errors import InputError
from evalsvc.dashboards import context
from evalsvc.dashboards.formatting import grid, heading, html, safe
from evalsvc.dashboards.i18n import say
from evalsvc.evaluation import lifecycle, progress
from evalsvc.evaluation.progress import Progress
from evalsvc.store import status_queries
from evalsvc.store.session import Database, clock
from evalsvc.store.tables import IN_PROGRESS, WORKING, Scope, Status, WorkerStatus

BARS = 20
FAILURES = 50


def page() -> None:
    """Render the page."""
    heading(say("operations.title"), say("operations.note"))
    live()
    failures()


@st.fragment(run_every=1)
def live() -> None:
    """Render everything that changes; refreshed every second."""
    with context.read_transaction() as session:
        now = clock(session)
        counts = status_queries.counts(session)
        running = progress.progress(session, statuses=list(IN_PROGRESS), limit=BARS)
        finished = progress.progress(session, statuses=[Status.SUCCEEDED], limit=5)
        workers = progress.workers(session, list(WorkerStatus))
        waiting = status_queries.oldest_waiting(session)
    alive = [w for w in workers if w.status in WORKING]
    columns = st.columns(5)
    columns[0].metric(say("operations.queued"), counts.get(Status.QUEUED, 0), border=True)
    columns[1].metric(say("operations.running"), counts.get(Status.RUNNING, 0), border=True)
    columns[2].metric(say("operations.oldest"), ago(now, waiting), border=True)
    columns[3].metric(say("operations.workers"), sum(w.role == "slot" for w in alive), border=True)
    columns[4].metric(say("operations.failed"), counts.get(Status.FAILED, 0), border=True)
    if counts.get(Status.QUEUED, 0) and not alive:
        st.warning(say("operations.nobody"), icon=":material/warning:")
        st.code("evalsvc worker", language="bash", wrap_lines=True)
    st.header(say("operations.progress"), anchor=False)
    if not running:
        st.caption(say("operations.idle"))
    for run in reversed(running):
        _bar(run, now)
    if finished:
        st.header(say("operations.finished"), anchor=False)
        grid(
            [
                {
                    say("common.checkpoint"): run.name,
                    say("common.suite"): run.suite,
                    say("operations.when"): ago(now, run.finished_at),
                }
                for run in finished
            ],
            alt=say("operations.finished"),
        )
    if workers:
        st.header(say("operations.workers"), anchor=False)
        grid(
            [
                {
                    say("operations.worker"): worker.id,
                    say("operations.role"): worker.role,
                    say("operations.host"): worker.host,
                    say("operations.device"): worker.device,
                    say("operations.state"): worker.status,
                    say("operations.heard"): ago(now, worker.seen_at),
                    say("operations.at_work"): worker.evaluation_id,
                }
                for worker in workers
            ],
            alt=say("operations.workers"),
        )


def _bar(run: Progress, now: datetime) -> None:
    left, middle, right = st.columns([2, 5, 1], vertical_alignment="center")
    left.html(_name(run))
    stages = ", ".join(f"{name} {stage.done:,} / {stage.due:,}" for name, stage in run.stages.items())
    since = ago(now, run.started_at or run.requested_at)
    middle.progress(
        min(1.0, run.fraction), f"{say(f'operations.{run.status}')} · {run.fraction:.0%} · {safe(stages)} · {since}"
    )
    if right.button(
        say("operations.cancel"),
        key=f"cancel.{run.id}",
        disabled=not context.has_scope(Scope.SUBMIT),
        icon=":material/cancel:",
    ):
        act(lifecycle.cancel, run.id)


def failures() -> None:
    """Failed evaluations by failure class, with a retry button."""
    with context.read_transaction() as session:
        classes = status_queries.failure_classes(session)
        failed = progress.progress(session, statuses=[Status.FAILED, Status.CANCELLED], limit=FAILURES)
    st.header(say("operations.failures"), anchor=False)
    if not failed:
        st.caption(say("operations.no_failures"))
        return
    if classes:  # canceled evaluations have no class, and Streamlit rejects empty HTML
        st.html(
            "".join(
                f'<span class="ev-chip">{html(say(f"operations.class_{name}"))} · {count}</span>'
                for name, count in classes.items()
            )
        )
    for run in failed:
        left, middle, right = st.columns([2, 5, 1], vertical_alignment="center")
        left.html(_name(run))
        kind = say(f"operations.class_{'cancelled' if run.status == Status.CANCELLED else run.failure or 'unknown'}")
        middle.html(f'<span class="ev-chip">{html(kind)}</span>{html(run.error or "", 500)}')
        if right.button(
            say("operations.retry"),
            key=f"retry.{run.id}",
            disabled=not context.has_scope(Scope.SUBMIT),
            icon=":material/replay:",
        ):
            act(lifecycle.retry, run.id)


def _name(run: Progress) -> str:
    return f'<span class="ev-name">{html(run.name)}</span><br><small>{html(run.suite)} · #{run.id}</small>'


def act(change: Callable[[Database, int], object], evaluation: int) -> None:
    """Apply a change and rerun the page."""
    try:
        change(context.writable_store(), evaluation)
    except InputError as error:
        st.error(safe(error, 500))
        return
    st.rerun()


def ago(now: datetime, then: datetime | None) -> str:
    """Elapsed time, as ``12 s``, ``3 min``, ``5 h`` or ``2 d``."""
    if then is None:
        return "–"
    seconds = max(0, int((now.astimezone(UTC) - then).total_seconds()))
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


page()
