"""Open a policy with everything that its decision needs, for commands, promotion and the pytest plug-in."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from evalsvc.core.settings import Settings
from evalsvc.evaluation.context import EvaluationContext
from evalsvc.evaluation.suite_resolution import resolve_suite
from evalsvc.gates.candidate import RequestedCandidate
from evalsvc.gates.policy import Policy, load_policy
from evalsvc.gates.resolution import labels_of
from evalsvc.gates.runner import Recorded
from evalsvc.gates.several import run_policy
from evalsvc.inputs.suites import Suite
from evalsvc.plugins.registry import Plugins
from evalsvc.store.session import Database, database_time


@dataclass(frozen=True)
class OpenGate:
    """A policy that fits its suites. ``context`` is ``None`` if nothing is computed."""

    policy: Policy
    suites: tuple[Suite, ...]
    database: Database
    plugins: Plugins
    context: EvaluationContext | None

    def decide(self, candidate: RequestedCandidate | None = None, **more: Any) -> Recorded:
        """Decide and store a gate per suite; ``more`` are the keywords of :func:`evalsvc.gates.runner.run_gate`.

        Without a ``candidate`` the policy names it.
        """
        if candidate is not None:
            more["candidate"] = partial(candidate.find, self.suites[0], self.database, self.plugins, self.context)
        return run_policy(
            self.policy,
            self.database,
            self.suites,
            self.context,
            plugins=self.plugins,
            open_context=lambda: EvaluationContext(Settings(), self.plugins, "cpu"),
            **more,
        )


def open_gate(path: Path, plugins: Plugins, device: str | None, batch_size: int = 250) -> OpenGate:
    """Read a policy and check it against its suites; a ``device`` opens a context that computes.

    Raises:
        InputError: the policy is invalid, names an unknown suite, does not fit its suite, or has an expired waiver.
    """
    policy = load_policy(path)
    context = None if device is None else EvaluationContext(Settings(), plugins, device, batch_size)
    database = context.database if context else Database(Settings().database)
    policy.check_waivers(database_time(database).date())
    suites = tuple(resolve_suite(part.suite, database, plugins, folder=path.parent) for part in policy.parts)
    for part, suite in zip(policy.parts, suites, strict=True):
        labels_of(part, suite)
    return OpenGate(policy, suites, database, plugins, context)
