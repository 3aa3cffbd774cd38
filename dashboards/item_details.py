"""One item: its prompt, source and target, and the samples of one or two checkpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import streamlit as st

from evalsvc.analysis.item_measures import ItemMeasure
from evalsvc.analysis.item_rows import ItemRow
from evalsvc.analysis.items import ItemTable, Outcome
from evalsvc.analysis.kept_samples import KeptSample, KeptSamples
from evalsvc.core.errors import InputError, MissingError, StorageError
from evalsvc.dashboards import pictures
from evalsvc.dashboards.formatting import facts, grid, html, number, safe
from evalsvc.dashboards.i18n import say
from evalsvc.dashboards.item_listing import tags_in_words
from evalsvc.dashboards.text_diff import differing, paragraph
from evalsvc.dashboards.url_state import choose
from evalsvc.evaluation.gallery import as_gallery
from evalsvc.inputs.items.media import decoded
from evalsvc.inputs.items.storage import media_key
from evalsvc.plugins.samples import Audio, Images, Videos

MOST_DRAWS = 8
"""Draws of one item that are shown beside those of a baseline."""


def show(tables: Mapping[str, ItemTable], of: ItemMeasure, sample: int) -> None:
    """Show the item of a sample of the first table; with a second table all draws of that item, of both."""
    table = next(iter(tables.values()))
    item, draw = table.item(int(table.items[sample])), int(table.draws[sample])
    st.header(say("items.opened", item=safe(item.id, 100)), anchor=False)
    left, right = st.columns([1, 1.6], gap="large")
    with left:
        _item(table, item)
    found = {name: _numbers(each, item.id) for name, each in tables.items()}
    draws = [draw] if len(tables) == 1 else _draws(tables, found, of)
    kept = {name: KeptSamples(each) for name, each in tables.items()}
    shown = {
        each: {name: kept[name][numbers[each]] for name, numbers in found.items() if each in numbers}
        for each in draws[:MOST_DRAWS]
    }
    with right:
        against = _against(item, shown)
        if len(shown) > 1 and all(_is_image(sample) for samples in shown.values() for sample in samples.values()):
            _strips(list(tables)[::-1], shown)
        else:
            for each, samples in shown.items():
                _draw(each, samples, _right(table, item), against)
        if len(draws) > MOST_DRAWS:
            st.caption(say("items.more_draws", count=len(draws) - MOST_DRAWS))
    _values(tables, {name: [numbers[each] for each in shown if each in numbers] for name, numbers in found.items()})


def _draws(tables: Mapping[str, ItemTable], found: Mapping[str, Mapping[int, int]], of: ItemMeasure) -> list[int]:
    """The draws of an item, from the one that got worst against the baseline; those without both values last."""
    (new, own), (old, others) = ((tables[name].values(of), numbers) for name, numbers in found.items())
    change = {draw: of.sign * (new[own[draw]] - old[others[draw]]) for draw in own if draw in others}
    return sorted({**own, **others}, key=lambda draw: (not np.isfinite(change.get(draw, np.nan)), -change.get(draw, 0)))


def _right(table: ItemTable, item: ItemRow) -> str:
    """The text that samples are compared with: of several targets the first."""
    if "target" in item.media:
        return ""
    targets = table.item_set.targets
    return next(iter(targets[table.item_set.ids.index(item.id)] if targets else ()), item.target)


def _is_image(sample: KeptSample) -> bool:
    return sample.pixels is not None and sample.pixels.ndim == 3


def _strips(names: Sequence[str], shown: Mapping[int, Mapping[str, KeptSample]]) -> None:
    """Images of several draws as one row for each checkpoint."""
    for name in names:
        images = [samples[name].pixels for samples in shown.values() if name in samples]
        st.html(f'<span class="ev-name">{html(name)}</span>')
        whole = as_gallery([image for image in images if image is not None])
        st.image(pictures.strip(whole, MOST_DRAWS), width="stretch", alt=say("samples.of", name=name))
    st.caption(say("items.drawn", draws=", ".join(map(str, shown))))


def _item(table: ItemTable, item: ItemRow) -> None:
    """Show the prompt, source, target and tags of an item."""
    for part in ("prompt", "source", "target"):
        said = getattr(item, part)
        if said:
            st.caption(say(f"items.{part}"))
            if part in item.media:
                pictures.show_kept(_media(table, said), say(f"items.{part}"))
            else:
                st.html(paragraph(said))
    known: dict[str, object] = {
        say("items.item"): item.id,
        say("items.group"): item.group,
        say("items.tags"): tags_in_words(item),
    }
    facts({name: value for name, value in known.items() if value != ""})


def _media(table: ItemTable, name: str) -> KeptSample:
    """A file of the item set, or why it cannot be shown."""
    try:
        found = decoded(table.artifacts.read_bytes(media_key(table.facts["items"], name)), name)
    except MissingError:
        return KeptSample(absent=say("items.no_media"))
    except (InputError, StorageError) as error:
        return KeptSample(absent=str(error))
    if isinstance(found, Audio):
        return KeptSample(wave=found.waves[0].numpy(), rate=found.rate)
    return KeptSample(pixels=found.pixels[0].numpy()) if isinstance(found, Images | Videos) else KeptSample()


def _against(item: ItemRow, shown: Mapping[int, Mapping[str, KeptSample]]) -> str:
    """Select the text that samples are compared with word by word, if they are texts and there is one."""
    texts = [sum(each.text is not None for each in samples.values()) for samples in shown.values()]
    options = [
        *(["target"] if item.target and "target" not in item.media else []),
        *(["baseline"] if max(texts, default=0) > 1 else []),
        "nothing",
    ]
    if not any(texts) or len(options) == 1:
        return "nothing"
    return choose("diff", say("items.diff"), options, words=lambda each: say(f"items.diff_{each}"), style="segments")


def _draw(draw: int, samples: Mapping[str, KeptSample], target: str, against: str) -> None:
    """The samples of one draw side by side, the baseline on the left."""
    columns = st.columns(max(1, len(samples)), gap="small")
    baseline = list(samples.values())[-1]
    for column, (name, sample) in zip(columns, reversed(list(samples.items())), strict=False):
        with column:
            st.html(f'<span class="ev-name">{html(name)}</span> · {say("items.draw")} {draw}')
            other = {"target": target, "baseline": baseline.text}.get(against)
            if sample.text is not None and other is not None and not (against == "baseline" and sample is baseline):
                st.html(differing(other, sample.text))
            else:
                pictures.show_kept(sample, say("samples.of", name=name))


def _numbers(table: ItemTable, item: str) -> dict[int, int]:
    """Number of the sample of each draw of an item; none if the table lacks it."""
    if item not in table.item_set.ids:
        return {}
    numbers = np.flatnonzero(table.items == table.item_set.ids.index(item))
    return dict(zip(table.draws[numbers].tolist(), numbers.tolist(), strict=True))


def _values(tables: Mapping[str, ItemTable], numbers: Mapping[str, list[int]]) -> None:
    """Show the values of these samples by quantity; draws are separated by commas."""
    rows: dict[str, dict[str, Any]] = {}
    for name, table in tables.items():
        for key in (key for key in table.arrays if "/" in key):
            said = ", ".join(_said(table, key, each) for each in numbers[name])
            rows.setdefault(key, {say("items.of"): key})[name] = said or "–"
    grid(list(rows.values()), alt=say("items.values"))


def _said(table: ItemTable, key: str, sample: int) -> str:
    """The value of one sample, or why there is none."""
    value = float(table.arrays[key][sample])
    if np.isfinite(value):
        return number(value)
    scorer = key.partition("/")[0]
    reason = table.reasons.get(scorer, {}).get(str(sample), "")
    outcome = say(f"items.{Outcome(int(table.outcomes(scorer)[sample])).name.lower()}")
    return f"{outcome}: {reason}" if reason else outcome
