"""Preferences between two sides: a judge in this process, and judges of known accuracy and bias."""

import hashlib

import pytest
import torch

from benchmarks.judge_errors import CASES, judged
from evalsvc.analysis.judge_tournament import Player, run_tournament
from evalsvc.builtin.scorers.pairwise import _MEANING, TEMPLATE, WINNER, Pairwise, values_of
from evalsvc.core.errors import InputError
from evalsvc.metrics import functional as metrics
from evalsvc.plugins import scoring
from evalsvc.plugins.interfaces import JudgeInfo
from evalsvc.plugins.items import ItemBatch
from evalsvc.plugins.samples import Texts
from evalsvc.store.artifacts import Artifacts
from tests.evalsvc.judge_server import graded, judge_server, question_of, shown

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def running():
    with judge_server(lambda body: None) as server:
        yield server


@pytest.fixture
def judge(running, home, tmp_path):
    def build(winner, **options):
        running.answer, running.bodies[:] = lambda body: graded(winner=winner(body)), []
        return Pairwise(CPU, endpoint=running.file(tmp_path), **options)

    return build


def score(scorer, texts, targets):
    count = len(texts)
    items = ItemBatch(
        tuple(f"i{row}" for row in range(count)),
        torch.zeros(count, dtype=torch.int64),
        prompts=("?",) * count,
        targets=tuple(targets),
    )
    return scoring.score(scorer, Texts(tuple(texts)), items, {})


def longer(body):
    """The longer answer wins."""
    a, b = len(shown(body, "answer-A")), len(shown(body, "answer-B"))
    return "A" if a > b else "B" if b > a else "tie"


def test_a_win_in_both_orders_is_one_and_a_loss_in_both_is_zero(judge):
    found = score(judge(longer), ["aaa", "a", "aa", "aa"], [("bb",), ("bb",), ("bb",), ("b", "bbb")])
    assert found.values["win"].tolist() == [1.0, 0.0, 0.5, 0.5]
    assert found.values["position_bias"].tolist() == [0.0, 0.0, 0.0, 0.0]


@pytest.mark.parametrize(("winner", "bias"), [("A", 0.5), ("B", -0.5)])
def test_a_judge_that_sees_positions_alone_prefers_no_side_and_is_found(judge, winner, bias):
    found = score(judge(lambda body: winner), ["a", "b"], [("c",), ("d",)])
    assert found.values["win"].tolist() == [0.5, 0.5]
    assert found.values["position_bias"].tolist() == [bias, bias]


def test_a_tie_in_one_order_is_half_a_win_and_half_a_position(judge):
    found = score(judge(lambda body: "A" if shown(body, "answer-A") == "ours" else "tie"), ["ours"], [("theirs",)])
    assert [column.tolist()[0] for column in found.values.values()][:2] == [0.5, 0.25]


def test_it_is_the_tournament_of_two_players_with_the_same_verdicts(judge, tmp_path):
    def winner(body):
        return "AB"[hashlib.sha256(question_of(body).encode()).digest()[0] % 2]

    ours, theirs = ([f"{side} {i}" for i in range(12)] for side in ("one", "two"))
    verdicts = {}

    def recorded(body):
        pair = shown(body, "answer-A"), shown(body, "answer-B")
        verdicts[pair] = winner(body)
        return verdicts[pair]

    found = score(judge(recorded), ours, [(each,) for each in theirs])

    class Repeats:
        info = JudgeInfo("repeats", "the verdicts of the scorer")

        def compare(self, prompt, first, second):
            return {"A": "first", "B": "second"}[verdicts[first, second]]

    players = [Player("one", tuple(ours)), Player("two", tuple(theirs))]
    tournament = run_tournament(Repeats(), players, ["?"] * 12, Artifacts(tmp_path))
    assert found.values["win"].tolist() == list(tournament.points[0])
    assert found.values["position_bias"].mean() == pytest.approx(tournament.first_place - 0.5)


def test_the_win_rate_is_the_adjusted_one_of_mt_bench():
    """The winner in both orders wins, and all else are ties of half a win (FastChat 0e6d3e4b, show_result.py)."""
    verdicts = [(a, b) for a in _MEANING for b in _MEANING]
    winners = [({"A": "ours", "B": "theirs"}.get(a), {"A": "theirs", "B": "ours"}.get(b)) for a, b in verdicts]
    adjusted = [0.5 if a is None or a != b else float(a == "ours") for a, b in winners]
    assert [values_of([{WINNER: a}, {WINNER: b}])[0] for a, b in verdicts] == adjusted


def test_the_bias_of_a_judge_of_known_accuracy_is_found_and_taken_out(judge):
    def winner(body):
        """Takes the first answer in 3 of 10 questions, else the one that is better by its name."""
        if hashlib.sha256(question_of(body).encode()).digest()[0] < 0.3 * 256:
            return "A"
        return "A" if "good" in shown(body, "answer-A") else "B"

    ours = ["good" if i % 2 else "bad" for i in range(48)]
    theirs = ["bad" if i % 2 else "good" for i in range(48)]
    found = score(judge(winner), [f"{each} {i}" for i, each in enumerate(ours)], [(each,) for each in theirs])
    win, position = (
        metrics.mean(found.values[each.name], each) for each in Pairwise.quantities if each.name != "judge_price"
    )
    assert win.ci_low < 0.5 < win.ci_high
    assert position.ci_low < 0.15 < position.ci_high
    assert position.ci_low > 0.05


@pytest.mark.parametrize(
    "name",
    ["yes or no, accuracy 0.9", "5 gradings", "win rate, equal sides, position bias 0.15", "position bias 0.15"],
)
def test_the_true_rate_is_in_the_interval_in_95_of_100_draws(name):
    mean, ratio, covered = judged(*CASES[name], items=50, draws=60)
    assert 0.85 <= covered <= 1
    assert 0.75 < ratio < 1.35
    assert abs(mean - CASES[name][1]) < 0.05


def test_one_order_alone_would_prefer_the_side_that_comes_first():
    mean, _, covered = judged(*CASES["one order only, equal sides, position bias 0.15"], items=50, draws=30)
    assert mean == pytest.approx(0.65, abs=0.02)
    assert covered < 0.5


def test_a_verdict_outside_of_the_three_fails_its_sample(judge):
    found = score(judge(lambda body: "C" if shown(body, "answer-A") == "x" else "A"), ["x", "y"], [("z",), ()])
    assert found.reasons == {
        0: "the judge's answer is malformed: winner is 'C', and not one of A, B, tie",
        1: "the item has no target",
    }
    assert found.outcomes.tolist() == [scoring.FAILED, scoring.NOT_APPLICABLE]
    scorer = judge(longer)
    with pytest.raises(InputError, match="scorer 'pairwise' compares texts"):
        scorer.score(Texts(("a",)), ItemBatch(("i",), torch.zeros(1), targets=Texts(("b",))))


def test_options_are_checked_and_change_the_protocol(judge):
    with pytest.raises(InputError, match="option template of scorer 'pairwise' lacks {second}: add it"):
        judge(longer, template="{first}")
    kinds = [{}, {"temperature": 1.0}, {"max_tokens": 9}, {"template": TEMPLATE + "!"}]
    assert len({judge(longer, **each).info.protocol for each in kinds}) == len(kinds)
    assert judge(longer, template="{first}{second}").info.reads == {"target"}
