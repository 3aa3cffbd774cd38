"""Reports of a gate show the items that got worse most."""

import lxml.html
import numpy as np
import pytest

from benchmarks.items import fill
from evalsvc.gates.item_regressions import item_regressions
from evalsvc.gates.reports import markdown
from evalsvc.gates.reports.page import page
from evalsvc.store.artifacts import Artifacts
from evalsvc.store.session import Database
from tests.evalsvc.gates.test_reports import rendered


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    store = Database(f"sqlite:///{home}/evalsvc.db"), Artifacts(home / "artifacts")
    fill(*store, items=200, draws=2, scorers=2)
    return store


def judged(*labels, candidate=2, baseline=1):
    sides = {"candidate": {"runs": (candidate,)}, "baseline": {"runs": (baseline,)}}
    return {"evidence": {"metrics": dict.fromkeys(labels, sides)}}


def test_the_five_worst_of_each_gated_scorer_are_shown_once(store):
    found = item_regressions(judged("wer", "asr/wer", "spoken@1/cer", "frechet_distance"), *store)
    assert [each["of"] for each in found.tables] == ["asr/wer", "cer/cer"]
    changes = [each["difference"] for each in found.tables[0]["regressions"]]
    assert len(changes) == 5
    assert changes == sorted(changes, reverse=True)
    assert changes[0] > 0.2


def test_a_slice_shows_its_own_items(store):
    [found] = item_regressions(judged("wer[lang=zh]"), *store).tables
    assert {int(each["item"][-5:]) % 4 for each in found["regressions"]} == {3}


@pytest.mark.parametrize(
    "document",
    [
        judged("wer", candidate=1),
        judged("wer", candidate=0),
        judged("recall"),
        judged("wer[lang=xx]"),
        judged("asr_failed"),
    ],
)
def test_what_has_no_items_shows_none(store, document):
    assert item_regressions(document, *store).tables == []


def test_reports_show_prompt_target_and_both_answers(store):
    found = item_regressions(judged("wer"), *store).tables
    document = {**rendered(), "items": found}
    first = found[0]["regressions"][0]
    root = lxml.html.document_fromstring(page(document, {"x": np.zeros((2, 1, 4, 4), np.uint8)}))
    [row, *others] = root.xpath("//h2/following-sibling::table[1]/tbody/tr")
    assert len(others) == 4
    names = ("item", "prompt", "target", "baseline_answer", "candidate_answer")
    assert [cell.text for cell in row] == [f"{first['difference']:+.4g}", *(first[name] for name in names)]
    summary = markdown.summary(document)
    assert summary.count(f"| {first['difference']:+.4g} |") == 1
    assert f"{found[0]['worse']} of {found[0]['paired']}" in summary
