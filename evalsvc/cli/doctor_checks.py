"""Checks of the installation; each finding has a way out."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from evalsvc.core.errors import EvalsvcError, first_line
from evalsvc.core.observability.redaction import redacted
from evalsvc.core.programs.process import refusal
from evalsvc.core.secret_keys import SecretKeys
from evalsvc.core.settings import Settings
from evalsvc.evaluation.progress import workers
from evalsvc.inputs import published_weights, torch_loader
from evalsvc.plugins.registry import Plugins
from evalsvc.store.artifacts import open_artifacts
from evalsvc.store.session import HEAD, Database, clock
from evalsvc.store.sqlite import file_of
from evalsvc.store.tables import Evaluation, Status, Webhook
from evalsvc.store.urls import parse_url, shown

GIGABYTE = 2**30
LITTLE, TIGHT = 1 * GIGABYTE, 10 * GIGABYTE
"""Free bytes below which nothing, or not much more, can be stored."""
NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")
LONG = 3600
"""Seconds of waiting for a worker that are unusual."""


class Level(StrEnum):
    """The result of a check; skipped checks have none."""

    OK = "ok"
    WARNING = "warning"
    BROKEN = "broken"


@dataclass(frozen=True)
class Finding:
    """One checked thing, its level, and a sentence about it."""

    thing: str
    level: Level
    detail: str


def examine(settings: Settings, plugins: Plugins) -> Iterator[Finding]:
    """Run all checks, quick ones first; checks that depend on a failed one are skipped."""
    yield from _store(settings)
    yield from _disk(settings)
    yield from _artifacts(settings)
    yield from _loading()
    yield from _programs()
    yield from _devices()
    yield from _weights()
    yield from _plugins(plugins)


def _store(settings: Settings) -> Iterator[Finding]:
    started = time.perf_counter()
    try:
        database = Database(settings.database)
        with database.read() as session:
            took = (time.perf_counter() - started) * 1e3
            damage = _damage(session)
            queue = _queue(session)
            webhooks = _webhooks(session, settings.secret_keys)
    except EvalsvcError as error:
        yield Finding("database", Level.BROKEN, str(error))
        return
    where = shown(database.engine.url)
    if damage:
        yield Finding("database", Level.BROKEN, f"{where} is damaged ({damage}): restore a backup")
    elif database.read_only:
        yield Finding("database", Level.WARNING, f"{where} is read-only ({database.read_only})")
    else:
        yield Finding("database", Level.OK, f"{where} responds within {took:.0f} ms")
    yield Finding("migrations", Level.OK, f"revision {HEAD}, the latest of this version")
    yield queue
    yield from webhooks
    yield from _readers(file_of(parse_url(settings.database)))


def _damage(session: Session) -> str:
    """The damage that SQLite finds when it reads its whole file."""
    if session.get_bind().dialect.name != "sqlite":
        return ""
    said = str(session.execute(text("PRAGMA quick_check(1)")).scalar_one())
    return "" if said == "ok" else said.partition("\n")[0]


def _queue(session: Session) -> Finding:
    waiting = select(func.count(), func.min(Evaluation.requested_at))
    count, oldest = session.execute(waiting.where(Evaluation.status == Status.QUEUED, Evaluation.on_queue)).one()
    slots = sum(worker.role == "slot" for worker in workers(session))
    age = max(0.0, (clock(session) - oldest).total_seconds()) if oldest else 0.0
    detail = f"running slots: {slots}; waiting evaluations: {count}, the oldest for {age:.0f} s"
    if count and not slots:
        return Finding("queue", Level.BROKEN, f"{detail}: start 'evalsvc worker'")
    if age > LONG:
        return Finding("queue", Level.WARNING, f"{detail}: add workers, or check 'evalsvc status'")
    return Finding("queue", Level.OK, detail)


def _webhooks(session: Session, keys: SecretKeys) -> list[Finding]:
    rows = session.scalars(select(Webhook).order_by(Webhook.id)).all()
    stored = [row.id for row in rows if row.salt is None]
    unsigned = [row.id for row in rows if row.salt is not None and row.key not in keys.names]
    older = [row.id for row in rows if row.salt is not None and row.key in keys.names[1:]]
    found = []
    if unsigned:
        detail = f"EVALSVC_SECRET_KEY lacks the key of {_numbered(unsigned)}: add it to deliver their messages"
        found.append(Finding("webhooks without key", Level.BROKEN, detail))
    if stored:
        way_out = "create them again and delete these" if keys else "set EVALSVC_SECRET_KEY and create them again"
        detail = f"the database contains the secrets of {_numbered(stored)}: {way_out}"
        found.append(Finding("webhook secrets", Level.WARNING, detail))
    if older:
        detail = f"receivers of {_numbered(older)} may still use older secrets: use 'POST /webhooks/ID/secret'"
        found.append(Finding("webhook keys", Level.WARNING, f"{detail}, then remove the older keys"))
    return found


def _numbered(ids: Sequence[int]) -> str:
    return f"webhook{'s' if len(ids) > 1 else ''} {', '.join(map(str, ids))}"


def _readers(database: Path | None) -> Iterator[Finding]:
    """Warn about a database file that other users of the machine can read, as older versions created it."""
    if database and database.stat().st_mode & 0o004 and database.parent.stat().st_mode & 0o001:
        yield Finding(
            "file mode", Level.WARNING, f"all users of this machine can read {database}: chmod 600 it and its -wal"
        )


def _disk(settings: Settings) -> Iterator[Finding]:
    folder = settings.home.resolve()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    level = Level.BROKEN if free < LITTLE else Level.WARNING if free < TIGHT else Level.OK
    way_out = "" if level is Level.OK else ": free some space, or set EVALSVC_HOME or EVALSVC_ARTIFACTS to another disk"
    yield Finding("disk", level, f"{free / GIGABYTE:.1f} GB free under {settings.home.resolve()}{way_out}")


def _artifacts(settings: Settings) -> Iterator[Finding]:
    where, started = settings.artifacts or settings.home.resolve() / "artifacts", time.perf_counter()
    try:
        artifacts = open_artifacts(settings)
        artifacts.write_bytes(".doctor", b"written by evalsvc doctor")
        artifacts.remove(".doctor")
    except EvalsvcError as error:
        yield Finding("artifacts", Level.BROKEN, str(error))
        return
    took = (time.perf_counter() - started) * 1e3
    yield Finding("artifacts", Level.OK, f"{redacted(str(where))} is writable ({took:.0f} ms)")


def _loading() -> Iterator[Finding]:
    try:
        reached = torch_loader.reachable()
    except EvalsvcError as error:
        yield Finding("checkpoints", Level.BROKEN, str(error))
        return
    if reached:
        detail = f"the loader process can access {reached}: allow it seccomp filters, Landlock or user namespaces"
        yield Finding("checkpoints", Level.WARNING, detail)
    else:
        yield Finding("checkpoints", Level.OK, "loaded by a process that can access only the file")


def _programs() -> Iterator[Finding]:
    if reason := refusal():
        yield Finding("programs", Level.WARNING, reason)
    else:
        yield Finding("programs", Level.OK, "programs of models run in namespaces")


def _devices() -> Iterator[Finding]:
    import torch

    cards = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    names = [*cards, *(["mps"] if torch.backends.mps.is_available() else [])]
    for name in [*names, "cpu"]:
        try:
            x = torch.ones(64, 64, device=name)
            correct = bool((x @ x == 64).all())
            detail = _card(name) if name in cards else f"{torch.get_num_threads()} threads"
        except RuntimeError as error:
            yield Finding(name, Level.BROKEN, f"it cannot compute ({first_line(error)})")
            continue
        yield Finding(
            name, Level.OK if correct else Level.BROKEN, detail if correct else "it computes incorrect products"
        )
    driver, build = _nvidia_driver(), torch.version.cuda
    if cards and driver:
        yield Finding("driver", Level.OK, f"NVIDIA {driver}, torch for CUDA {build}")
    elif not names and driver and not build:
        detail = f"NVIDIA driver {driver} is here, but this torch computes on the CPU only: install torch for CUDA"
        yield Finding("gpu", Level.WARNING, detail)
    elif not names and driver:
        detail = f"torch for CUDA {build} finds no GPU with NVIDIA driver {driver}"
        yield Finding("gpu", Level.WARNING, f"{detail}: check CUDA_VISIBLE_DEVICES, or update the driver")
    elif not names:
        yield Finding("gpu", Level.WARNING, "torch finds no GPU: evaluations run on the CPU")


def _card(name: str) -> str:
    """Facts about a card as torch reports them; the name of a MIG instance has its size."""
    import torch

    free, total = torch.cuda.mem_get_info(name)
    major, minor = torch.cuda.get_device_capability(name)
    kind = f"{torch.cuda.get_device_name(name)}, compute capability {major}.{minor}"
    return f"{kind}, {free / GIGABYTE:.1f} of {total / GIGABYTE:.1f} GB free"


def _nvidia_driver() -> str:
    """Version of the loaded driver of NVIDIA, or nothing."""
    try:
        found = re.search(r"Kernel Module.*?\s(\d+(?:\.\d+)+)\s", NVIDIA_DRIVER.read_text())
    except OSError:
        return ""
    return found[1] if found else ""


def _weights() -> Iterator[Finding]:
    found = {each.name: published_weights.status(each) for each in published_weights.WEIGHTS.values()}
    here = [name for name, status in found.items() if status is published_weights.Status.PRESENT]
    absent = [name for name, status in found.items() if status is published_weights.Status.ABSENT]
    detail = f"{', '.join(here) or 'none'} here"
    if absent:
        detail += (
            f"; missing: {', '.join(absent)}, downloaded on first use ('evalsvc weights fetch' downloads them now)"
        )
    yield Finding("weights", Level.OK, detail)
    for name in found.keys() - {*here, *absent}:
        path = published_weights.find(published_weights.get(name))
        yield Finding(f"weights {name}", Level.BROKEN, f"{path} differs from the published file: delete it")


def _plugins(plugins: Plugins) -> Iterator[Finding]:
    names = sorted({(plugin.kind, plugin.name) for plugin in plugins})
    broken = []
    for kind, name in names:
        try:
            plugins.get(kind, name).load()
        except EvalsvcError as error:
            broken.append(Finding(f"{kind.removesuffix('s')} {name}", Level.BROKEN, str(error)))
    yield Finding("plug-ins", Level.OK, f"{len(names) - len(broken)} load")
    yield from broken
