"""Which suite a name means: one rule for commands, HTTP API, gates and Python."""

from __future__ import annotations

from pathlib import Path

from evalsvc.core.errors import InputError
from evalsvc.inputs.suites import Suite, is_shipped, load_suite, parse_suite
from evalsvc.plugins.registry import Plugins
from evalsvc.store import queries
from evalsvc.store.session import Database


def resolve_suite(
    named: str, database: Database, plugins: Plugins, *, reference: str | None = None, folder: Path = Path()
) -> Suite:
    """The suite with this name: a file, else a shipped suite, else a stored suite.

    A name that ends in ``.yaml`` or ``.yml`` is a file, searched for in ``folder`` first. ``reference`` fills in the
    reference of a suite that has none; ``None`` leaves it open.

    Raises:
        InputError: there is no such suite, the reference is incompatible, or several stored versions exist and none is
            named: a client that submits a new version must not thereby choose the version for others.
    """
    if _is_file(named):
        beside = folder / named
        suite = load_suite(str(beside if beside.is_file() else named), plugins)
    else:
        stored = _stored_suite(named, database, plugins) if needs_store(named) else None
        suite = stored or load_suite(named, plugins)
    return suite if reference is None else suite.on(reference)


def needs_store(named: str) -> bool:
    """Whether only the store may have this suite: its name is neither a file's nor that of a shipped suite."""
    return not _is_file(named) and not is_shipped(named)


def _is_file(named: str) -> bool:
    return named.endswith((".yaml", ".yml"))


def _stored_suite(named: str, database: Database, plugins: Plugins) -> Suite | None:
    with database.read() as session:
        versions = queries.suite_versions(session, named)
        body = queries.suite_body(session, named)
    if len(versions) > 1:
        listed = ", ".join(f"{named}@{version}" for version in versions)
        raise InputError(f"suite {named!r} has several versions: name one of {listed}")
    return None if body is None else parse_suite(body, f"suite {named}", plugins)
