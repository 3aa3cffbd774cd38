"""Grades of people beside the values of a scorer, against formulas by hand and simulated truth."""

import json

import numpy as np
import pytest
from nltk.metrics.agreement import AnnotationTask
from nltk.metrics.distance import interval_distance
from typer.testing import CliRunner

from benchmarks.items import fill
from evalsvc.analysis.item_measures import ItemMeasure
from evalsvc.analysis.items import ItemTable
from evalsvc.analysis.people_and_grades import compare_with_people
from evalsvc.cli.main import app
from evalsvc.core.errors import InputError
from evalsvc.inputs.human_grades import HumanGrade, read_grades
from evalsvc.inputs.items.item_set import ItemSet
from evalsvc.metrics.registry import Quantity
from evalsvc.metrics.score import Direction
from evalsvc.store.artifacts import Artifacts
from evalsvc.store.session import Database

GRADE = ItemMeasure("judge", Quantity("quality", Direction.HIGHER, "grade", 1.0, 5.0))


def table_of(values, draws=1):
    count = len(values) // draws
    arrays = {
        "judge/quality": np.asarray(values, float),
        "item": np.repeat(np.arange(count, dtype=np.int32), draws),
        "draw": np.tile(np.arange(draws, dtype=np.int32), count),
    }
    table = ItemTable(1, "m@1", "s@1", {}, arrays, {}, None)
    vars(table)["item_set"] = ItemSet(tuple(f"i{n}" for n in range(count)), np.arange(count))
    return table


def graded(grades, rater="", draw=0):
    return [HumanGrade(f"i{n}", draw, rater, float(grade), f"line {n}") for n, grade in enumerate(grades)]


def alpha_of(a, b):
    """Krippendorff's alpha of two raters at level interval, by hand."""
    both = np.concatenate([a, b])
    return 1 - np.mean((a - b) ** 2) / (2 * both.var(ddof=1))


def test_agreement_is_krippendorffs_alpha_of_the_scorer_and_the_mean_of_people():
    rng = np.random.default_rng(0)
    judge, one = rng.integers(1, 6, (2, 30)).astype(float)
    two = np.clip(one + rng.integers(-1, 2, 30), 1, 5)
    found = compare_with_people(table_of(judge), GRADE, graded(one, "one") + graded(two, "two"))
    assert (found.samples, found.raters, found.left_out) == (30, 2, 0)
    assert found.people["interval"].alpha == pytest.approx(alpha_of(one, two))
    people = (one + two) / 2
    assert found.both["interval"].alpha == pytest.approx(alpha_of(judge, people))
    marks = [
        (name, n, float(grade)) for name, each in (("judge", judge), ("people", people)) for n, grade in enumerate(each)
    ]
    peer = AnnotationTask(marks, distance=interval_distance).alpha()
    assert found.both["interval"].alpha == pytest.approx(peer, abs=1e-12)
    assert found.people["ordinal"].alpha > 0.5 > found.both["ordinal"].ci_low
    assert found.means.people.value == pytest.approx(np.mean([one, two]))
    assert found.means.judge.value == pytest.approx(judge.mean())


def test_equal_grades_agree_and_one_rater_has_no_agreement_with_people():
    values = 1.0 + np.arange(40) % 5
    found = compare_with_people(table_of(values), GRADE, graded(values[:25]))
    assert {each.alpha for each in found.both.values()} == {1.0}
    assert {each.alpha for each in found.people.values()} == {None}
    assert found.means.together.value == pytest.approx(values.mean(), abs=0.3)
    assert found.means.together.stderr < found.means.people.stderr


def test_both_together_are_as_right_as_people_beside_a_judge_that_flatters():
    covered, flattered, width = 0, 0, []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        right = np.clip(np.round(rng.normal(2.5, 1, 400)), 1, 5)
        judge = np.clip(right + rng.choice([0, 1], 400, p=[0.4, 0.6]), 1, 5)
        means = compare_with_people(table_of(judge), GRADE, graded(right[:80])).means
        truth = 2.5228  # of the rounded and clipped law
        covered += means.together.ci_low <= truth <= means.together.ci_high
        flattered += means.judge.ci_low <= truth <= means.judge.ci_high
        width.append(means.together.stderr / means.people.stderr)
    assert covered >= 34
    assert flattered == 0
    assert np.mean(width) < 0.8


def test_draws_of_an_item_count_once_and_samples_that_share_items_have_no_interval_of_agreement():
    values = 1.0 + np.arange(60) % 5
    grades = [*graded(values[::2], draw=0), *graded(values[1::2], draw=1)]
    found = compare_with_people(table_of(values, draws=2), GRADE, grades)
    assert (found.samples, found.means.people.items) == (60, 30)
    assert found.both["interval"].ci_low is None


def test_what_has_no_value_is_left_out_and_too_few_items_have_no_means():
    values = np.where(np.arange(30) < 15, np.nan, 3.0 + np.arange(30) % 2)
    found = compare_with_people(table_of(values), GRADE, graded(np.full(30, 3.0)))
    assert (found.samples, found.left_out, found.means) == (15, 15, None)
    assert found.reason == "people rated 15 items that have a value; 20 are needed"
    nothing = compare_with_people(table_of(np.full(3, np.nan)), GRADE, graded([3, 3, 3]))
    assert (nothing.samples, nothing.both["ordinal"].alpha, nothing.means) == (0, None, None)


def test_the_last_grade_of_a_rater_counts():
    found = compare_with_people(table_of([3.0, 4.0]), GRADE, graded([1, 1]) + graded([3, 4]))
    assert found.both["interval"].alpha == 1


@pytest.mark.parametrize(
    ("grade", "error"),
    [
        (HumanGrade("x", 0, "", 3.0, "g.csv, line 2"), "g.csv, line 2: s@1 has no item 'x' with draw 0"),
        (HumanGrade("i0", 1, "", 3.0, "g.csv, line 2"), "no item 'i0' with draw 1"),
        (HumanGrade("i0", 0, "", 6.0, "g.csv, line 2"), "the grade 6 is outside of 1 to 5, the range of judge/quality"),
    ],
)
def test_a_grade_of_something_else_is_an_error_that_names_its_row(grade, error):
    with pytest.raises(InputError, match=error):
        compare_with_people(table_of([3.0]), GRADE, [grade])


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ("item,score\na,1\n", "has no column 'grade'"),
        ("grade\n1\n", "has no column 'item'"),
        ("item,grade\na,good\n", "line 2: 'grade' is 'good': use a number"),
        ("item,grade\na,nan\n", "line 2: 'grade' is 'nan': use a number"),
        ("item,grade\na,inf\n", "line 2: 'grade' is 'inf': use a number"),
        ("item,grade,draw\na,1,first\n", "line 2: 'draw' is 'first': use whole numbers from 0"),
        ("item,grade\na,\n", "has no grades: fill the column 'grade'"),
        ("item,grade\n", "contains no items"),
    ],
)
def test_a_file_of_grades_that_is_wrong_is_one_sentence(tmp_path, content, error):
    (tmp_path / "g.csv").write_text(content)
    with pytest.raises(InputError, match=error):
        read_grades(tmp_path / "g.csv")


def test_rows_without_a_grade_are_not_rated_yet(tmp_path):
    (tmp_path / "g.csv").write_text("item,rater,grade,draw\na,Ana,4,\nb,Ana,,\nc,\u674e,0.5,1\n")
    found = [(each.item, each.draw, each.rater, each.grade) for each in read_grades(tmp_path / "g.csv")]
    assert found == [("a", 0, "Ana", 4.0), ("c", 1, "\u674e", 0.5)]


def test_the_command_prints_agreement_and_means(home, tmp_path):
    fill(
        Database(f"sqlite:///{home.resolve()}/evalsvc.db"), Artifacts(home / "artifacts"), items=60, draws=1, scorers=1
    )
    (tmp_path / "g.csv").write_text("item,grade\n" + "".join(f"item-{n:05},{n % 2}\n" for n in range(30)))
    run = CliRunner().invoke(app, ["agreement", "reader@1", "--people", str(tmp_path / "g.csv"), "--of", "asr_failed"])
    assert (run.exit_code, "both together" in run.stdout, "random part" in run.stderr) == (0, True, True)
    arguments = ["agreement", "reader@1", "--people", str(tmp_path / "g.csv"), "--of", "wer", "--json"]
    document = json.loads(CliRunner().invoke(app, arguments).stdout)
    assert document["means"] is None
    assert document["reason"].startswith("asr/wer has no range")
    assert set(document["both"]) == {"ordinal", "interval"}
