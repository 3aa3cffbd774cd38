"""Run a release gate as a test: ``def test_release(evalsvc_gate):
evalsvc_gate("evalsvc-gate.yaml").assert_passed()``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest


@dataclass(frozen=True)
class GateResult:
    """A stored decision: its number, status and document."""

    document: Mapping[str, Any]

    @property
    def status(self) -> str:
        """PASS, FAIL, INCONCLUSIVE, MISSING, NOT_COMPARABLE or ERROR."""
        return str(self.document["verdict"]["status"])

    def assert_passed(self) -> None:
        """Fail the test with the reasons unless the gate passed."""
        from evalsvc.gates.reports.text import plain  # imported on use, as below

        if self.status != "PASS":
            lines = [
                plain(f"{metric['metric']}: {metric['status']}: {metric['reason']}", 2000)
                for metric in self.document["verdict"]["metrics"]
                if metric["blocks"]
            ]
            pytest.fail("\n".join([f"gate {self.document['gate']} is {self.status}", *lines]), pytrace=False)


@pytest.fixture
def evalsvc_gate(request: pytest.FixtureRequest) -> Callable[..., GateResult]:
    """Run a policy file, given relative to the root of the tests.

    ``candidate`` overrides the policy's candidate; ``stored=True`` judges stored scores and computes nothing; ``seed``,
    ``timeout`` and ``device`` are those of ``evalsvc gate run``.
    """

    def gate(
        policy: str | Path,
        *,
        candidate: str | None = None,
        stored: bool = False,
        seed: int | None = None,
        timeout: float | None = None,
        device: str = "auto",
    ) -> GateResult:
        # Imported on use: every test run that has evalsvc installed loads this file, and few ask for the fixture.
        from evalsvc.gates.candidate import RequestedCandidate
        from evalsvc.gates.opening import open_gate
        from evalsvc.inputs.checkpoint_names import Naming
        from evalsvc.plugins.registry import Plugins

        opened = open_gate(request.config.rootpath / policy, Plugins(), None if stored else device)
        asked = RequestedCandidate(candidate, Naming()) if candidate is not None else None
        done = opened.decide(asked, seed=seed, timeout=timeout)
        return GateResult(done.document)

    return gate
