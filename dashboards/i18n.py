"""The interface in English and Chinese: a page says ``say("trends.title")``. What is foreign never passes here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

import streamlit as st
import yaml

from evalsvc.dashboards.formatting import distinct
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
    """A phrase in the language of this session, its placeholders filled."""
    return phrases(st.session_state.get("language", "en"))[key].format(**values)


@cache
def quantities() -> Mapping[str, Quantity]:
    """The quantities of all metrics, by name."""
    return metric_adapter.quantities(Plugins())


def metric_name(label: str) -> str:
    """What a score is called: as the quantity that its label names, else by its label."""
    language = st.session_state.get("language", "en")
    plain = label.removesuffix("_heldout")
    known = quantities().get(plain)
    name = known.titled(language) if known else plain.replace("_", " ")
    return name if plain == label else f"{name} ({say('common.heldout')})"


def metric_names(labels: Iterable[str]) -> dict[str, str]:
    """What scores are called beside each other: no two the same."""
    return distinct({label: metric_name(label) for label in labels})


def preferred() -> str:
    """The browser's language where the interface has it."""
    locale = (st.context.locale or "en").partition("-")[0]
    return locale if locale in LANGUAGES else "en"
