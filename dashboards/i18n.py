"""Translations of the interface into English and Chinese, as in ``say("trends.title")``. Untrusted text is never
translated.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

import streamlit as st
import yaml

from evalsvc.dashboards.formatting import unique_labels
from evalsvc.metrics.registry import Quantity
from evalsvc.plugins import metric_adapter
from evalsvc.plugins.registry import Plugins

LANGUAGES = {"en": "English", "zh": "中文"}
FOLDER = Path(__file__).parent / "locales"


@cache
def phrases(language: str) -> dict[str, str]:
    """Every phrase of a language by its dotted key."""
    found: dict[str, str] = {}
    for room, entries in yaml.safe_load((FOLDER / f"{language}.yaml").read_text(encoding="utf-8")).items():
        found |= {f"{room}.{key}": text for key, text in entries.items()}
    return found


def say(key: str, **values: object) -> str:
    """A phrase in the language of this session, with its placeholders filled."""
    return phrases(language())[key].format(**values)


def language() -> str:
    """The language of this session."""
    chosen: str = st.session_state.get("language", "en")
    return chosen


@cache
def quantities() -> Mapping[str, Quantity]:
    """The registered quantities by name."""
    return metric_adapter.quantities(Plugins())


def metric_name(label: str) -> str:
    """The display name of a score: that of its quantity, or its label if the quantity is unknown.

    Scorers declare the quantities of :func:`name_aggregates`; a slice keeps its tag and value, as in ``WER [lang=de]``.
    """
    whole, bracket, of_slice = label.partition("[")
    plain = whole.removesuffix("_heldout")
    known, aggregated = quantities().get(plain), st.session_state.get("aggregates", {}).get(whole)
    if aggregated:
        name = aggregated.titled(language())
        name = name if whole == aggregated.name else f"{name} ({whole})"
    else:
        name = known.titled(language()) if known else plain.replace("_", " ")
        name = name if plain == whole else f"{name} ({say('common.heldout')})"
    return f"{name} [{of_slice}" if bracket else name


def name_aggregates(quantities: Mapping[str, Quantity]) -> None:
    """Set the quantities of the scores that aggregate scorers in the selected suite, by label."""
    st.session_state["aggregates"] = quantities


def metric_names(labels: Iterable[str]) -> dict[str, str]:
    """Unique display names of scores that are shown together."""
    return unique_labels({label: metric_name(label) for label in labels})


def preferred_language() -> str:
    """The browser's language if the interface supports it, otherwise English."""
    locale = (st.context.locale or "en").partition("-")[0]
    return locale if locale in LANGUAGES else "en"
