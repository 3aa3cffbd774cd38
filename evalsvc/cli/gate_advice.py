"""``gate init`` and ``gate explain``: write a first policy, and explain a decision."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from evalsvc.cli.console import err, out, print_json, styled, table
from evalsvc.cli.gate import unavailable_exits_6
from evalsvc.cli.options import AsJson, PluginFiles
from evalsvc.core.errors import InputError, StorageError
from evalsvc.core.settings import Settings
from evalsvc.store.session import Database


def init(
    policy: Annotated[Path, typer.Argument(help="File to write.")] = Path("evalsvc-gate.yaml"),
    suite: Annotated[str | None, typer.Option(help="Suite; by default the most recently used one.")] = None,
    baseline: Annotated[
        str | None, typer.Option(help="Baseline of releases: an alias or model@step; by default the only alias.")
    ] = None,
    plugin: PluginFiles = None,
) -> None:
    """Write a first policy from stored scores: limits and margins that noise alone rarely breaks."""
    from evalsvc.analysis.runs import stored_runs
    from evalsvc.evaluation.service import resolve_suite
    from evalsvc.gates.first_policy import first_limits, policy_text
    from evalsvc.gates.policy import parse_policy
    from evalsvc.gates.resolution import labels_of
    from evalsvc.inputs import stored_checkpoints
    from evalsvc.plugins.registry import Plugins
    from evalsvc.store import names, queries
    from evalsvc.store.artifacts import open_artifacts
    from evalsvc.store.tables import Alias

    if policy.exists():
        raise InputError(f"{policy} exists: remove it, or choose another file")
    with unavailable_exits_6():
        database = Database(Settings().database)
        with database.read() as session:
            named = queries.pick_suite(session, suite)
            wanted = baseline or _only_alias([row.name for row in queries.aliases(session)])
            row = stored_checkpoints.find(session, wanted)
            title = names.title_of(session, row)
            alias = session.get(Alias, wanted) is not None
        chosen = resolve_suite(named, database, Plugins(tuple(plugin or ())), folder=policy.parent)
        with database.read() as session:
            runs = stored_runs(session, open_artifacts(Settings()), row, chosen.id)
        if not runs:
            raise InputError(f"{title} has no scores under {chosen.id}: score it first")
        count = max(len(each) for each in runs.values())
        told = f"From {count} run{'s' * (count > 1)} of {title} under {chosen.id}."
        if count == 1:
            told += " Scores of more seeds would show the spread between seeds: 'evalsvc gate calibrate'."
        which = f", digest: '{row.digest}'" + (f", options: {json.dumps(row.options)}" if row.options else "")
        which = which if title != f"{row.model.name}@{row.step}" else ""
        rule = f"{{alias: {wanted}}}" if alias else f"{{model: {row.model.name!r}, step: {row.step}{which}}}"
        text = policy_text(chosen, rule, first_limits(chosen, runs), told)
        labels_of(parse_policy(text, str(policy)), chosen)
        try:
            with policy.open("x") as file:
                file.write(text)
        except OSError as error:
            raise StorageError(f"{policy} cannot be written ({error.strerror})") from None
    told = f"wrote {policy}: review it, then try it with 'evalsvc gate run {policy}'"
    err.print(told, soft_wrap=True)


def explain(
    gate: Annotated[int | None, typer.Argument(help="Number of the gate; by default the newest.")] = None,
    as_json: AsJson = False,
) -> None:
    """Explain which limits decided a gate, how many more samples would decide open ones, and what was spent before."""
    from evalsvc.gates.explanation import explain as explained
    from evalsvc.gates.reports.text import notices, stored, title
    from evalsvc.store import names, queries
    from evalsvc.store.tables import Gate

    with unavailable_exits_6(), Database(Settings().database).read() as session:
        newest = queries.gates(session, limit=1)
        row = newest[0] if gate is None and newest else session.get(Gate, gate or 0)
        if row is None:
            raise InputError(f"there is no gate {gate}" if gate else "there are no gate decisions yet")
        name = names.titles_of_gates(session, [row])[row.id]
    document = stored(row)
    limits = explained(document)
    spending: dict[str, Any] = row.evidence.get("spending") or {}
    if as_json:
        body = {"gate": row.id, "candidate": name, "outcome": title(document), "notices": notices(document)}
        print_json(body | {"limits": [asdict(each) for each in limits], "spending": spending})
        return
    made = table(
        f"gate {row.id}: {name} is {title(document)} under {row.suite}",
        "score",
        "limit",
        "status",
        "why",
        "room",
        "more",
    )
    for each in limits:
        more = f"about {each.samples:,} samples; " if each.samples else ""
        room = "" if each.room is None else f"{each.room:.2f}"
        shown = styled(each.metric, "bold" if each.decides else "")
        made.add_row(shown, each.limit, each.status, each.reason, room, more + each.advice)
    out.print(made)
    deciding = [f"{each.metric} ({each.limit})" for each in limits if each.decides]
    out.print(f"decided by {', '.join(deciding) or 'no limit'}: {row.verdict['reason']}", soft_wrap=True)
    for notice in (*notices(document), *row.verdict["warnings"]):
        out.print(f"- {notice}", highlight=False, soft_wrap=True)
    for line in _spent(spending):
        out.print(line, highlight=False, soft_wrap=True)


def _spent(spending: dict[str, Any]) -> list[str]:
    """The share of the level that this decision and earlier ones spent."""
    if not spending:
        return []
    lines = [
        f"repeats gate {spending['repeats']} on the same evidence; nothing was spent"
        if spending["repeats"]
        else f"spent {spending['spent']:.1%} of the level; {spending['spent_before']:.1%} was spent before"
    ]
    for each in spending["earlier"]:
        shadow = ", a shadow gate," if each["shadow"] else ""
        limits = " under other limits" if each["limits_changed"] else ""
        seeds = ", ".join(map(str, each["seeds"]))
        lines.append(f"- gate {each['gate']}{shadow} ({each['at']}) was {each['status']}{limits}; seeds {seeds}")
    return lines


def _only_alias(aliases: list[str]) -> str:
    if "production" in aliases:
        return "production"
    if len(aliases) == 1:
        return aliases[0]
    known = f"there are {', '.join(aliases)}" if aliases else "there are no aliases"
    raise InputError(f"choose the baseline of releases with --baseline: {known}")
