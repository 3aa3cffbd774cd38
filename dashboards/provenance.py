"""The provenance of an evaluation as readable lines."""

from __future__ import annotations

from typing import Any

from evalsvc.dashboards.formatting import number
from evalsvc.dashboards.i18n import say
from evalsvc.store.tables import Evaluation


def provenance(run: Evaluation) -> dict[str, Any]:
    """Describe the provenance of an evaluation in readable lines."""
    found = run.provenance
    seconds = found.get("seconds", {})
    taken = found.get("samples", {})
    packages = found.get("packages", {})
    return {
        say("common.suite"): f"{run.suite.name}@{run.suite.version}",
        say("checkpoint.taken"): f"{taken['taken']:,} / {taken['of']:,}" if "of" in taken else "–",
        say("checkpoint.weights"): found.get("weights") or "–",
        "seed": found.get("seed"),
        "device": f"{found.get('device')} ({found.get('device_name')})",
        say("checkpoint.took"): ", ".join(f"{stage} {spent:.1f} s" for stage, spent in seconds.items()),
        say("checkpoint.speed"): f"{number(found.get('samples_per_second'))} /s",
        "commit": found.get("git_commit") or "–",
        "python": found.get("python") or "–",
        say("checkpoint.packages"): ", ".join(f"{name} {version}" for name, version in packages.items()),
        "fingerprint": run.fingerprint,
    }
