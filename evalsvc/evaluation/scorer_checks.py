"""Checks of a suite's scorers before any work: samples, columns of items, likelihoods, declared quantities."""

from __future__ import annotations

from collections.abc import Mapping

from evalsvc.core.errors import InputError
from evalsvc.inputs.suite_entries import ScorerQuantity
from evalsvc.inputs.suites import Suite
from evalsvc.metrics.inputs import Source
from evalsvc.plugins.interfaces import Generator, Likelihood
from evalsvc.plugins.items import Column
from evalsvc.plugins.sample_files import KeepsFiles
from evalsvc.plugins.scorers import AsksModel, Scorer, ScoresLikelihoods

Scorers = Mapping[str, Scorer | ScoresLikelihoods]


def check_scorers(suite: Suite, scorers: Scorers, generator: Generator, names: frozenset[str] = frozenset()) -> None:
    """Make sure that every scorer of a suite can score its samples; ``names`` are those of the scored model.

    Raises:
        InputError: a scorer takes other samples, reads a column or files that are not there, needs likelihoods, asks
            the scored model itself, or declares other quantities than the suite was read with.
    """
    columns = _columns(suite)
    for label, scorer in scorers.items():
        info, name = scorer.info, suite.scorers[label].use
        if suite.modality not in info.takes:
            taken = " and ".join(sorted(info.takes))
            raise InputError(f"suite {suite.id} scores {suite.modality} samples, and scorer {name!r} takes {taken}")
        if "file" in info.reads and not (isinstance(generator, KeepsFiles) and generator.keeps_files):
            raise InputError(
                f"suite {suite.id}: scorer {label!r} reads the files of the samples, but those of generator "
                f"{generator.info.family!r} are not files: write them into a folder, and use generator 'samples'"
            )
        if missing := sorted(info.reads - columns - {"file"}):
            raise InputError(
                f"suite {suite.id}: scorer {label!r} reads the {missing[0]} of each item, but the items have none: "
                f"name its column with 'items: {{{missing[0]}: COLUMN}}'"
            )
        if isinstance(scorer, ScoresLikelihoods) and not isinstance(generator, Likelihood):
            raise InputError(
                f"suite {suite.id}: scorer {label!r} needs likelihoods, but generator {generator.info.family!r} "
                "provides none: use a generator with 'nll'"
            )
        if isinstance(scorer, AsksModel) and (same := sorted(scorer.models & (names | generator.info.models))):
            raise InputError(
                f"suite {suite.id}: scorer {label!r} asks {same[0]!r}, the model that it scores, and models prefer "
                "their own answers: use another judge, or allow it with the option 'itself: true'"
            )
        if tuple(map(ScorerQuantity.of, info.quantities)) != suite.scorers[label].quantities:
            raise InputError(
                f"suite {suite.id}: scorer {name!r} returns other quantities than the suite was read with: read the "
                "suite again with the installed version of the plug-in"
            )


def needs_samples(suite: Suite, scorers: Scorers) -> bool:
    """Whether anything in a suite needs samples; scorers of likelihoods alone do not."""
    if any(not isinstance(each, ScoresLikelihoods) for each in scorers.values()) or not scorers:
        return True
    return bool(suite.extractors) or any(use.spec.reads(Source.SAMPLES) for use in suite.metrics)


def _columns(suite: Suite) -> frozenset[Column]:
    """The columns that the items of a suite have."""
    if suite.items is None:
        return frozenset({"usage", "prompt"}) if suite.prompts else frozenset({"usage"})
    items = suite.items
    there: dict[Column, object] = {
        "prompt": items.prompt,
        "label": items.label or items.labels,
        "source": items.source,
        "target": items.target,
        "choices": items.choices,
        "answer": items.answer,
        "tags": items.tags,
        "usage": True,
    }
    return frozenset(name for name, column in there.items() if column)
