import json

import pytest
import torch

from evalsvc.analysis.judge_tournament import Player, run_tournament
from evalsvc.builtin.judges import Preferences, ServedJudge
from evalsvc.core.errors import InputError, ModelError
from evalsvc.inputs.endpoints import Endpoint, Written
from evalsvc.plugins.interfaces import JudgeInfo
from evalsvc.store.artifacts import Artifacts

CPU = torch.device("cpu")
PROMPTS = tuple(f"prompt {number}" for number in range(40))


class Longer:
    """Prefers the longer answer; may lean to what is shown first, or say nothing at every fifth question."""

    def __init__(self, leans=False, mumbles=False, models=()):
        self.info = JudgeInfo("longer", f"v1 {leans} {mumbles}", frozenset(models))
        self.leans, self.mumbles, self.asked = leans, mumbles, 0

    def compare(self, prompt, first, second):
        self.asked += 1
        if self.mumbles and prompt.endswith("5"):
            return "unparsed"
        if self.leans and abs(len(first) - len(second)) < 3:
            return "first"
        return "tie" if len(first) == len(second) else "first" if len(first) > len(second) else "second"


@pytest.fixture
def artifacts(tmp_path):
    return Artifacts(tmp_path)


def player(name, length, models=()):
    """Answers whose lengths vary from prompt to prompt, so that nobody always wins."""
    return Player(name, tuple("x" * (length + hash_of(name, i) % 9) for i in range(40)), frozenset(models))


def hash_of(name, i):
    return int.from_bytes(f"{name}{i * 7919}".encode()) % 1009


PLAYERS = [player("short", 4), player("middle", 7), player("long", 10)]


def test_every_pair_is_judged_in_both_orders_and_rated(artifacts):
    found = run_tournament(Longer(), PLAYERS, PROMPTS, artifacts)
    assert [outcome.wins + outcome.losses + outcome.ties for outcome in found.outcomes] == [40, 40, 40]
    ratings = dict(zip(found.players, found.ratings.ratings, strict=True))
    assert ratings["short"] < ratings["middle"] < ratings["long"]
    assert found.ratings.ci_low[2] > found.ratings.ci_high[0]
    assert found.first_place == 0.5


def test_who_is_preferred_only_for_his_place_wins_nothing(artifacts):
    same = [Player("a", ("xx",) * 40), Player("b", ("xxx",) * 40)]
    (outcome,) = run_tournament(Longer(leans=True), same, PROMPTS, artifacts).outcomes
    assert (outcome.wins, outcome.losses, outcome.contradictions) == (0, 0, 40)
    found = run_tournament(Longer(leans=True), same, PROMPTS, artifacts)
    assert found.first_place == 1
    assert found.ratings.ratings[0] == pytest.approx(found.ratings.ratings[1])


def test_answers_that_cannot_be_read_count_for_nobody_and_are_shown(artifacts):
    found = run_tournament(Longer(mumbles=True), PLAYERS, PROMPTS, artifacts)
    assert [outcome.unparsed for outcome in found.outcomes] == [4, 4, 4]
    assert all(o.wins + o.losses + o.ties + o.contradictions == 36 for o in found.outcomes)


def test_no_model_judges_itself_unnoticed(artifacts):
    players = [*PLAYERS, player("me", 8, models=["sha", "gpt-x"])]
    with pytest.raises(InputError, match="judge 'longer' is the same model as me, and models prefer their own answers"):
        run_tournament(Longer(models=["gpt-x"]), players, PROMPTS, artifacts)
    assert run_tournament(Longer(models=["gpt-x"]), players, PROMPTS, artifacts, itself=True).judges_itself == ("me",)


def test_a_tournament_that_was_stopped_goes_on_with_the_pairs_that_are_missing(artifacts):
    run_tournament(Longer(), PLAYERS[:2], PROMPTS, artifacts)
    judge = Longer()
    found = run_tournament(judge, PLAYERS, PROMPTS, artifacts)
    assert judge.asked == 2 * 2 * 40
    assert run_tournament(Longer(), PLAYERS, PROMPTS, artifacts) == found
    other = Longer(mumbles=True)
    run_tournament(other, PLAYERS[:2], PROMPTS, artifacts)
    assert other.asked == 80, "another protocol is another judge"


def test_bad_judges_and_players_are_named(artifacts):
    class Rude(Longer):
        def compare(self, prompt, first, second):
            return "A"

    class Broken(Longer):
        def compare(self, prompt, first, second):
            raise RuntimeError("no")

    for judge, players, kind, reason in (
        (Rude(), PLAYERS, ModelError, "returned 'A': a judge must return one of first, second, tie, unparsed"),
        (Broken(), PLAYERS, ModelError, "judge 'longer' failed: RuntimeError: no"),
        (Longer(), PLAYERS[:1], InputError, "at least two different players"),
        (Longer(), [PLAYERS[0], Player("odd", ("x",))], InputError, "odd has 1 answers to 40 prompts"),
    ):
        with pytest.raises(kind, match=reason):
            run_tournament(judge, players, PROMPTS, artifacts)


def test_people_s_preferences_are_a_judge(tmp_path, artifacts):
    x = "one line\u2028for JSON"
    a, b = Player("a", (x, "y", "z")), Player("b", ("u", "v", "w"))
    votes = [(x, "u", "a"), ("u", x, "b"), (x, "u", "b"), ("v", "y", "a"), ("v", "y", "b")]
    rows = [{"prompt": "p", "a": first, "b": second, "winner": winner} for first, second, winner in votes]
    (tmp_path / "votes.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    judge = Preferences(CPU, path=str(tmp_path / "votes.jsonl"))
    (outcome,) = run_tournament(judge, [a, b], ["p"] * 3, artifacts).outcomes
    assert (outcome.wins, outcome.losses, outcome.ties, outcome.unparsed) == (1, 0, 1, 1)
    (tmp_path / "votes.jsonl").write_text('{"prompt": "p", "a": "x", "b": "y", "winner": "c"}')
    with pytest.raises(InputError, match="line 1 has no prompt, a, b and winner"):
        Preferences(CPU, path=str(tmp_path / "votes.jsonl"))


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        ("A is better.\nVERDICT: A", "first"),
        ("**VERDICT: b**", "second"),
        ("VERDICT: A\nno,\nVERDICT: TIE", "tie"),
        ("I like A", "unparsed"),
        ("", "unparsed"),
    ],
)
def test_a_served_judge_is_read_by_its_last_verdict(tmp_path, monkeypatch, said, answer):
    (tmp_path / "judge.json").write_text('{"url": "http://x/v1", "model": "gpt-x"}')
    asked = []
    monkeypatch.setattr(
        Endpoint, "write", lambda _, prompt, decoding, seed: asked.append((prompt, decoding)) or Written(said)
    )
    judge = ServedJudge(CPU, endpoint=str(tmp_path / "judge.json"))
    assert judge.info.models == {"gpt-x"}
    assert judge.compare("why {second}", "because {first}", "so") == answer
    prompt, decoding = asked[0]
    assert "[Request]\nwhy {second}\n" in prompt
    assert "[Answer A]\nbecause {first}\n" in prompt
    assert (decoding.temperature, decoding.chat) == (0, True)
    with pytest.raises(InputError, match="lacks {second}: add it"):
        ServedJudge(CPU, endpoint=str(tmp_path / "judge.json"), template="{prompt} {first}")
