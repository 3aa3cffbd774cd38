"""What earlier decisions saw and spent: no rerun, seed, limit, label or baseline gives a candidate a second chance."""

import pytest
from sqlalchemy import select

from evalsvc.core.deadline import Deadline
from evalsvc.gates import runner as gates
from evalsvc.gates.runner import run_gate
from evalsvc.gates.sequential import FIRST_SHARE, plan
from evalsvc.store import names
from evalsvc.store.session import Database
from evalsvc.store.tables import Gate, GateSpending

from .conftest import TODAY
from .store import DIGITS, add_checkpoint, add_scores, gate_policy, point

ABSOLUTE = {"frechet_distance": {"max": 20.5}}
WORSENING = {"frechet_distance": {"max_worsening": 2.0}}


def fill(database):
    """``flow@9``, a tenth under the limit of 20.5, and the baselines ``flow@5`` and ``flow@6``."""
    with database.write() as session:
        for step in (5, 6, 9):
            add_scores(session, add_checkpoint(session, step=step), {"frechet_distance": (20.4, 0.1)})
        point(session, "production", names.find(session, "flow@5"))
        point(session, "older", names.find(session, "flow@6"))
    return database


@pytest.fixture
def scored(tmp_path):
    return fill(Database(f"sqlite:///{tmp_path / 'scores.db'}"))


def add_seed(database, seed, name="flow@9", value=(20.4, 0.1)):
    with database.write() as session:
        add_scores(session, names.find(session, name), {"frechet_distance": value}, seed=seed)


def decided(database, metrics=ABSOLUTE, **more):
    changes = {key: more.pop(key) for key in ("baseline", "waivers", "defaults", "on_inconclusive") if key in more}
    return run_gate(gate_policy(metrics=metrics, **changes), database, DIGITS, today=TODAY, **more).document


def spending(document):
    return document["evidence"]["spending"]


def test_the_first_decision_spends_its_share_and_the_same_evidence_repeats_it_at_no_cost(scored):
    first, again, promoted = (decided(scored) for _ in range(3))
    assert (spending(first)["spent"], spending(first)["share"]) == (FIRST_SHARE, FIRST_SHARE)
    assert spending(first)["seeds"] == [2026]
    for each in (again, promoted):
        assert each["verdict"]["metrics"] == first["verdict"]["metrics"]
        assert (spending(each)["spent"], spending(each)["repeats"]) == (0, first["gate"])
        assert any("its verdict is repeated at no cost" in warning for warning in each["verdict"]["warnings"])


def test_each_new_seed_spends_half_of_what_is_left_and_all_seeds_are_pooled(scored):
    shares, runs = [spending(decided(scored))["spent"]], [1]
    for seed in range(4):
        add_seed(scored, seed, value=(20.4 + 0.01 * (seed + 1), 0.1))
        document = decided(scored)
        shares.append(spending(document)["spent"])
        runs.append(document["evidence"]["metrics"]["frechet_distance"]["candidate"]["replicates"])
    assert runs == [1, 2, 3, 4, 5]
    assert shares == pytest.approx([0.9, 0.05, 0.025, 0.0125, 0.00625])
    assert [each["seeds"] for each in spending(document)["earlier"]][:2] == [[2026], [0, 2026]]


def test_a_seed_that_changes_no_sample_is_no_new_evidence(scored):
    decided(scored)
    add_seed(scored, 7)
    assert spending(decided(scored))["spent"] == 0


@pytest.mark.parametrize(
    "changed",
    [
        {"metrics": {"frechet_distance": {"max": 20.6}}},
        {"metrics": {"frechet_distance": {"max": 20.5, "max_worsening": 5.0}}},
        {"defaults": {"confidence": 0.9}},
        {"defaults": {"min_samples": 100}},
        {"shadow": True, "metrics": {"frechet_distance": {"max": 21.0}}},
    ],
    ids=["limit", "another limit", "confidence", "min_samples", "in shadow"],
)
def test_other_limits_on_the_same_evidence_are_another_look_that_is_listed(scored, changed):
    first = decided(scored)
    document = decided(scored, **changed)
    assert spending(document)["spent"] == pytest.approx(0.05)
    [earlier] = spending(document)["earlier"]
    assert (earlier["gate"], earlier["limits_changed"]) == (first["gate"], True)
    assert earlier["metrics"]["frechet_distance"]["max"] == 20.5
    assert any("used other limits" in warning for warning in document["verdict"]["warnings"])
    assert spending(decided(scored))["repeats"] == first["gate"], "and back is no look at all"


def test_waivers_and_more_samples_that_change_no_evidence_spend_nothing(scored):
    decided(scored)
    waiver = {"metric": "frechet_distance", "reason": "known", "by": "ada", "expires": TODAY.isoformat()}
    assert spending(decided(scored, waivers=[waiver]))["spent"] == 0
    assert spending(decided(scored, on_inconclusive={"more_samples": 4}))["spent"] == 0


def test_a_shadow_look_counts(scored):
    decided(scored, shadow=True)
    add_seed(scored, 1, value=(20.2, 0.1))
    assert spending(decided(scored))["spent"] == pytest.approx(0.05)


def test_another_baseline_gives_limits_that_need_none_no_second_chance(scored):
    decided(scored)
    assert spending(decided(scored, baseline={"alias": "older"}))["spent"] in (0, pytest.approx(0.05))
    decided(scored, WORSENING)
    assert spending(decided(scored, WORSENING, baseline={"alias": "older"}))["spent"] == FIRST_SHARE


def test_another_label_of_the_same_content_has_the_same_history_and_the_same_seeds(scored):
    first = decided(scored)
    with scored.write() as session:
        content = names.find(session, "flow@9").digest
        alike = add_checkpoint(session, model="renamed", step=1)
        alike.digest = content
    document = decided(scored, candidate="renamed@1")
    assert spending(document)["repeats"] == first["gate"]
    assert document["evidence"]["metrics"]["frechet_distance"]["candidate"]["value"] == 20.4


def test_another_candidate_or_configuration_has_a_level_of_its_own(scored):
    decided(scored)
    with scored.write() as session:
        other = add_checkpoint(session, step=10)
        add_scores(session, other, {"frechet_distance": 20.4})
        alike = add_checkpoint(session, model="configured", step=9)
        alike.digest, alike.configuration = names.find(session, "flow@9").digest, "c" * 64
        add_scores(session, alike, {"frechet_distance": 20.4})
    for name in ("flow@10", "configured@9"):
        assert spending(decided(scored, candidate=name))["spent"] == FIRST_SHARE


def test_what_could_not_be_judged_spends_nothing(scored):
    missing = {"frechet_distance": {"max": 20.5}, "recall": {"min": 0.1}}
    assert decided(scored, missing)["verdict"]["status"] == "MISSING"
    assert spending(decided(scored))["spent"] == FIRST_SHARE


def test_looks_that_a_time_limit_cut_off_have_spent_what_they_looked_with(scored, monkeypatch):
    """Else a gate that is stopped after its first look could look again and again, each time under new seeds."""
    first = plan(2000)[0]

    def stopped(*arguments):
        arguments[-1].append(first)
        raise Deadline("timed out after 1 s")

    with monkeypatch.context() as patch:
        patch.setattr(gates, "decide", stopped)
        document = decided(scored)
    assert document["verdict"]["status"] == "ERROR"
    assert 0 < first.spent < 0.2 * FIRST_SHARE
    assert spending(document)["spent"] == pytest.approx(first.spent)
    after = spending(decided(scored))
    assert after["spent"] == pytest.approx(FIRST_SHARE * (1 - first.spent))
    assert after["spent"] + after["spent_before"] < 1


def test_a_database_without_decisions_says_that_it_knows_of_none(scored):
    said = [decided(scored)["verdict"]["warnings"] for _ in range(2)]
    assert ["this database has no decisions" in " ".join(warnings) for warnings in said] == [True, False]


def test_of_two_decisions_at_one_moment_the_second_judges_with_what_the_first_left(database, monkeypatch):
    scored = fill(database)
    add_seed(scored, 1, value=(20.3, 0.1))
    decide, meanwhile = gates.decide, []

    def slowly(*args):
        found = decide(*args)
        if not meanwhile:
            meanwhile.append(True)
            decided(scored, {"frechet_distance": {"max": 20.7}})
        return found

    monkeypatch.setattr(gates, "decide", slowly)
    assert spending(decided(scored))["spent"] == pytest.approx(0.05)
    with scored.read() as session:
        assert [row.share for row in session.scalars(select(GateSpending))] == pytest.approx([FIRST_SHARE, 0.05])
        assert len(session.scalars(select(Gate)).all()) == 2
