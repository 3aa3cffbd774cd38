"""The results as tables of Markdown, and the cells that are outside of what is promised."""

from __future__ import annotations

from typing import Any

from scipy.stats import binomtest

from benchmarks.uncertainty.cells import results
from benchmarks.uncertainty.laws import MOVES

RATIO, COVERAGE = (0.85, 1.15), (0.93, 0.97)
NOISE = 1.96
"""Standard errors of a ratio that the simulation may be off by."""


def table() -> str:
    """One table a metric, and the exceptions."""
    cells, parts = results(), []
    for metric in dict.fromkeys(each["metric"] for each in cells):
        mine = [each for each in cells if each["metric"] == metric]
        parts.append(f"**{metric}**\n\n| law | n | {' | '.join(MOVES)} |\n|---|---|{'---|' * len(MOVES)}")
        for law, n in dict.fromkeys((each["law"], each["n"]) for each in mine):
            shown = {each["move"]: _shown(each) for each in mine if (each["law"], each["n"]) == (law, n)}
            parts[-1] += f"\n| {law} | {n:,} | " + " | ".join(shown.get(move, "") for move in MOVES) + " |"
    stated = [each for each in cells if "ratio" in each]
    out = [each for each in stated if _outside(each)]
    named = "\n".join(
        f"- {each['metric']}, {each['law']}, {each['move']}, n = {each['n']}: {_shown(each)}" for each in out
    )
    return "\n\n".join([*parts, f"{len(out)} of {len(stated)} cells outside:\n\n{named}"])


def _shown(cell: dict[str, Any]) -> str:
    if "none" in cell:
        return "none"
    if "samples" in cell:
        return f"{cell['ratio']:.2f} / {round(cell['coverage']['0.95'] * cell['samples'])} of {cell['samples']}"
    return f"{cell['ratio']:.2f} / {cell['coverage']['0.95']:.3f}"


def _outside(cell: dict[str, Any]) -> bool:
    """Whether ratio or coverage are beyond their bounds by more than the noise of the draws.

    The coverage of 20 samples tells nothing.
    """
    noise = 1 + NOISE * cell["ratio_error"]
    ratio = RATIO[0] <= cell["ratio"] * noise and cell["ratio"] / noise <= RATIO[1]
    if "samples" in cell:
        return not ratio
    covered = binomtest(round(cell["coverage"]["0.95"] * cell["draws"]), cell["draws"]).proportion_ci(0.95)
    return not (ratio and covered.low <= COVERAGE[1] and covered.high >= COVERAGE[0])
