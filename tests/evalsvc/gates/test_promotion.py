"""An alias moves by what was decided about exactly this checkpoint, and a protected one by nothing else."""

import json
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from typer.testing import CliRunner

from evalsvc.cli.main import app
from evalsvc.core.errors import InputError
from evalsvc.core.settings import Settings
from evalsvc.gates.promote import PromotionError, promote, protect, unprotect
from evalsvc.gates.runner import run_gate
from evalsvc.inputs.suites import Suite
from evalsvc.store import queries
from evalsvc.store.names import find
from evalsvc.store.session import Database, clock
from evalsvc.store.tables import Gate, Score

from .conftest import TODAY
from .store import DIGITS, add_checkpoint, add_scores, gate_policy, point

PINNED = gate_policy(candidate=None, metrics={"frechet_distance": {"max": 40, "max_worsening": 2.0}})
LAX = gate_policy(candidate=None, metrics={"frechet_distance": {"max": 1e9}}, defaults={"min_samples": 1})


OTHER = Suite.model_validate(DIGITS.model_dump() | {"seed": 7})


def fill(database):
    """``flow@5`` to ``flow@8``; production is ``flow@5``."""
    with database.write() as session:
        for step, value in ((5, 20.0), (6, 19.5), (7, 20.5), (8, 90.0)):
            add_scores(session, add_checkpoint(session, step=step), {"frechet_distance": value})
        point(session, "production", find(session, "flow@5"))


@pytest.fixture
def store(home):
    opened = Database(Settings().database)
    fill(opened)
    yield opened
    opened.engine.dispose()


@pytest.fixture
def protected(store):
    """The same, and production is protected by :data:`PINNED`."""
    pin(store)
    return store


def pin(database, policy=PINNED, alias="production", suite=DIGITS):
    with database.write() as session:
        return protect(session, alias, policy, (suite,), "boss").policy_digest


def passed(database, candidate, policy=PINNED, suite=DIGITS, **more):
    done = run_gate(policy, database, suite, today=TODAY, candidate=candidate, **more)
    assert done.document["verdict"]["status"] == "PASS", done.document["verdict"]
    return done.id


def target(database, alias="production"):
    with database.read() as session:
        return find(session, alias).step


def moves(database, alias="production"):
    with database.read() as session:
        return [(row.kind, row.checkpoint.step, row.gate_id, row.by, row.reason) for row in queries.promotions(session)]


def test_a_protected_alias_moves_by_a_gate_under_its_policy_and_keeps_who_and_by_which(protected):
    number = passed(protected, "flow@6")
    assert promote(protected, "production", "flow@6", number, by="me") == "flow@6"
    assert moves(protected) == [("gate", 6, number, "me", "")]


@pytest.mark.parametrize(
    ("decide", "complaint"),
    [
        (lambda db: passed(db, "flow@6", LAX), "is protected by policy"),
        (lambda db: passed(db, "flow@6", shadow=True), "is a shadow gate"),
        (lambda db: passed(db, "flow@7"), "judged flow@7, not flow@6"),
        (lambda db: run_gate(PINNED, db, DIGITS, today=TODAY, candidate="flow@8").id, "is FAIL"),
        (lambda db: pin(db, suite=OTHER) and passed(db, "flow@6"), "another version of its content"),
        (lambda db: 99, "there is no gate 99"),
        (lambda db: None, "move it with a gate under that policy"),
    ],
    ids=["own policy", "shadow", "other checkpoint", "failed", "other suite", "no gate", "by hand"],
)
def test_a_protected_alias_moves_by_nothing_else(protected, decide, complaint):
    with pytest.raises(InputError, match=complaint):
        promote(protected, "production", "flow@6", decide(protected))
    assert (target(protected), moves(protected)) == (5, [])


@pytest.mark.parametrize(
    "changes",
    [
        {"defaults": {"confidence": 0.9}},
        {"on_missing_baseline": "absolute-only"},
        {"metrics": {"frechet_distance": {"max": 41, "max_worsening": 2.0}}},
        {"waivers": [{"metric": "frechet_distance", "reason": "r", "by": "b", "expires": TODAY.isoformat()}]},
    ],
    ids=["level", "no baseline", "limit", "waiver"],
)
def test_any_other_policy_is_another_one_and_waivers_are_those_of_the_pinned_file(protected, changes):
    other = PINNED.model_validate(PINNED.model_dump(by_alias=True) | changes)
    with pytest.raises(PromotionError, match="is protected by policy"):
        promote(protected, "production", "flow@6", passed(protected, "flow@6", other))


def test_a_gate_is_good_for_one_move_and_for_the_baseline_that_it_compared_with(protected):
    """Two releases are gated against one production; the better is promoted first, the other by its older gate."""
    worse, better = passed(protected, "flow@7"), passed(protected, "flow@6")
    promote(protected, "production", "flow@6", better)
    for number, checkpoint in ((worse, "flow@7"), (better, "flow@6")):
        with pytest.raises(PromotionError, match="is older than the last move"):
            promote(protected, "production", checkpoint, number)
    assert target(protected) == 6


def test_a_pass_before_a_failure_under_the_same_policy_moves_nothing(protected):
    early = passed(protected, "flow@6")
    with protected.write() as session:
        for seed in range(3):
            add_scores(session, find(session, "flow@6"), {"frechet_distance": 90.0 + seed}, seed=seed)
        for score in session.query(Score).where(Score.value < 20):
            score.value = 89.0
    later = run_gate(PINNED, protected, DIGITS, today=TODAY, candidate="flow@6")
    assert later.document["verdict"]["status"] == "FAIL"
    with pytest.raises(PromotionError, match=f"gate {later.id} failed the checkpoint that gate {early} passed"):
        promote(protected, "production", "flow@6", early)


def test_a_decision_that_was_drawn_before_a_move_and_written_after_it_is_refused(protected):
    number, late = passed(protected, "flow@6"), passed(protected, "flow@7")
    promote(protected, "production", "flow@6", number)
    with protected.write() as session:
        session.get_one(Gate, late).created_at = clock(session)
    with pytest.raises(PromotionError, match=r"used another baseline than .* \(flow@6\)"):
        promote(protected, "production", "flow@7", late)


def test_of_two_promotions_at_the_same_moment_one_wins(database):
    fill(database)
    pin(database)
    numbers = {"flow@6": passed(database, "flow@6"), "flow@7": passed(database, "flow@7")}
    together = Barrier(2)

    def move(checkpoint):
        together.wait()
        try:
            return promote(database, "production", checkpoint, numbers[checkpoint])
        except PromotionError:
            return None

    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(move, numbers))
    [winner] = [each for each in outcomes if each]
    assert f"flow@{target(database)}" == winner
    assert len(moves(database)) == 1


def test_an_alias_that_no_policy_protects_heeds_the_same_of_a_gate(store):
    worse, better = passed(store, "flow@7"), passed(store, "flow@6")
    promote(store, "production", "flow@6", better)
    with pytest.raises(PromotionError, match="is older than the last move"):
        promote(store, "production", "flow@7", worse)
    with pytest.raises(PromotionError, match="is a shadow gate"):
        promote(store, "staging", "flow@6", passed(store, "flow@7", LAX, shadow=True))
    promote(store, "production", "flow@5", reason="by hand")
    assert [kind for kind, *_ in moves(store)] == ["set", "gate"]


def test_an_alias_that_was_never_set_is_protected_and_first_promoted_by_its_policy(store):
    first = PINNED.model_validate(
        PINNED.model_dump(by_alias=True) | {"baseline": {"alias": "release"}, "on_missing_baseline": "absolute-only"}
    )
    pin(store, first, "release")
    number = passed(store, "flow@6", first)
    with pytest.raises(PromotionError, match="judged flow@6"):
        promote(store, "release", "flow@7", number)
    promote(store, "release", "flow@6", number)
    assert moves(store) == [("first", 6, number, "", "")]
    with pytest.raises(PromotionError, match="move it with a gate under that policy"):
        promote(store, "release", "flow@7")


def test_a_protected_alias_goes_back_with_a_reason_and_only_to_where_it_was(protected):
    promote(protected, "production", "flow@6", passed(protected, "flow@6"))
    promote(protected, "production", "flow@7", passed(protected, "flow@7"))
    for checkpoint, reason, complaint in (
        ("flow@6", " ", "move it with a gate under that policy"),
        ("flow@8", "because", "never pointed to flow@8"),
        ("flow@6", "x" * 501, "at most 500 characters"),
    ):
        with pytest.raises(InputError, match=complaint):
            promote(protected, "production", checkpoint, by="me", reason=reason)
    promote(protected, "production", "flow@6", by="me", reason="users report artifacts")
    assert moves(protected)[0] == ("rollback", 6, None, "me", "users report artifacts")


def test_protection_is_kept_when_it_ends(protected):
    with pytest.raises(InputError, match="already protected by this policy"):
        pin(protected)
    other = pin(protected, LAX)
    with protected.write() as session:
        unprotect(session, "production", "me")
        with pytest.raises(InputError, match="is not protected"):
            unprotect(session, "production", "me")
    with protected.read() as session:
        ended = [(row.policy_digest, row.ended_by) for row in queries.protections(session, "production")]
    assert ended == [(other, "me"), (PINNED.digest, "boss")]


def test_the_command_line_shows_what_protects_and_who_moved(store, tmp_path):
    for name, policy in (("gate.yaml", PINNED), ("lax.yaml", LAX)):
        (tmp_path / name).write_text(policy.model_dump_json(by_alias=True))

    def run(*arguments):
        return CliRunner().invoke(app, ["alias", *map(str, arguments)])

    def listed(*arguments):
        return json.loads(run(*arguments, "--json").stdout)

    assert run("protect", "production", "--policy", tmp_path / "gate.yaml").exit_code == 0
    assert listed("list") == [{"alias": "production", "checkpoint": "flow@5", "protected_by": PINNED.digest}]
    assert PINNED.digest[:12] in run("list").stdout
    refused = run("set", "production", "flow@6", "--require-gate", tmp_path / "lax.yaml", "--stored")
    assert "is protected by policy" in str(refused.exception)
    with store.read() as session:
        assert queries.gates(session) == [], "nothing was computed for a gate that could not move the alias"
    assert run("set", "production", "flow@6", "--require-gate", tmp_path / "gate.yaml", "--stored").exit_code == 0
    assert "rollback" not in run("history", "production").stdout
    assert run("set", "production", "flow@5").exception is not None
    assert run("set", "production", "flow@6", "--gate", 1).exception is not None
    warned = run("protect", "staging", "--policy", tmp_path / "gate.yaml")
    assert "use 'baseline: {alias: staging}'" in warned.stderr
    assert run("unprotect", "production").exit_code == 0
    events = listed("history", "production")
    assert [(each["event"], each["checkpoint"], each["gate"]) for each in events] == [
        ("protection ended", None, None),
        ("gate", "flow@6", 1),
        ("protected", None, None),
    ]
    assert all(each["by"] for each in events)
    assert "was never set" in str(run("history", "nobody").exception)
