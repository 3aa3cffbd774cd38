"""``judge``: rate checkpoints by a judge's comparisons of stored samples."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evalsvc.api.schemas import PeopleAndJudge
from evalsvc.cli.browse import SuiteName
from evalsvc.cli.console import out, print_json, table, with_error
from evalsvc.cli.options import AsJson, Device, PluginFiles, parse_options
from evalsvc.cli.people_tables import beside_people, ends
from evalsvc.cli.progress_bars import progress_bars
from evalsvc.core.errors import InputError
from evalsvc.core.settings import Settings
from evalsvc.inputs import stored_checkpoints
from evalsvc.store import audit, names, queries
from evalsvc.store.tables import Status

if TYPE_CHECKING:  # importing torch takes seconds
    from evalsvc.analysis.judge_tournament import Player, Tournament
    from evalsvc.evaluation.context import EvaluationContext
    from evalsvc.evaluation.spec import EvaluationSpec


def judge(
    checkpoints: Annotated[
        list[str], typer.Argument(help="Scored checkpoints: model, model@step, alias, digest or path.")
    ],
    judge: Annotated[str, typer.Option(help="Judge plug-in: llm-judge, preferences, or your own.")],
    option: Annotated[list[str] | None, typer.Option(help="Judge option as key=value; JSON values work.")] = None,
    suite: SuiteName = None,
    samples: Annotated[int, typer.Option(min=1, help="Number of stored samples per checkpoint to compare.")] = 100,
    itself: Annotated[bool, typer.Option("--itself", help="Let a model judge its own answers.")] = False,
    device: Device = "auto",
    plugin: PluginFiles = None,
    as_json: AsJson = False,
) -> None:
    """Rate the texts of checkpoints under a suite: every pair in both orders, Bradley-Terry ratings with intervals."""
    from evalsvc.analysis import people_and_judges
    from evalsvc.analysis.judge_tournament import run_tournament
    from evalsvc.evaluation import opening
    from evalsvc.evaluation.context import EvaluationContext
    from evalsvc.plugins.registry import Plugins

    with progress_bars() as show:
        context = EvaluationContext(Settings(), Plugins(tuple(plugin or ())), device)
        chosen = opening.judge(context, judge, parse_options(option or []))
        prompts, players, stored = _players(context, checkpoints, suite, samples)
        pairs = len(players) * (len(players) - 1) // 2
        found = run_tournament(
            chosen, players, prompts, context.artifacts, itself=itself, advance=show.stage("pairs", pairs)
        )
    with context.database.write() as session:
        people_and_judges.record(session, stored.suite, found, stored.evaluations, stored.samples)
        place_of = {evaluation: place for place, evaluation in enumerate(stored.evaluations)}
        beside = people_and_judges.together(session, stored.suite, place_of)
        named = ", ".join(found.players)
        audit.record(session, audit.Action.JUDGE_RUN, f"judge {found.judge.name}", {"checkpoints": named})
    rows = [
        PeopleAndJudge.model_validate(
            asdict(each) | {"first": found.players[each.first], "second": found.players[each.second]}
        )
        for each in beside
        if each.both and each.judge == found.judge.name[:200]
    ]
    if as_json:
        print_json(_document(found) | {"people": [each.model_dump(mode="json") for each in rows]})
        return
    _print(found)
    if rows:
        out.print(beside_people(rows))


@dataclass(frozen=True)
class _Stored:
    """The suite, the evaluation of each player, and the samples that they answered."""

    suite: str
    evaluations: list[int]
    samples: list[int]


def _players(
    context: EvaluationContext, asked_for: list[str], suite: str | None, samples: int
) -> tuple[list[str], list[Player], _Stored]:
    """The prompts of a suite, and the answers of each checkpoint to those that all answered, sample by sample."""
    from evalsvc.analysis.judge_tournament import Player
    from evalsvc.evaluation.shard_reading import read_texts
    from evalsvc.evaluation.spec import EvaluationSpec

    specs: dict[str, EvaluationSpec] = {}
    evaluations: dict[str, int] = {}
    with context.database.read() as session:
        chosen = queries.pick_suite(session, suite)
        for name in asked_for:
            checkpoint = stored_checkpoints.find(session, name, context.plugins)
            title = names.title_of(session, checkpoint)
            runs = [
                run
                for run in queries.evaluations(session, checkpoint.id)
                if run.status == Status.SUCCEEDED and f"{run.suite.name}@{run.suite.version}" == chosen
            ]
            if not runs:
                raise InputError(f"{title} has no scores under {chosen}: score it first")
            specs[title], evaluations[title] = EvaluationSpec.model_validate(runs[0].spec), runs[0].id
            if specs[title].suite.modality != "text":
                raise InputError(
                    f"judges compare texts, and suite {chosen} scores {specs[title].suite.modality} samples"
                )
    written = {
        title: dict(zip(spec.indices(0, spec.suite.samples).tolist(), read_texts(spec, context), strict=True))
        for title, spec in specs.items()
    }
    shared = set.intersection(*(set(texts) for texts in written.values()))
    first, *others = specs
    indices = [index for index in written[first] if index in shared][:samples]
    if not indices:
        raise InputError(
            f"{' and '.join(specs)} have no stored samples with the same indices: score them again under one suite"
        )
    prompts = _prompts(context, specs[first], indices)
    for title in others:
        if _prompts(context, specs[title], indices) != prompts:
            raise InputError(f"{title} answered other prompts than {first}: compare checkpoints with the same prompts")
    players = [
        Player(
            title,
            tuple(written[title][index] for index in indices),
            frozenset({spec.checkpoint, spec.model, Path(spec.path).name}),
        )
        for title, spec in specs.items()
    ]
    return prompts, players, _Stored(chosen, list(evaluations.values()), indices)


def _prompts(context: EvaluationContext, spec: EvaluationSpec, indices: list[int]) -> list[str]:
    """The prompts of the samples with these indices; empty if they are unknown."""
    from evalsvc.evaluation.items import items_of, places_of
    from evalsvc.plugins.items import text_of

    if (items := items_of(context, spec.suite)) and items.prompts:
        rows = places_of(context, spec, 0, spec.suite.samples)[0] if spec.suite.items else range(len(items))
        return [text_of(items.prompts[rows[index]]) for index in indices]
    return [spec.decoding.prompt_of(index) if spec.decoding else "" for index in indices]


def _document(found: Tournament) -> dict[str, Any]:
    table = found.ratings
    columns = (found.players, table.ranks, table.ratings, table.stderrs, table.ci_low, table.ci_high, table.standings)
    names = ("player", "rank", "rating", "stderr", "ci_low", "ci_high", "standing")
    return {
        "judge": {"name": found.judge.name, "protocol": found.judge.protocol},
        "ratings": [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)],
        "outcomes": [asdict(outcome) for outcome in found.outcomes],
        "tie_chance": table.tie_chance,
        "method": table.method,
        "first_place": found.first_place,
        "judges_itself": list(found.judges_itself),
    }


def _print(found: Tournament) -> None:
    ratings = found.ratings
    made = table(f"ratings by {found.judge.name}", "rank", "player", "rating", "95 %", "", right=("rank", "rating"))
    for place in sorted(range(len(found.players)), key=lambda i: (ratings.ranks[i] or len(found.players) + 1, i)):
        rating = ratings.ratings[place]
        made.add_row(
            str(ratings.ranks[place] or "–"),
            found.players[place],
            with_error(rating, ratings.stderrs[place]) if rating is not None else str(ratings.standings[place]),
            ends(ratings.ci_low[place], ratings.ci_high[place]),
            "judged by itself" if found.players[place] in found.judges_itself else "",
        )
    out.print(made)
    pairs = table("pairs", "first", "second", "wins", "losses", "ties", "contradictions", "unparsed")
    for outcome in found.outcomes:
        pairs.add_row(*(str(value) for value in asdict(outcome).values()))
    out.print(pairs)
    out.print(f"Errors: {ratings.method}.")
    if found.first_place is not None:
        out.print(f"The first answer was preferred in {found.first_place:.0%} of the decided comparisons.")
