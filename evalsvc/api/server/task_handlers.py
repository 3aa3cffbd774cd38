"""Handlers of tasks. Only task processes import this file, and torch with it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from evalsvc.api import schemas
from evalsvc.core.errors import InputError
from evalsvc.core.names import SERVED
from evalsvc.core.settings import ClientSettings, Settings
from evalsvc.evaluation import lifecycle, registration, service
from evalsvc.evaluation.client_rules import ClientRules
from evalsvc.evaluation.context import EvaluationContext
from evalsvc.evaluation.items import holds_items
from evalsvc.evaluation.suite_prompts import holds_prompts
from evalsvc.gates import promote
from evalsvc.gates.policy import Policy, parse_policy
from evalsvc.gates.resolution import labels_of
from evalsvc.gates.runner import run_gate
from evalsvc.inputs.checkpoint_folders import ENDPOINT, refuse_local_base
from evalsvc.inputs.checkpoint_names import Naming, UnknownStepError
from evalsvc.inputs.suites import Suite, parse_suite
from evalsvc.plugins.registry import Plugins
from evalsvc.store import names


def _left_out(files: Sequence[str]) -> None:
    """Report nothing: skipped files are recorded in the options, and the output of a task is discarded."""


class TaskHandlers:
    """An evaluation context on the CPU, sufficient to plan an evaluation."""

    def __init__(self, plugins: tuple[Path, ...]) -> None:
        self.plugins = Plugins(plugins)

    @property
    def rules(self) -> ClientRules:
        """The operator's current rules on which plug-ins and options clients may use."""
        return ClientRules(self.plugins, ClientSettings().torch_modules)

    @cached_property
    def context(self) -> EvaluationContext:
        """The evaluation context, opened with the first task that needs it."""
        return EvaluationContext(Settings(), self.plugins, "cpu")

    def submit(self, asked: schemas.EvaluationCreate, path: Path | None) -> lifecycle.Submission:
        """Open everything that the evaluation needs, and enqueue it. Plug-ins that clients may not use are not opened.

        Raises:
            ForbiddenError: a plug-in or an option is not open to clients.
        """
        suite = self._suite(asked.suite, asked.reference or "")
        if asked.endpoint is not None:
            path = Path(f"{ENDPOINT}{asked.endpoint}")
        if path is None:
            with self.context.database.read() as session:
                row = names.find(session, asked.checkpoint or "")
                if not registration.is_of_operator(session, row.id):
                    self.rules.check_generator(row.generator, row.options)
            self.rules.require_confined(row.generator, Path(row.path))
            spec = service.plan_stored(self.context, row, suite, asked.seed)
        else:
            generator, options = asked.generator or SERVED, asked.options
            self.rules.check_generator(generator, options)
            self.rules.require_confined(generator, path)
            refuse_local_base(path)
            try:
                opened = service.open_checkpoint(path, Naming(asked.model or "", asked.step), generator, self.plugins)
            except (
                UnknownStepError
            ):  # the original message refers to command-line options and to folders of this server
                raise InputError(f"cannot infer the step from {path.name}: give 'step'") from None
            skipped = _left_out if asked.skip_bad else None
            (spec,) = service.plan_checkpoints(
                self.context, [opened], generator, options, suite, asked.seed, skipped=skipped
            )
        if path is None and row.generator_version not in ("", spec.generator_version):
            raise InputError(
                f"{asked.checkpoint} was scored by version {row.generator_version}, but {spec.generator_version} is "
                "installed: pass 'path', 'generator' and 'options' to evaluate it with the installed version"
            )
        deadlines = lifecycle.Deadlines.model_validate(asked.deadlines.model_dump())
        (submission,) = service.submit(
            self.context, [spec], priority=asked.priority, deadlines=deadlines, rerun=asked.rerun, restricted=True
        )
        return submission

    def decide(self, asked: schemas.DecideGate) -> int:
        """Judge stored scores, and store the decision; return its id."""
        policy, suite = self._policy(asked.policy)
        done = run_gate(
            policy,
            self.context.database,
            suite,
            candidate=asked.candidate,
            seed=asked.seed,
            shadow=asked.shadow,
            warn_only=asked.warn_only,
            plugins=self.plugins,
        )
        return done.id

    def protect(self, alias: str, asked: schemas.Protect, by: str) -> None:
        """Pin a policy that fits its suite to an alias."""
        policy, suite = self._policy(asked.policy)
        labels_of(policy, suite)
        with self.context.database.write() as session:
            promote.protect(session, alias, policy, (suite,), by)

    def _policy(self, given: str | dict[str, Any]) -> tuple[Policy, Suite]:
        policy = parse_policy(given if isinstance(given, str) else json.dumps(given), "in the request")
        if policy.also:
            raise InputError(
                "the policy has several suites: send one policy per suite, or run the gate where the policy is"
            )
        if policy.suite.endswith((".yaml", ".yml")):
            raise InputError(f"the policy refers to its suite by a file ({policy.suite}): use name@version")
        return policy, service.resolve_suite(policy.suite, self.context.database, self.plugins)

    def _suite(self, named: str | dict[str, Any], reference: str = "") -> Suite:
        """A shipped suite, a stored one, or a complete one."""
        if isinstance(named, dict):
            suite = parse_suite(named, "suite", self.plugins).on(reference)
            if known := self._known(suite):
                return suite.model_copy(update={"prompts": known.prompts, "items": known.items})
            kept = holds_items(self.context, suite)
            self.rules.check_suite(suite, holds_prompts(self.context, suite), kept)
            if suite.items and suite.items.file:  # no file that a client names is read
                suite = suite.model_copy(update={"items": suite.items.model_copy(update={"file": "stored"})})
            return suite
        if named.endswith((".yaml", ".yml")):
            raise InputError(f"suite {named!r} is a file name: use name@version")
        return service.resolve_suite(named, self.context.database, self.plugins, reference=reference)

    def _known(self, suite: Suite) -> Suite | None:
        """The stored plug-in settings under that name, if they are the same: the operator approved
        them at that time.
        """
        try:
            known = service.resolve_suite(suite.id, self.context.database, self.plugins)
        except InputError:
            return None
        return known if known.digest == suite.digest else None
