"""Widgets whose state is stored in the page's URL, so that a link restores the view.

A URL may be edited by hand or refer to another database. A value that is not among the options is reported as not found
and stops the page; nothing else is shown instead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import date
from time import monotonic
from typing import Any, Literal, NoReturn, TypeVar

import streamlit as st

from evalsvc.dashboards.formatting import cut, safe, unique_labels
from evalsvc.dashboards.i18n import say

Style = Literal["list", "segments"]
Name = TypeVar("Name", bound=str)
DAYS = date(2000, 1, 1), date(2100, 1, 1)
GRACE_SECONDS = 3.0
"""Seconds for which an outdated URL may still arrive after a choice was made."""


def choose(
    key: str,
    label: str,
    options: Sequence[Name],
    default: Name | None = None,
    *,
    words: Callable[[Name], str] = str,
    style: Style = "list",
    where: Any = st,
) -> Name:
    """Select one of the options."""
    slot = f"{key}.choice"
    _start(key, slot, label, options, lambda: options[0] if default is None else default)
    shown = unique_labels({option: cut(words(option)) for option in options})
    if style == "segments":
        # These labels are Markdown, unlike those of lists.
        shown = {option: safe(text) for option, text in shown.items()}
        picked: Name = where.segmented_control(label, options, key=slot, format_func=shown.__getitem__, required=True)
    else:
        picked = where.selectbox(label, options, key=slot, format_func=shown.__getitem__)
    _write(key, [picked])
    return picked


def choose_many(
    key: str,
    label: str,
    options: Sequence[str],
    default: Sequence[str] = (),
    *,
    words: Callable[[str], str] = str,
    most: int | None = None,
    where: Any = st,
) -> list[str]:
    """Select several options, kept in the order of selection."""
    slot = f"{key}.choices"
    asked = _from_url(key, slot)
    if asked:
        _known(label, asked, options)
        st.session_state[slot] = asked[:most]
    elif slot not in st.session_state or not set(st.session_state[slot]) <= set(options):
        st.session_state[slot] = list(default)
    shown = unique_labels({option: cut(words(option)) for option in options})
    picked: list[str] = where.multiselect(label, options, key=slot, format_func=shown.__getitem__, max_selections=most)
    _write(key, picked)
    return picked


def slide(key: str, label: str, options: Sequence[str], *, words: Callable[[str], str] = str) -> str:
    """Select one of ordered options; the default is the last."""
    slot = f"{key}.slider"
    _start(key, slot, label, options, lambda: options[-1])
    picked: str = st.select_slider(label, options, key=slot, format_func=words)
    _write(key, [picked])
    return picked


def switch(key: str, label: str, default: bool = False, *, where: Any = st) -> bool:
    """Switch an option on or off."""
    slot = f"{key}.switch.{default}"
    asked = _from_url(key, slot)
    if asked:
        _known(label, asked[:1], ("0", "1"))
        st.session_state[slot] = asked[0] == "1"
    elif slot not in st.session_state:
        st.session_state[slot] = default
    picked: bool = where.toggle(label, key=slot)
    _write(key, [str(int(picked))] if picked != default else [])
    return picked


def day(key: str, label: str) -> date | None:
    """Select an optional day."""
    slot = f"{key}.day"
    for asked in _from_url(key, slot)[:1]:
        found = None
        with suppress(ValueError):
            found = date.fromisoformat(asked)
        if found is None or not DAYS[0] <= found <= DAYS[1]:
            not_found(label, asked)
        st.session_state[slot] = found
    picked: date | None = st.date_input(label, None, *DAYS, key=slot)
    _write(key, [picked.isoformat()] if picked else [])
    return picked


def number(key: str, label: str, largest: int, default: int) -> int:
    """Enter an integer from 0; a new ``default`` replaces a value that was entered under another default."""
    slot = f"{key}.number.{default}"
    asked = _from_url(key, slot)
    if asked:
        _known(label, asked[:1], [str(n) for n in range(largest + 1)])
        st.session_state[slot] = int(asked[0])
    elif st.session_state.get(slot, largest + 1) > largest:
        st.session_state[slot] = default
    picked = int(st.number_input(label, 0, largest, key=slot))
    _write(key, [str(picked)] if picked != default else [])
    return picked


def text(key: str, label: str, longest: int = 200) -> str:
    """Enter a text of at most ``longest`` characters."""
    slot = f"{key}.text"
    for asked in _from_url(key, slot)[:1]:
        st.session_state[slot] = asked[:longest]
    picked: str = st.text_input(label, key=slot, max_chars=longest)
    _write(key, [picked] if picked else [])
    return picked


def remember(key: str, picked: str | None) -> str | None:
    """A choice without a widget, such as a row of a table: ``picked`` if there is one, else that of the URL, else the
    previous one.
    """
    slot = f"{key}.remembered"
    asked = _from_url(key, slot)
    if picked is not None or asked:
        st.session_state[slot] = picked or asked[0]
    found: str | None = st.session_state.get(slot)
    _write(key, [found] if found else [])
    return found


def page_number(key: str, pages: int) -> int:
    """Select the page of a long list, from 0."""
    if pages <= 1:
        return 0
    numbers = [str(number + 1) for number in range(pages)]
    where = st.container(width=180)
    return int(choose(key, say("common.page", pages=pages), numbers, where=where)) - 1


def _start(key: str, slot: str, label: str, options: Sequence[str], default: Callable[[], str]) -> None:
    """Initialize a widget: to the option in the URL, else to its previous value, else to the default."""
    asked = _from_url(key, slot)
    if asked:
        _known(label, asked[:1], options)
        st.session_state[slot] = asked[0]
    elif st.session_state.get(slot) not in options:
        st.session_state[slot] = default()


def _from_url(key: str, slot: str) -> list[str]:
    """The value in the URL, unless this page wrote it there."""
    now = st.query_params.get_all(key)
    written = st.session_state.get("written", {}).get(key)
    known = slot in st.session_state and (now == written or _is_outdated(key, now))
    return now if now and not known else []


def _is_outdated(key: str, now: list[str]) -> bool:
    """Whether a browser sent a URL from before the last choice."""
    left = st.session_state.get("left", [])
    return any((key, now) == (name, values) and monotonic() - at < GRACE_SECONDS for name, values, at in left)


def _known(label: str, asked: Sequence[str], options: Sequence[str]) -> None:
    unknown = [value for value in asked if value not in options]
    if unknown:
        not_found(label, unknown[0])


def not_found(label: str, name: str) -> NoReturn:
    """Report that a link names something that does not exist, and stop the page."""
    st.error(say("common.not_found", what=label, name=safe(name)), icon=":material/search_off:")
    if st.button(say("common.start_over"), icon=":material/restart_alt:"):
        st.query_params.clear()
        st.rerun()
    st.stop()


def _write(key: str, values: list[str]) -> None:
    written = st.session_state.setdefault("written", {})
    if written.get(key, values) != values:
        st.session_state["left"] = [*st.session_state.get("left", [])[-20:], (key, written[key], monotonic())]
    written[key] = values
    if st.query_params.get_all(key) != values:
        if values:
            st.query_params[key] = values
        else:
            st.query_params.pop(key, None)
