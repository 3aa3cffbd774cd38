"""``submit``: put evaluations on the queue of this machine or of a server."""

from __future__ import annotations

from typing import Annotated

import typer

from evalsvc.api.schemas import EvaluationOptions
from evalsvc.cli.backends import backend
from evalsvc.cli.checkpoint_arguments import Checkpoints, ModelPattern, StepPattern
from evalsvc.cli.console import err, print_json
from evalsvc.cli.options import AsJson, PluginFiles, takes
from evalsvc.inputs.checkpoint_names import Naming


@takes(EvaluationOptions)
def submit(
    context: typer.Context,
    checkpoints: Checkpoints,
    asked: EvaluationOptions,
    model_pattern: ModelPattern = "",
    step_pattern: StepPattern = "",
    plugin: PluginFiles = None,
    upload: Annotated[
        bool, typer.Option("--upload", help="With --server: upload the files, if you and the server share no disk.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Put evaluations on the queue and print their ids. Queued and scored evaluations are not submitted twice.

    With --server, checkpoints are paths on the server, or endpoint:NAME; with --upload, local files.
    """
    naming = Naming(asked.model or "", asked.step, model_pattern, step_pattern)
    made = backend(context).submit(checkpoints, asked, naming, plugin or (), upload=upload)
    if as_json:
        print_json([each.document for each in made])
        return
    for each in made:
        err.print(each.line)
        typer.echo(each.id)
