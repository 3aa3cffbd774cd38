"""Looking at items: what is worst, what changed, and the samples themselves."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from sqlalchemy import select

from benchmarks.items import fill
from evalsvc.analysis.item_differences import item_differences
from evalsvc.analysis.item_export import export_items, items_frame
from evalsvc.analysis.item_listings import item_comparison, item_listing
from evalsvc.analysis.items import Outcome, open_items
from evalsvc.analysis.kept_samples import KeptSamples
from evalsvc.analysis.sample_files import as_file
from evalsvc.core.errors import InputError
from evalsvc.evaluation.kept_samples import encode
from evalsvc.inputs.items.storage import store_items
from evalsvc.plugins.samples import Audio, Images, Texts, Videos
from evalsvc.store.artifacts import Artifacts
from evalsvc.store.session import Database
from evalsvc.store.tables import Evaluation


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    database, artifacts = Database(f"sqlite:///{home}/evalsvc.db"), Artifacts(home / "artifacts")
    fill(database, artifacts, items=200, draws=2, scorers=3)
    with database.read() as session:
        runs = session.scalars(select(Evaluation).order_by(Evaluation.id)).all()
        return [open_items(session, artifacts, run) for run in runs]


@pytest.fixture
def table(tables):
    return tables[1]


@pytest.mark.parametrize("name", ["wer", "asr", "asr/wer"])
def test_a_label_a_scorer_and_its_quantity_name_the_same(table, name):
    assert table.measure(name).key == "asr/wer"


def test_an_unknown_name_lists_those_that_there_are(table):
    with pytest.raises(InputError, match=r"'bleu': use one of wer, .*asr/wer, .*asr, .*asr_failed"):
        table.measure("bleu")


def test_the_worst_come_first_and_samples_without_a_value_last(table):
    of = table.measure("wer")
    values, outcomes = table.values(of), table.outcomes("asr")
    ranked = table.ranked(of)
    assert sorted(ranked) == list(range(len(table)))
    scored = ranked[: int(np.isfinite(values).sum())]
    assert (np.diff(values[scored]) <= 0).all()
    assert outcomes[ranked[len(scored) :]].tolist() == [2] * 4 + [1] * 8
    assert table.ranked(of, best=True)[0] == np.nanargmin(values)


def test_of_a_quantity_where_higher_is_better_the_lowest_is_worst(table):
    of = table.measure("exact")
    assert table.ranked(of)[0] == np.nanargmin(table.values(of))


def test_the_failed_samples_are_the_worst_of_their_own_measure(table):
    of = table.measure("asr_failed")
    (first,) = table.listed(table.ranked(of)[:1], of)
    assert (first.value, first.outcome, first.reason) == (1.0, Outcome.FAILED, "the endpoint refused: status 400")


def test_a_slice_lists_its_items_alone(table):
    of = table.measure("wer[lang=de]")
    shown = list(table.listed(table.ranked(of), of))
    assert len(shown) == 100
    assert {each.item.tags["lang"] for each in shown} == {"de"}
    with pytest.raises(InputError, match="no items with lang='xx'"):
        table.measure("wer[lang=xx]")
    with pytest.raises(InputError, match="wer has no slices in spoken@1"):
        table.measure("wer[worst]")
    assert replace(table, worst={"wer": "wer[lang=de]"}).measure("wer[worst]") == of


def test_items_that_got_worse_come_first_with_the_draw_that_changed_most(tables):
    found = item_differences(*tables, "wer")
    assert (np.diff(found.differences) <= 0).all()
    assert found.worse + found.better == len(found) == 196
    worst = next(found.regressions(1))
    assert worst.difference == pytest.approx(worst.value_b - worst.value_a)
    assert worst.item.tags == {"lang": "de"}
    assert worst.sample_a.draw == worst.sample_b.draw
    draws = [each.values(found.of)[each.items == found.rows_a[0]] for each in tables]
    assert worst.sample_b.value - worst.sample_a.value == np.nanmax(draws[1] - draws[0])
    assert next(found.improvements(1)).difference == found.differences.min()
    assert len(list(found.regressions(1000))) == found.worse


def test_items_pair_by_name_where_the_sets_differ_and_a_corrected_target_is_left_out(tables):
    a, b = tables
    rows = a.item_set.taken(np.arange(200)[::-1])
    targets, ids = list(rows.targets), list(rows.ids)
    targets[3], ids[5] = ("corrected",), "another"
    rows = replace(rows, positions=np.arange(200), targets=tuple(targets), ids=tuple(ids))
    store_items(a.artifacts, rows, {})
    other = replace(b, arrays=b.arrays | {"item": 199 - b.arrays["item"]}, facts=b.facts | {"items": rows.sha256})
    found, same = item_differences(a, other, "wer"), item_differences(a, b, "wer")
    assert (len(found), found.changed, found.unpaired) == (194, 1, 2)
    by_id = dict(zip([b.item_set.ids[row] for row in same.rows_b], same.differences, strict=True))
    assert all(by_id[ids[row]] == change for row, change in zip(found.rows_b, found.differences, strict=True))


def test_values_of_different_scorers_are_not_compared(tables):
    a, b = tables
    other = replace(b, spec=b.spec | {"scorers": {"asr": "x"}})
    with pytest.raises(InputError, match="protocol asr-0 in reader@1 and x in reader@2"):
        item_differences(a, other, "wer")


def test_a_sample_is_read_or_the_reason_for_its_absence(table):
    assert KeptSamples(table)[7].text == "sentence 3 said in way 2"
    assert KeptSamples(replace(table, facts=table.facts | {"samples": "draws/none"}))[7].absent


@pytest.mark.parametrize(
    ("samples", "said", "suffix"),
    [
        (Images(torch.full((3, 1, 4, 6), 7, dtype=torch.uint8)), "image, 6 x 4", "png"),
        (Videos(torch.zeros((3, 5, 3, 4, 6), dtype=torch.uint8)), "video of 5 frames, 6 x 4", "png"),
        (Audio((torch.zeros(80),) * 3, 100), "sound of 0.80 s", "wav"),
        (Texts(("", "<b>", "\ud800")), "<b>", "txt"),
    ],
)
def test_media_are_read_as_they_are_kept_and_become_files(table, samples, said, suffix):
    table.artifacts.write_arrays("draws/media/0-400.safetensors", encode(samples))
    kept = KeptSamples(replace(table, facts=table.facts | {"samples": "draws/media"}))
    assert kept[1].described == said
    assert as_file(kept[1]).suffix == suffix
    assert as_file(kept[2]).content
    assert kept[3].absent == "beyond the budget of kept samples"


def test_a_listing_holds_prompt_target_and_answer(table):
    found = item_listing(table, "wer", 5, by="lang")
    assert len(found.items) == 5
    assert (found.samples, found.scored, found.not_applicable, found.failed) == (400, 388, 8, 4)
    first = found.items[0]
    number = int(first.item.id.removeprefix("item-"))
    assert first.item.target == f"sentence {number} of 200"
    assert first.answer == f"sentence {number} said in way 2"
    assert found.slices[0].value == "de", "German got worse"
    assert sum(each.samples for each in found.slices) == 400
    with pytest.raises(InputError, match="no tag 'speaker': use one of lang"):
        item_listing(table, "wer", 5, by="speaker")


def test_a_comparison_lists_what_got_worse_and_better_with_both_answers(tables):
    found = item_comparison(*tables, "wer", 10)
    assert found.worse + found.better == found.paired == 196
    for changes, sign in ((found.regressions, 1), (found.improvements, -1)):
        assert len(changes) == 10
        for each in changes:
            assert sign * each.difference > 0
            assert (each.a.answer[-5:], each.b.answer[-5:]) == ("way 1", "way 2")


def test_an_export_has_a_row_for_each_sample(table, tmp_path):
    assert export_items(table, tmp_path / "items.parquet") == 400
    frame = pd.read_parquet(tmp_path / "items.parquet")
    assert frame["sample"].tolist() == list(range(400))
    np.testing.assert_array_equal(frame["asr/wer"], table.values(table.measure("wer")))
    row = frame.iloc[98]
    shown = ("item", "draw", "tag lang", "target", "asr outcome", "asr reason")
    assert [row[name] for name in shown] == [
        "item-00049",
        0,
        "en",
        "sentence 49 of 200",
        "failed",
        "the endpoint refused: status 400",
    ]
    assert frame["answer"][7] == "sentence 3 said in way 2"
    pd.testing.assert_frame_equal(items_frame(table), frame)
