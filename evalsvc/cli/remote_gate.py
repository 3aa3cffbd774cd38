"""``evalsvc --server URL gate run``: a decision on scores stored on the server."""

from __future__ import annotations

import typer

from evalsvc.api.schemas import GateOptions
from evalsvc.cli.backends.server import Server, local_digest
from evalsvc.cli.console import print_json
from evalsvc.cli.gate import PolicyFile, say_notices, show_decision, unavailable_exits_6
from evalsvc.cli.options import AsJson, takes
from evalsvc.core.errors import InputError


@takes(GateOptions)
def run(context: typer.Context, policy: PolicyFile, asked: GateOptions, as_json: AsJson = False) -> None:
    """Judge scores stored on the server; exit codes as without --server."""
    server = context.obj
    assert isinstance(server, Server)
    candidate = None if asked.candidate is None else local_digest(asked.candidate)
    try:
        found = server.client.gate(policy, candidate, seed=asked.seed, shadow=asked.shadow, warn_only=asked.warn_only)
    except OSError as error:
        raise InputError(f"policy {policy} cannot be read ({error.strerror})") from None
    body = found.model_dump(mode="json")
    with unavailable_exits_6():
        if as_json:
            say_notices(body)
            print_json(body)
        else:
            baseline = {"rule": found.baseline} if found.baseline else None
            show_decision(found.id, body | {"baseline": baseline})
    raise typer.Exit(0 if found.shadow else found.exit_code)
