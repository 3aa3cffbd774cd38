"""Right values: what as many real samples score, in quantities that can be too low and too high.

Noise is more diverse than real data, and looping texts are the most likely: nearer to the real samples is better.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from evalsvc.core.digests import digest_json
from evalsvc.evaluation import opening
from evalsvc.evaluation.metric_inputs import Call, MetricInputs
from evalsvc.inputs.published_statistics import StatisticsFile
from evalsvc.inputs.suite_entries import MetricUse
from evalsvc.metrics.inputs import Source
from evalsvc.metrics.score import Z95, MetricError, Score
from evalsvc.metrics.skewness import quantile
from evalsvc.plugins import validation
from evalsvc.plugins.samples import Texts

SUBSETS = 4
"""Most disjoint subsets of the reference whose mean is the right value: its error is then half that of a score."""
NO_RIGHT_VALUE = "no_right_value"
"""Note of a score that has none, with the reason."""

Rows = Int64[np.ndarray, " _"]


@dataclass(frozen=True)
class RightValue:
    """The mean over subsets of real samples, with its standard error; ``None`` where that is unknown."""

    value: float
    stderr: float | None

    @classmethod
    def of(cls, scores: Sequence[Score]) -> RightValue:
        """The scores of disjoint subsets.

        Their own errors are surer than the spread between a few of them, which Student's factor widens.
        """
        count, values = len(scores), [each.value for each in scores]
        mean = math.fsum(values) / count
        own = [each.stderr for each in scores if each.stderr is not None]
        if len(own) == count:
            return cls(mean, math.sqrt(math.fsum(error**2 for error in own)) / count)
        if count == 1:
            return cls(mean, None)
        spread = float(np.std(values, ddof=1)) / math.sqrt(count)
        return cls(mean, spread * quantile(Z95, count - 1.0) / Z95)

    @classmethod
    def of_array(cls, array: Float64[np.ndarray, " 2"]) -> RightValue:
        """As it is stored, with NaN for an unknown error."""
        value, stderr = array.tolist()
        return cls(value, None if math.isnan(stderr) else stderr)


def with_right_value(score: Score, right: Mapping[str, RightValue]) -> Score:
    """The score with the right value of its quantity, if there is one."""
    if score.name not in right:
        return score
    return replace(score, target=right[score.name].value, target_stderr=right[score.name].stderr)


def right_values(inputs: MetricInputs, use: MetricUse, call: Call) -> tuple[dict[str, RightValue], str]:
    """The right values of a metric's quantities by name, and the reason for those that are missing.

    Those of arrays are found once for a split, the options and the number of samples, and stored beside its arrays.
    Texts of the reference are cut to the lengths of the samples, on which all that is found of texts depends.
    """
    quantities = [each for each in inputs.spec.suite.quantities_of(use) if use.target_of(each) == "reference"]
    if not quantities or not inputs.spec.suite.reference:
        return {}, ""
    if any(each.source not in (Source.SAMPLES, Source.LIKELIHOOD) for each in use.spec.inputs.values()):
        return {}, "its metric compares samples with the reference itself"
    if use.against not in inputs.spec.reference:
        return {}, f"the reference has no {use.against} split"
    real = inputs.split(use.against)
    if isinstance(real, StatisticsFile):
        return {}, "published statistics do not hold samples"
    count, n = len(real), len(next(iter(call.arguments.values())))
    unbiased = all(use.spec.unbiased_in_n(each, use.options) for each in quantities)
    if count < n and not unbiased:
        return {}, f"the reference holds {count} samples, fewer than the {n} that are scored"
    subsets = subsets_of(count, n, unbiased)
    try:
        if real.modality == "text":
            # An extractor reads cut texts again, as many as it has read samples.
            found = _of_texts(inputs, use, call, [subsets[0][:n]] if use.features else subsets)
        else:
            facts = [use.metric, use.spec.version, use.spec.error_version, use.options, n, SUBSETS]
            name = f"right-{digest_json(facts)[:16]}"
            arrays = inputs.found_once(
                min(use.arrays), use.against, name, lambda: _as_arrays(_of_arrays(inputs, use, call, subsets))
            )
            found = {each: RightValue.of_array(array) for each, array in arrays.items()}
    except MetricError as error:
        return {}, f"the metric does not apply to the reference: {error}"
    return {each.name: found[each.name] for each in quantities if each.name in found}, ""


def subsets_of(count: int, n: int, unbiased: bool) -> list[Rows]:
    """Disjoint random subsets of ``n`` of ``count`` rows; where the number does not matter, one of all that count."""
    order = np.random.default_rng(count).permutation(count)[: SUBSETS * n]
    return [order] if unbiased else [order[start : start + n] for start in range(0, len(order) - n + 1, n)]


def cut_to(texts: Sequence[str], lengths: Sequence[int]) -> list[str]:
    """The texts, none longer than its counterpart by rank among the lengths: the longest is cut to the greatest.

    Samples end where a model stops or is stopped, and most that is found of texts depends on how long they are.

    >>> cut_to(["abcdef", "abc", "ab"], [4, 2, 2])
    ['abcd', 'ab', 'ab']
    """
    longest = np.sort(np.asarray(lengths))[np.arange(len(texts)) * len(lengths) // len(texts)]
    rank = np.argsort(np.argsort([len(text) for text in texts], kind="stable"))
    return [text[: longest[place]] for text, place in zip(texts, rank.tolist(), strict=True)]


def _of_texts(inputs: MetricInputs, use: MetricUse, call: Call, subsets: Sequence[Rows]) -> dict[str, RightValue]:
    lengths, texts = [len(text) for text in inputs.texts()], inputs.texts_of(use.against)

    def given(rows: Rows) -> dict[str, Any]:
        cut = cut_to([texts[row] for row in rows.tolist()], lengths)
        if not use.features:
            return dict.fromkeys(use.spec.inputs, cut)
        arrays = _extracted(inputs, use, cut)
        if not use.spec.reads(Source.LIKELIHOOD):
            return dict.fromkeys(use.spec.inputs, arrays[use.features.partition("/")[2]])
        return {name: arrays[name][:, 0] for name in use.spec.inputs}

    return _measured(inputs, use, call, map(given, subsets))


def _extracted(inputs: MetricInputs, use: MetricUse, texts: Sequence[str]) -> dict[str, np.ndarray]:
    """All outputs of a metric's extractor for these texts; nothing is stored."""
    context, label = inputs.context, use.features.partition("/")[0]
    extractor = opening.extractor(context, inputs.spec.suite.extractors[label])

    def extract(start: int, stop: int) -> dict[str, np.ndarray]:
        return validation.extract(extractor, Texts(tuple(texts[start:stop])))

    batches = [*context.batches_of("text").over(0, len(texts), extract)]
    return {name: validation.join(name, [each[name] for each in batches]) for name in batches[0]}


def _of_arrays(inputs: MetricInputs, use: MetricUse, call: Call, subsets: Sequence[Rows]) -> dict[str, RightValue]:
    if use.spec.reads(Source.LIKELIHOOD):
        real = {name: inputs.array(f"{use.features}/{name}", use.against)[:, 0] for name in use.spec.inputs}
    else:
        real = dict.fromkeys(use.spec.inputs, inputs.array(use.features, use.against))
    taken = ({name: array[np.sort(rows)] for name, array in real.items()} for rows in subsets)
    return _measured(inputs, use, call, taken)


def _measured(
    inputs: MetricInputs, use: MetricUse, call: Call, given: Iterable[Mapping[str, Any]]
) -> dict[str, RightValue]:
    found: dict[str, list[Score]] = {}
    for arguments in given:
        result = inputs.placement.measure(use.spec, {**arguments, **call.options})
        for score in [result] if isinstance(result, Score) else result.values():
            found.setdefault(score.name, []).append(score)
    return {name: RightValue.of(scores) for name, scores in found.items()}


def _as_arrays(found: Mapping[str, RightValue]) -> dict[str, np.ndarray]:
    return {
        name: np.array([each.value, np.nan if each.stderr is None else each.stderr]) for name, each in found.items()
    }
