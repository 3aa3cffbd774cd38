"""Check whether passing one policy implies passing another."""

from __future__ import annotations

from collections.abc import Mapping

from evalsvc.gates.policy import AliasName, MetricPolicy, Policy


def at_least_as_strict(
    earlier: Policy, policy: Policy, earlier_labels: Mapping[str, str], labels: Mapping[str, str]
) -> bool:
    """Whether ``earlier`` limits every critical score of ``policy`` at least as strictly, with at least the same
    confidence.

    Limits on a worsening are equally strict only if the baseline was not chosen for the occasion: it must be that of
    ``policy``, or an alias. The labels map the metrics of each policy to scores.
    """
    if earlier.defaults.confidence < policy.defaults.confidence:
        return False
    if earlier.defaults.min_samples < policy.defaults.min_samples:
        return False
    if earlier.allow_same and not policy.allow_same:
        return False
    if ("fixed", "sampled") in ((earlier.prompts, policy.prompts), (earlier.reference, policy.reference)):
        return False
    critical = [metric for metric in policy.metrics.values() if metric.tier == "critical"]
    compares = any(kind.startswith("max_worsening") for metric in critical for kind in metric.limits)
    if compares and earlier.baseline != policy.baseline and not isinstance(earlier.baseline, AliasName):
        return False
    given = {earlier_labels[name]: metric for name, metric in earlier.metrics.items()}
    return all(
        labels[name] in given and _holds(given[labels[name]], metric)
        for name, metric in policy.metrics.items()
        if metric.tier == "critical"
    )


def _holds(earlier: MetricPolicy, asked: MetricPolicy) -> bool:
    given = earlier.limits
    return earlier.tier == "critical" and all(
        kind in given and (given[kind] >= limit if kind == "min" else given[kind] <= limit)
        for kind, limit in asked.limits.items()
    )
