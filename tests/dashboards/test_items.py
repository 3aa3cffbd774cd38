"""The page of items: the worst first, each with what it was held against, and nothing in a text does anything."""

import csv
import io
import shutil

import numpy as np
import pytest
from sqlalchemy import select

from benchmarks.items import fill
from evalsvc.analysis.items import open_items
from evalsvc.core.settings import Settings
from evalsvc.core.spreadsheets import as_csv
from evalsvc.dashboards import item_samples
from evalsvc.dashboards.item_listing import confusion, distribution, matching, tag_values
from evalsvc.dashboards.text_diff import differing, paragraph
from evalsvc.inputs.items.item_set import ItemSet
from evalsvc.inputs.slice_labels import slice_label, worst_label
from evalsvc.store.artifacts import open_artifacts
from evalsvc.store.session import Database
from evalsvc.store.tables import Evaluation, Score, Suite

from .stores import fill as fill_plain
from .test_pages import CODE, MARKUP

HOSTILE = "=1+1 <img src=x onerror=alert(1)> [l](javascript:x) $x^2$ :red[a] https://evil.test \u202egnp\x1b[31m "


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """Two checkpoints with 100 items x 2 draws x 2 scorers; the first text of each is hostile."""
    home = tmp_path_factory.mktemp("items")
    settings = Settings(home=home, database_url="", artifacts="")
    fill(Database(settings.database), open_artifacts(settings), 100, 2, 2, HOSTILE)
    return home


@pytest.fixture
def items(filled, use_home, page):
    """Open the page with these parameters."""
    use_home(filled)

    def opened(**parameters):
        at = page("items", checkpoint="reader@2", **parameters)
        assert not at.exception
        return at

    return opened


def texts(at):
    return "".join(element.proto.body for element in at.get("html"))


def test_the_worst_sample_comes_first_and_is_open_with_its_target(items):
    at = items()
    shown = at.dataframe[0].value
    assert shown["reader@2"].is_monotonic_decreasing
    assert "Item `" + shown["Item"][0] + "`" in [header.value for header in at.header]
    number = int(shown["Item"][0].removeprefix("item-"))
    assert f"sentence {number} of 100</p>" in texts(at)
    assert "<ins>said</ins>" in texts(at)  # word by word against the target
    assert [metric.value for metric in at.metric[1:]] == ["194 · 97.0%", "4 · 2.0%", "2 · 1.0%"]


def test_with_a_baseline_the_items_that_got_worse_come_first_with_all_draws_of_both(items):
    at = items(against="reader@1")
    shown = at.dataframe[0].value
    assert shown["Difference"].is_monotonic_decreasing
    assert set(shown["Tags"]) == {"lang=de"}
    assert np.allclose(shown["reader@2"] - shown["reader@1"], shown["Difference"])
    assert all(f"way {step}" in texts(at) for step in (1, 2))
    assert items(against="reader@1", order="changed_best").dataframe[0].value["Difference"].is_monotonic_increasing
    words = items(against="reader@1", diff="baseline")
    assert "<del>1</del><ins>2</ins>" in texts(words)


def test_filters_are_in_the_link(items):
    at = items(tag="lang=fr", text="SENTENCE 2 ", outcome="any", order="given")
    assert list(at.dataframe[0].value["Item"]) == ["item-00002"] * 2
    at = items(outcome="failed")
    assert list(at.dataframe[0].value["Outcome"]) == ["the endpoint refused: status 400"] * 2
    assert "failed: the endpoint refused: status 400" in at.dataframe[1].value.iloc[0, 1]
    assert items(text="no such text").info[0].value == "No item matches the filter."
    assert "not found" in items(tag="lang=tlh").error[0].value


def test_a_link_opens_a_sample_and_names_a_quantity_by_the_label_of_a_score(items):
    at = items(sample="1/item-00007", of="cer")
    assert at.selectbox("of.choice").value == "cer/cer"
    assert "Item `item-00007`" in [header.value for header in at.header]
    assert at.query_params["sample"] in ("1/item-00007", ["1/item-00007"])
    assert "not found" in items(sample="0/nothing").error[0].value


def test_texts_do_nothing_on_the_page(items):
    at = items(sample="0/item-00000", text="evil")
    shown = texts(at)
    assert "&lt;img src=x onerror=alert(1)&gt;" in shown
    assert "<img" not in shown
    assert not set("\x1b\u202e") & set(shown)
    for kind in (at.markdown, at.caption, at.header, at.metric):
        for each in kind:
            assert not MARKUP.search(CODE.sub("", f"{each.value} {getattr(each, 'label', '')}"))


def test_the_downloaded_rows_run_nothing_in_a_spreadsheet_and_keep_numbers(filled, use_home):
    with use_home(filled).read() as session:
        table = open_items(session, open_artifacts(Settings()), session.get_one(Evaluation, 2))
    of = table.measure("wer")
    listing = item_samples.Listing(table.items, np.arange(len(table)), table.values(of))
    made = list(csv.DictReader(io.StringIO(as_csv(item_samples.rows_of(["=name"], table, listing, of, 500)))))
    assert len(made) == 200
    assert made[0]["Prompt"].startswith("'=1+1 <img")
    assert float(made[0]["'=name"]) == table.values(of)[0]
    assert (made[49]["'=name"], made[49]["Outcome"]) == ("", "the target is empty")


def test_items_match_by_any_value_of_each_tag_and_a_text_means_itself():
    rows = ItemSet(("a", "b", "c"), np.arange(3), ("x.y",) * 3, labels=np.full(3, 3), tags={"lang": ("de", "fr", "zh")})
    assert matching(rows, [("lang", "de"), ("lang", "zh"), ("label", "3")], "").tolist() == [True, False, True]
    assert matching(rows, [("lang", "de"), ("label", "4")], "").tolist() == [False] * 3
    assert matching(rows, [], "X.Y").all()
    assert not matching(rows, [], "x+y").any()
    assert list(tag_values(rows)) == ["label=3", "lang=de", "lang=fr", "lang=zh"]
    many = ItemSet(tuple("ab"), np.arange(2), tags={"name": tuple(map(str, range(2000))), "lang": ("de", "fr")})
    assert list(tag_values(many))[-2:] == ["lang=de", "lang=fr"]


def test_the_distribution_counts_values_only_and_a_yes_or_no_has_two_bars():
    rows = distribution({"a": np.array([0.0, 1.0, 1.0, np.nan]), "b": np.array([np.inf, 0.0])})
    assert [(row["name"], row["share"]) for row in rows] == [("a", 1 / 3), ("a", 2 / 3), ("b", 1.0), ("b", 0.0)]
    assert sum(row["share"] for row in distribution({"c": np.ones(5)})) == 1.0
    assert distribution({"none": np.array([np.nan])}) == []


def test_confusion_counts_predictions_of_each_label():
    rows = confusion(np.array([0, 0, 1, 1]), np.array([0.0, 1, 1, np.nan]))
    assert [tuple(row.values()) for row in rows] == [(0, 0, 1, 0.5), (0, 1, 1, 0.5), (1, 1, 1, 1.0)]


def test_a_large_text_is_cut_before_anything_is_done_with_it():
    large = "word " * 200_000
    assert len(paragraph(large)) < 25_000
    assert len(differing(large, large + "x")) < 25_000
    assert "…" in differing(large, "word")


def test_differences_of_texts_are_by_word_and_keep_lines():
    assert differing("The cat sat\non it", "The dog sat\non it") == (
        '<p class="ev-text">The <del>cat</del><ins>dog</ins> sat\non it</p>'
    )
    assert differing("你好吗", "你好呀") == '<p class="ev-text">你好<del>吗</del><ins>呀</ins></p>'
    assert differing("<b>", "") == '<p class="ev-text"><del>&lt;b&gt;</del></p>'


@pytest.fixture
def sliced(filled, use_home, tmp_path):
    """A copy of the store whose word error rate has slices, one of them with a hostile value."""
    home = shutil.copytree(filled, tmp_path / "home")
    database = use_home(home)
    with database.write() as session:
        suite = session.scalars(select(Suite)).one()
        suite.body = suite.body | {"metrics": [{**suite.body["metrics"][0], "by": "lang"}, *suite.body["metrics"][1:]]}
        whole = session.scalars(select(Score).where(Score.evaluation_id == 2, Score.label == "wer")).one()
        copied = [c.name for c in Score.__table__.columns if c.name not in ("id", "label", "value", "slice_of")]
        found = {slice_label("wer", "lang", lang): 0.1 + i for i, lang in enumerate(["fr", HOSTILE, "de"])}
        for label, value in {**found, worst_label("wer"): 2.1}.items():
            same = {name: getattr(whole, name) for name in copied}
            session.add(Score(label=label, value=value, slice_of="wer", **same))
    return home


def test_the_worst_slice_comes_first_and_no_value_of_a_tag_does_anything(sliced, page):
    at = page("items", checkpoint="reader@2", view="slices", against="reader@1")
    assert not at.exception
    shown = at.dataframe[0].value
    assert shown["Slice"][0] == "lang=de"
    assert shown["Value"].is_monotonic_decreasing
    assert list(shown["reader@1"]) == ["–"] * 3
    assert "WORST SLICE" in texts(at)
    assert "lang=de" in texts(at)
    assert "all slices at once" in texts(at)
    assert "<img" not in texts(at)


def test_slices_are_no_metrics_of_other_pages_and_the_scorecard_links_to_them(sliced, page):
    for view in ("leaderboard", "trends", "compare", "tradeoffs", "checkpoint", "scorecard", "samples"):
        at = page(view)
        assert not at.exception
        picked = [option for box in at.selectbox for option in box.options]
        assert not [option for option in picked if "[" in option]
    links = [link for link in page("scorecard", checkpoint="reader@2").get("page_link") if "items" in link.proto.page]
    assert [link.proto.query_string for link in links] == ["checkpoint=reader%402&view=slices&score=wer"]


def test_a_suite_without_scorers_says_how_to_name_them(use_home, tmp_path, page):
    fill_plain(use_home(tmp_path), ["gan"], range(0, 1000, 1000))
    at = page("items")
    assert "scores no single samples" in at.info[0].value
    assert "scorers:" in at.code[0].value
