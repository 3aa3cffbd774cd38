import random
from collections import Counter

import numpy as np
import pytest

from evalsvc.analysis import human_ratings, people_and_judges
from evalsvc.analysis.human_ratings import Pair
from evalsvc.analysis.judge_tournament import Player, run_tournament
from evalsvc.analysis.rating_report import rating_report
from evalsvc.api import schemas
from evalsvc.cli.people_tables import ratings_answer
from evalsvc.plugins.interfaces import JudgeInfo
from evalsvc.store.artifacts import Artifacts
from evalsvc.store.session import Database
from evalsvc.store.tables import Judgment, Rating
from tests.dashboards.stores import fill

SUITE = "digits@1"
ORDER = np.random.default_rng(0).permutation(100).tolist()
"""The order in which samples are taken."""
SAMPLES = {1: ORDER, 2: ORDER}
RUNS = {1: 11, 2: 12, 3: 13}
"""Checkpoints of evaluations."""


@pytest.fixture
def database(tmp_path):
    made = Database(f"sqlite:///{tmp_path}/evalsvc.db")
    fill(made, ["gan", "vae", "flow"], range(0, 1000, 1000))
    return made


class Shorter:
    """Prefers the shorter answer."""

    info = JudgeInfo("shorter", "v1")

    def compare(self, prompt, first, second):
        return "tie" if len(first) == len(second) else "first" if len(first) < len(second) else "second"


def judged(database, tmp_path, evaluations=(1, 2)):
    """Verdicts on 100 samples, of which the first player wins those with an even index."""
    players = [
        Player("a", tuple("x" * (1 + index % 2 * 2) for index in ORDER)),
        Player("b", tuple("xx" for _ in ORDER)),
    ]
    found = run_tournament(Shorter(), players, [str(index) for index in ORDER], Artifacts(tmp_path))
    with database.write() as session:
        people_and_judges.record(session, SUITE, found, list(evaluations), ORDER)


def voted(database, count, agrees=lambda place: True, rater="ann"):
    """Votes on the first so many samples, as the judge says or not, with sides swapped at random."""
    with database.write() as session:
        for place, sample in enumerate(ORDER[:count]):
            won = (sample % 2 == 0) == agrees(place)
            left, right, outcome = (
                (1, 2, "left" if won else "right") if place % 3 else (2, 1, "right" if won else "left")
            )
            row = {"left_id": left, "right_id": right, "sample": sample, "outcome": outcome, "rater": rater}
            session.add(Rating(suite=SUITE, **row))


def both(database):
    with database.read() as session:
        return people_and_judges.together(session, SUITE, RUNS)


def test_samples_are_rated_in_their_random_order_and_each_fifth_twice(database):
    chance, seen = random.Random(0), []
    for number in range(60):
        rater = f"rater {number % 3}"
        with database.read() as session:
            pair = human_ratings.draw(session, SUITE, SAMPLES, chance, rater)
        seen.append(pair.sample)
        human_ratings.rate(database, SUITE, pair, "left", rater)
    times = Counter(seen)
    rated = [sample for sample in ORDER if sample in times]
    assert rated == ORDER[: len(rated)], "a prefix of the order is a random subset"
    assert [times[sample] for sample in rated[:45]] == [2, 1, 1, 1, 1] * 9
    with database.read() as session:
        assert human_ratings.draw(session, SUITE, {1: [7], 2: [7]}, chance, "rater 0").sample == 7


def test_people_and_a_judge_together_are_surer_than_people(database, tmp_path):
    judged(database, tmp_path)
    voted(database, 40, agrees=lambda place: place % 10 != 0)
    (found,) = both(database)
    assert (found.first, found.second, found.judge) == (11, 12, "shorter")
    assert (found.both, found.agreed) == (40, 0.9)
    assert found.rates.judge.value == 0.5
    assert found.rates.people.items == 40
    assert found.rates.together.stderr < 0.8 * found.rates.people.stderr


def test_the_order_of_players_changes_nothing(database, tmp_path):
    judged(database, tmp_path)
    voted(database, 30)
    straight = both(database)
    judged(database, tmp_path, evaluations=(1, 2))
    assert both(database) == straight, "a new run replaces the old one"
    judged(database, tmp_path, evaluations=(2, 1))
    with database.read() as session:
        (row,) = session.query(Judgment)
        assert (row.first_id, row.second_id) == (1, 2)
    (mirrored,) = both(database)
    assert mirrored.agreed == 0


def test_rated_samples_beyond_the_first_gap_are_left_out(database, tmp_path):
    judged(database, tmp_path)
    voted(database, 19)
    human_ratings.rate(database, SUITE, Pair(1, 2, ORDER[50]), "left", "ann")
    (found,) = both(database)
    assert found.rates is None
    assert found.reason == "people have rated the first 19 items of the judge's random order; 20 are needed"
    assert found.both == 20


def test_agreement_between_raters_is_of_samples_that_two_rated(database):
    with database.read() as session:
        assert people_and_judges.agreement(session, SUITE, RUNS) is None
    voted(database, 40)
    voted(database, 20, agrees=lambda place: place % 2 == 0, rater="bob")
    with database.read() as session:
        found = people_and_judges.agreement(session, SUITE, RUNS)
    assert (found.items, found.raters) == (20, 2)
    assert abs(found.alpha) < 0.3
    assert found.ci_low < found.alpha < found.ci_high


def test_the_report_names_checkpoints_and_fits_its_schema(database, tmp_path):
    judged(database, tmp_path)
    voted(database, 40, agrees=lambda place: place % 10 != 0)
    with database.read() as session:
        found = schemas.Ratings.model_validate(rating_report(session, SUITE))
    assert {each.checkpoint for each in found.ratings} == {"gan@0", "vae@0"}
    assert found.method == "redraws items; these raters only (1)"
    assert (found.judges[0].first, found.judges[0].second) == ("gan@0", "vae@0")
    assert found.agreement.alpha is None
    shown = "".join(map(str, ratings_answer(found).remarks))
    assert shown == "Errors: redraws items; these raters only (1)."


def test_draws_of_an_item_are_one_item(database, tmp_path):
    with database.write() as session:
        for each in (1, 2):
            session.get(human_ratings.Evaluation, each).spec = {"order": {"of": 25, "seed": 0, "version": 1}}
    judged(database, tmp_path)
    voted(database, 100)
    (found,) = both(database)
    assert found.rates.people.items == 25
    with database.read() as session:
        (first, *_) = human_ratings.standings(session, SUITE, RUNS)
    assert first.method == "redraws items; these raters only (1)"
