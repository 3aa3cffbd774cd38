"""The candidate of a gate as the user specifies it, and the configuration to judge it in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy.orm import Session

from evalsvc.core.digests import digest_configuration
from evalsvc.core.errors import InputError
from evalsvc.core.settings import Settings
from evalsvc.evaluation import service
from evalsvc.evaluation.earlier_digests import move_earlier
from evalsvc.evaluation.registration import register_checkpoint
from evalsvc.gates.resolution import Unscored, Wanted
from evalsvc.inputs import stored_checkpoints
from evalsvc.inputs.checkpoint_names import Naming
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.inputs.suites import Suite
from evalsvc.plugins.registry import PluginKind, Plugins
from evalsvc.store import names, queries, tables
from evalsvc.store.artifacts import open_artifacts
from evalsvc.store.session import Database

if TYPE_CHECKING:
    from evalsvc.evaluation.context import EvaluationContext


@dataclass(frozen=True)
class RequestedCandidate:
    """A candidate as the user specifies it: a path or a name, and the configuration to judge it in.

    If ``generator`` is omitted, the generator of the stored scores is used, and likewise their options if ``options``
    is omitted. If a generator is given, the configuration of a path is exactly what is given here.
    """

    given: str
    naming: Naming
    generator: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def find(self, suite: Suite, database: Database, plugins: Plugins, context: EvaluationContext | None) -> Wanted:
        """Return the id of the candidate's row, which is added if it is new and a ``context`` is given; otherwise an
        unmatched name or the reason why it is missing.

        Raises:
            InputError: the generator does not exist or does not fit the suite, the step cannot be inferred from a path,
                or the
                name is ambiguous or conflicts with an existing one.
        """
        if self.generator is not None:
            plugins.get(PluginKind.GENERATOR, self.generator)
        path = stored_checkpoints.is_path(self.given)
        if self.naming != Naming() and not (path and self.generator is not None):
            raise InputError(f"--model, --step and their patterns require a path (got {self.given!r}): remove them")
        if path and self.generator is not None:
            opened = service.open_checkpoint(Path(self.given), self.naming, self.generator, plugins)
            return self._row(opened, self.generator, dict(self.options), suite, database, plugins, context)
        if path and self.options:
            raise InputError(f"--option requires --generator if the candidate is a path (got {self.given})")
        with database.read() as session:
            if path:
                return stored_checkpoints.find(session, self.given, plugins).id
            if self.generator is None and not self.options:
                return self.given
            row = self._content(session)
        opened = (
            stored_checkpoints.reopen(row, context.plugins)
            if context
            else Checkpoint(row.model.name, row.step, Path(row.path), row.digest)
        )
        options = dict(self.options) or row.options
        return self._row(opened, self.generator or row.generator, options, suite, database, plugins, context)

    def _content(self, session: Session) -> tables.Checkpoint:
        """The stored checkpoints that are named; options and generator disambiguate a name with several
        configurations.
        """
        alias = session.get(tables.Alias, self.given)
        rows = [alias.checkpoint] if alias else names.matching(session, self.given)
        rows = [row for row in rows if row.generator == self.generator] or rows
        contents = {(row.digest, row.generator if self.generator is None else None) for row in rows}
        if rows and self.options and len(contents) == 1:
            return rows[0]
        return names.only(session, repr(self.given), rows) if rows else names.find(session, self.given)

    def _row(
        self,
        opened: Checkpoint,
        generator: str,
        options: Mapping[str, Any],
        suite: Suite,
        database: Database,
        plugins: Plugins,
        context: EvaluationContext | None,
    ) -> int | Unscored:
        """The row of this content in this configuration."""
        if context is not None:
            spec = service.plan(context, opened, generator, options, suite)
            with context.database.write() as session:
                return register_checkpoint(session, spec)
        plugin = plugins.get(PluginKind.GENERATOR, generator)
        move_earlier(database, lambda: open_artifacts(Settings()), opened, generator)
        configuration = digest_configuration(generator, plugin.recorded_version, plugins.pinned(generator, options))
        with database.read() as session:
            same = queries.known_by_digest(session, opened.model, opened.digest)
            rows = [row for row in same if row.step == opened.step]
            for row in rows:
                if row.configuration == configuration:
                    return row.id
            there = f", only {names.dated(session, rows)}" if rows else ""
        said = ", ".join([f"generator {generator}", *(f"{key}={json.dumps(value)}" for key, value in options.items())])
        reason = (
            f"{self.given} ({opened.model}@{opened.step}#{opened.digest[: names.SHORT]}) has no stored scores with "
            f"{said}{there}: score it with this configuration, or remove --stored"
        )
        return Unscored("missing", reason, opened.model, opened.step, opened.digest)
