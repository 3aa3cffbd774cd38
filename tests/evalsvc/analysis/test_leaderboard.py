from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalsvc.analysis.leaderboard import Side, boards
from evalsvc.analysis.leaderboard import compare as compare_sides
from evalsvc.analysis.runs import run_of
from evalsvc.core.errors import InputError
from evalsvc.evaluation.influences import UnitInfluence
from evalsvc.store.queries import ScoreRow


def row(model, value, error=1.0, *, step=1, label="fd", direction="lower", facts=None, position=0):
    facts = facts or {"samples": 100}
    known = error is not None
    return ScoreRow(
        model=model,
        family="f",
        step=step,
        digest="d" * 64,
        configuration="c" * 64,
        checkpoint_id=hash((model, step)),
        evaluation_id=1,
        suite="s@1",
        position=position,
        label=label,
        value=value,
        stderr=error,
        ci_low=value - 1.96 * error if known else None,
        ci_high=value + 1.96 * error if known else None,
        n=100,
        direction=direction,
        unit="",
        stderr_method="",
        protocol=str(sorted(facts.items())),
        facts=facts,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


def compare(*sides):
    """Each side's rows, of which each is one run of its own."""
    made = [
        Side(
            rows, {row.label: [run_of(replace(row, evaluation_id=place + 1), 0, UnitInfluence("old"))] for row in rows}
        )
        for place, rows in enumerate(sides)
    ]
    return compare_sides(*made)


def ranks(rows, **options):
    (board,) = boards(rows, **options)
    return {entry.model: entry.rank for entry in board.entries}


def test_clear_differences_give_clear_ranks():
    assert ranks([row("b", 20), row("a", 10), row("c", 30)]) == {"a": 1, "b": 2, "c": 3}


def test_overlapping_intervals_share_a_rank():
    assert ranks([row("a", 10), row("b", 12), row("c", 30)]) == {"a": 1, "b": 1, "c": 3}


def test_where_higher_is_better_the_highest_leads():
    rows = [row("a", 10, direction="higher"), row("b", 20, direction="higher")]
    (board,) = boards(rows)
    assert [(entry.model, entry.rank) for entry in board.entries] == [("b", 1), ("a", 2)]


def test_without_an_interval_nobody_is_surely_better():
    assert ranks([row("a", 10), row("b", 1e6, error=None)]) == {"a": 1, "b": 1}


@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(0, 1e3)), min_size=1, max_size=12))
def test_a_rank_is_one_plus_the_number_that_is_surely_better(values):
    rows = [row(f"m{i}", value, error) for i, (value, error) in enumerate(values)]
    for model, rank in ranks(rows).items():
        mine = next(r for r in rows if r.model == model)
        assert rank == 1 + sum(other.ci_high < mine.ci_low for other in rows)


def test_scores_of_different_protocols_never_share_a_board():
    found = boards([row("a", 10), row("b", 20), row("c", 15, facts={"samples": 50})])
    assert [{entry.model for entry in board.entries} for board in found] in ([{"a", "b"}, {"c"}], [{"c"}, {"a", "b"}])
    assert {board.ranked_by.title for board in found} == {"fd (100)", "fd (50)"}


def test_columns_of_one_label_are_told_apart_by_what_differs():
    rows = [row("a", 1), row("b", 2)]
    rows += [row("a", 3, label="bpd", position=1, facts={"kind": "exact"})]
    rows += [row("b", 3, label="bpd", position=1, facts={"kind": "upper_bound"})]
    (board,) = boards(rows)
    assert {column.title for column in board.columns} == {"fd", "bpd (exact)", "bpd (upper_bound)"}


def test_the_latest_step_of_each_model_stands_unless_all_are_asked_for():
    rows = [row("a", 10, step=1), row("a", 20, step=2), row("b", 15, step=1)]
    assert [(e.model, e.step) for e in boards(rows)[0].entries] == [("b", 1), ("a", 2)]
    assert len(boards(rows, which="all")[0].entries) == 3


def test_an_unknown_metric_names_the_known_ones():
    with pytest.raises(InputError, match="use one of fd"):
        boards([row("a", 1)], "fid")


def test_a_neutral_quantity_does_not_rank():
    with pytest.raises(InputError, match="cannot rank"):
        boards([row("a", 1, direction="neutral")])


def test_a_difference_has_the_error_of_both_sides():
    (difference,) = compare([row("a", 10, 3.0)], [row("b", 30, 4.0)])
    assert difference.value == 20
    assert difference.stderr == pytest.approx(5, rel=1e-4)
    assert difference.verdict == "worse"


@pytest.mark.parametrize(
    ("b", "direction", "verdict"), [(1, "lower", "better"), (1, "higher", "worse"), (9, "lower", "unsure")]
)
def test_the_verdict_follows_the_direction_and_the_interval(b, direction, verdict):
    (difference,) = compare([row("a", 10, direction=direction)], [row("b", b, direction=direction)])
    assert difference.verdict == verdict


def test_different_protocols_are_named_and_not_compared():
    both = [row("a", 1), row("a", 2, label="kd")], [row("b", 1), row("b", 2, label="kd", facts={"samples": 50})]
    same, other = compare(*both)
    assert same.value == 0
    assert other.value is None
    assert other.verdict == "not comparable"
    assert other.reason == "kd: samples 100 / 50"


def test_where_nothing_is_comparable_the_reason_is_an_error():
    with pytest.raises(InputError, match="samples 100 / 50"):
        compare([row("a", 1)], [row("b", 1, facts={"samples": 50})])


def sampled(row, stderr_reference, method="influence of the reference's rows"):
    facts = {"samples": 100, "reference": "a" * 64}
    return replace(row, facts=facts, protocol="p", stderr_reference=stderr_reference, reference_method=method)


def test_ranks_count_the_error_of_the_reference_unless_it_is_held_fixed():
    rows = [sampled(row("a", 10), 3.0), sampled(row("b", 15), 3.0)]
    assert ranks(rows) == {"a": 1, "b": 1}
    assert ranks(rows, reference="fixed") == {"a": 1, "b": 2}
    (both,), (fixed,) = boards(rows), boards(rows, reference="fixed")
    assert (both.holds, fixed.holds) == (
        "ranks hold for references like this one",
        "ranks hold on this reference file",
    )
    (without,) = boards([row("a", 10), row("b", 15)])
    assert (without.reference, without.holds) == ("", "")


def test_ranks_on_an_unknown_error_of_the_reference_hold_on_this_file_and_say_why():
    reason = "none: published statistics hold no samples"
    (board,) = boards([sampled(row("a", 10), None, reason), sampled(row("b", 15), 1.0)])
    assert board.reference == "fixed"
    assert reason in board.holds
    assert [entry.rank for entry in board.entries] == [1, 2]


@pytest.mark.parametrize(
    ("stderr_reference", "verdict"), [(0.0, "better"), (0.5, "better"), (5.0, "better on this reference")]
)
def test_better_counts_both_errors_and_better_on_this_reference_the_first(stderr_reference, verdict):
    a, b = sampled(row("a", 20), 0.0), sampled(row("b", 10), stderr_reference)
    (difference,) = compare([a], [b])
    assert (difference.verdict, difference.on_this_reference) == (verdict, "better")
    assert difference.stderr_reference == stderr_reference


def test_an_unknown_error_of_the_reference_leaves_a_verdict_on_this_reference():
    a, b = sampled(row("a", 20), 1.0), sampled(row("b", 10), None, "none: published statistics hold no samples")
    (difference,) = compare([a], [b])
    assert difference.verdict == "better on this reference"
    assert difference.reference_method == "none: published statistics hold no samples"
    assert difference.interval_sampled is None


def right(row, target=10.0, stderr=0.1):
    return replace(row, target=target, target_stderr=stderr)


def test_where_there_is_a_right_value_the_nearest_leads_whatever_the_direction():
    rows = [right(row(name, value, 0.2, direction="higher")) for name, value in (("noise", 30), ("real", 10.1))]
    rows += [row("collapsed", 5, 0.2, direction="higher"), right(row("too high", 10.2, 0.2, direction="higher"))]
    assert ranks(rows) == {"real": 1, "too high": 1, "collapsed": 3, "noise": 4}
    (board,) = boards(rows)
    assert [entry.model for entry in board.entries] == ["real", "too high", "collapsed", "noise"]
    assert ranks([right(row("a", 0.1, direction="neutral"), 0.0), right(row("b", 9, direction="neutral"), 0.0)]) == {
        "a": 1,
        "b": 2,
    }


def test_the_nearer_of_two_is_the_better_one_and_its_distance_is_told():
    noise, real = (right(row(name, value, 0.2, direction="higher")) for name, value in (("noise", 30), ("real", 10.1)))
    (difference,) = compare([noise], [real])
    assert (difference.verdict, difference.value, difference.in_words) == ("better", -19.9, "19.9 nearer")
    (difference,) = compare([real], [noise])
    assert (difference.verdict, difference.in_words) == ("worse", "19.9 farther")
    assert difference.nearness.interval[0] > 19
    # Opposite sides at about the same distance.
    (difference,) = compare([real], [right(row("below", 9.9, 0.2, direction="higher"))])
    assert difference.verdict == "unsure"
