"""``rescore``: new errors, and new versions of metrics, for stored evaluations."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from evalsvc.cli.console import err, out, print_json, table
from evalsvc.cli.options import AsJson, Device, PluginFiles
from evalsvc.cli.progress_bars import progress_bars
from evalsvc.core.settings import Settings


def rescore(
    suite: Annotated[str | None, typer.Option(help="Only evaluations under this suite.")] = None,
    device: Device = "auto",
    plugin: PluginFiles = None,
    as_json: AsJson = False,
) -> None:
    """Find scores and errors of all current evaluations again, from their stored arrays: nothing is drawn. Values
    change only where the version of a metric rose.
    """
    from evalsvc.evaluation.context import EvaluationContext
    from evalsvc.evaluation.rescoring import rescore_stored
    from evalsvc.plugins.registry import Plugins

    with progress_bars() as show:
        context = EvaluationContext(Settings(), Plugins(tuple(plugin or ())), device, progress=show.stage)
        found = list(rescore_stored(context, suite))
    if as_json:
        print_json([asdict(each) for each in found])
        return
    left = [each for each in found if each.now is None]
    if left:
        made = table("not scored again", "checkpoint", "suite", "seed", "reason")
        for each in left:
            made.add_row(each.name, each.suite, str(each.seed), each.reason)
        out.print(made)
    new = sum(each.now not in (None, each.evaluation) for each in found)
    err.print(f"{new} evaluations scored again, {len(found) - new - len(left)} up to date, {len(left)} not")
