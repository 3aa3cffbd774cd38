import pytest
from typer.testing import CliRunner

from evalsvc.cli.main import app
from evalsvc.core.errors import InputError
from evalsvc.core.settings import Settings
from evalsvc.evaluation.service import resolve_suite
from evalsvc.gates.policy import Policy
from evalsvc.gates.promote import promote
from evalsvc.gates.resolution import labels_of
from evalsvc.gates.runner import run_gate
from evalsvc.plugins.registry import Plugins
from evalsvc.store import names, queries
from evalsvc.store.session import Database
from evalsvc.store.tables import Status

from .conftest import ISSUE, TODAY
from .store import DIGITS, add_checkpoint, add_scores, gate_policy, point


def decided(database, policy=None, **more):
    return run_gate(policy or gate_policy(), database, DIGITS, today=TODAY, **more)


def status(database, policy=None, **more):
    done = decided(database, policy, **more)
    return done.document["verdict"]["status"], done.exit_code


@pytest.fixture
def production(database):
    """``flow@9`` against ``flow@5``, both scored alike."""
    with database.write() as session:
        for step in (5, 9):
            add_scores(session, add_checkpoint(session, step=step), {"frechet_distance": 20.0, "recall": (0.8, 0.01)})
        point(session, "production", names.find(session, "flow@5"))
    return database


def test_a_gate_on_stored_scores_passes_and_is_kept_with_its_evidence(production):
    done = decided(production)
    assert (done.document["verdict"]["status"], done.exit_code) == ("PASS", 0)
    with production.read() as session:
        [row] = queries.gates(session)
    assert (row.status, row.exit_code, row.model, row.step) == ("PASS", 0, "flow", 9)
    assert row.policy_digest == gate_policy().digest
    assert Policy.model_validate(row.policy) == gate_policy()
    seen = row.evidence["metrics"]["frechet_distance"]
    assert seen["candidate"]["value"] == seen["baseline"]["value"] == 20.0
    assert seen["candidate"]["protocol"] == "p"
    assert seen["comparisons"][0]["estimate"] == 0
    assert "status" not in seen
    assert row.verdict["metrics"][0]["limits"][0]["status"] == "PASS"


def test_an_empty_database_is_missing_and_never_passes(database):
    assert status(database, gate_policy(baseline="last-passing")) == ("MISSING", 5)


def test_a_candidate_without_scores_is_missing(production):
    with production.write() as session:
        add_checkpoint(session, step=10)
    assert status(production, candidate="flow@10") == ("MISSING", 5)


def test_a_failed_evaluation_is_an_error_that_says_why(production):
    with production.write() as session:
        run = add_scores(session, add_checkpoint(session, step=10), {}, status=Status.FAILED, error="worker died")
        assert run.id
    done = decided(production, candidate="flow@10")
    assert done.exit_code == 1
    assert "worker died" in done.document["verdict"]["reason"]


def test_superseded_and_running_evaluations_are_no_evidence(production):
    with production.write() as session:
        for step, state in ((10, Status.SUPERSEDED), (11, Status.RUNNING)):
            values = {"frechet_distance": 20.0}
            add_scores(session, add_checkpoint(session, step=step), values, status=state)
    assert status(production, candidate="flow@10") == ("MISSING", 5)
    assert status(production, candidate="flow@11") == ("MISSING", 5)


def test_another_protocol_is_not_comparable_and_named(production):
    with production.write() as session:
        values = {"frechet_distance": 20.0}
        add_scores(session, add_checkpoint(session, step=10), values, protocol="q", n=1500)
    done = decided(production, candidate="flow@10")
    assert done.exit_code == 7
    assert "samples 1500 then, 2000 today" in done.document["verdict"]["reason"]


@pytest.mark.parametrize(
    ("baseline", "reason"),
    [
        ({"model": "flow", "step": 77}, "no checkpoint 'flow@77'"),
        ("last-passing", "no other checkpoint of flow has passed"),
        ({"median-of": 3}, "the median needs 3 scored checkpoints of flow before the candidate, and there are 1"),
    ],
)
def test_a_baseline_that_is_not_there_never_lets_a_candidate_pass(production, baseline, reason):
    done = decided(production, gate_policy(baseline=baseline))
    assert done.exit_code == 5
    assert reason in done.document["verdict"]["reason"]


def test_last_passing_is_the_checkpoint_that_passed_last_and_not_the_candidate_itself(production):
    decided(production)
    with production.write() as session:
        values = {"frechet_distance": 25.0}
        add_scores(session, add_checkpoint(session, step=10), values)
    done = decided(production, gate_policy(baseline="last-passing"), candidate="flow@10")
    assert done.exit_code == 3
    assert done.document["baseline"]["checkpoints"][0]["step"] == 9
    assert status(production, gate_policy(baseline="last-passing"), candidate="flow@9") == ("MISSING", 5)


def test_the_median_of_the_last_checkpoints_is_the_baseline(production):
    with production.write() as session:
        for step, value in ((6, 10.0), (7, 21.0), (8, 90.0)):
            add_scores(session, add_checkpoint(session, step=step), {"frechet_distance": value})
    done = decided(production, gate_policy(baseline={"median-of": 3}))
    assert done.document["evidence"]["metrics"]["frechet_distance"]["baseline"]["value"] == 21.0
    assert [each["step"] for each in done.document["baseline"]["checkpoints"]] == [8, 7, 6]
    assert done.exit_code == 0


def test_replicates_add_the_spread_between_seeds(production):
    with production.write() as session:
        ten = add_checkpoint(session, step=10)
        for seed, value in ((2026, 15.0), (2027, 20.0), (2028, 25.0)):
            add_scores(session, ten, {"frechet_distance": value}, seed=seed)
    seen = decided(production, candidate="flow@10").document["evidence"]["metrics"]["frechet_distance"]["candidate"]
    assert seen["replicates"] == 3
    assert seen["value"] == 20
    assert seen["stderr"] == pytest.approx(5 / 3**0.5)
    compared = decided(production, candidate="flow@10").document["evidence"]["metrics"]["frechet_distance"]
    assert compared["comparisons"][0]["high"] > 4.3 * 5 / 3**0.5, "Student's factor for three seeds"
    asked = decided(production, candidate="flow@10", seed=2026)
    assert asked.document["evidence"]["metrics"]["frechet_distance"]["candidate"]["replicates"] == 3, "none is left out"


def test_seeds_that_differ_by_rounding_are_one_run(production):
    with production.write() as session:
        ten = add_checkpoint(session, step=10)
        for seed in range(16):
            values = {"frechet_distance": 20.0 * (1 + seed * 1e-12), "recall": 0.7}
            add_scores(session, ten, values, seed=seed)
    seen = decided(production, candidate="flow@10").document["evidence"]["metrics"]["frechet_distance"]["candidate"]
    assert seen["replicates"] == 1


def test_seeds_that_change_nothing_make_nothing_surer(production):
    with production.write() as session:
        for step, seeds in ((10, (2026,)), (11, (2026, 2027, 2028))):
            checkpoint = add_checkpoint(session, step=step)
            for seed in seeds:
                add_scores(session, checkpoint, {"frechet_distance": 20.0, "recall": 0.7}, seed=seed)
    alone, repeated = (
        decided(production, candidate=f"flow@{step}").document["evidence"]["metrics"]["frechet_distance"]["candidate"]
        for step in (10, 11)
    )
    assert repeated["replicates"] == 1
    assert repeated["stderr"] == alone["stderr"]


def test_a_shadow_gate_is_recorded_and_ends_with_zero(production):
    with production.write() as session:
        add_scores(session, add_checkpoint(session, step=10), {"frechet_distance": 90.0})
    done = decided(production, candidate="flow@10", shadow=True)
    assert done.exit_code == 0
    with production.read() as session:
        [row] = queries.gates(session)
    assert (row.status, row.exit_code, row.shadow) == ("FAIL", 3, True)


def test_promotion_is_remembered_with_its_gate(production):
    done = decided(production)
    assert promote(production, "production", "flow@9", done.id) == "flow@9"
    with production.read() as session:
        assert names.find(session, "production").step == 9
        [row] = queries.promotions(session, "production")
        assert (row.gate_id, row.checkpoint.step) == (done.id, 9)


@pytest.mark.parametrize(
    ("metrics", "complaint"),
    [
        ({"frechet": {"max": 1}}, "has no score 'frechet': use one of frechet_distance, frechet_distance_heldout"),
        ({"recal": {"min": 1}}, "has no score 'recal'"),
        ({"frechet_distance": {"min": 1}}, "lower is better, so min would reject good values: use max"),
        ({"recall": {"max": 1}}, "higher is better, so max would reject good values: use min"),
        ({"ct_score": {"max_worsening": 1}}, "no better direction"),
        ({"kernel_distance": {"max_worsening_rel": 0.1}}, "can be negative"),
        ({"recall": {"min": 60}}, r"recall: min 60 is outside its range of 0 to 1: write 60 % as 0.6"),
        ({"recall": {"min": -5}}, "min -5 is outside its range"),
        ({"recall": {"max_worsening": 5}}, "max_worsening 5 is outside its range of 0 to 1"),
        ({"frechet_distance": {"max": -1}}, "max -1 is outside its range of 0 to inf"),
        ({"vendi": {"min": 2}, "vendi_score": {"tier": "advisory"}}, "another entry already gates"),
        ({"bits_per_dim": {"max": 2}}, "has no score 'bits_per_dim': use one of bits_per_dim_heldout"),
    ],
)
def test_a_policy_that_does_not_fit_its_suite_is_refused(metrics, complaint):
    with pytest.raises(InputError, match=complaint):
        labels_of(gate_policy(metrics=metrics), DIGITS)


def test_a_label_may_be_given_without_score_at_its_end(issue_policy):
    assert labels_of(issue_policy, DIGITS)["vendi"] == "vendi_score"
    assert ISSUE


def test_a_suite_that_only_the_database_knows_is_found_there(production, tmp_path):
    with production.write() as session:
        from evalsvc.store.tables import Suite

        body = DIGITS.model_dump(mode="json") | {"name": "ours"}
        session.add(Suite(name="ours", version=1, digest="x", body=body))
    found = resolve_suite("ours@1", production, Plugins())
    assert found.id == "ours@1"
    with pytest.raises(InputError, match="there is no suite 'theirs@1'"):
        resolve_suite("theirs@1", production, Plugins())


def test_nobody_chooses_by_a_new_version_which_suite_a_policy_means(production, tmp_path):
    from evalsvc.store.tables import Suite

    for version in (1, 99):
        body = DIGITS.model_dump(mode="json") | {"name": "ours", "version": version}
        with production.write() as session:
            session.add(Suite(name="ours", version=version, digest="x", body=body))
        if version == 1:
            assert resolve_suite("ours", production, Plugins()).id == "ours@1"
    with pytest.raises(InputError, match="has several versions: name one of ours@1, ours@99"):
        resolve_suite("ours", production, Plugins())
    assert resolve_suite("ours@99", production, Plugins()).version == 99


def test_what_a_gate_judged_is_what_the_alias_gets_though_its_name_means_a_newer_checkpoint_by_now(
    home, monkeypatch, tmp_path
):
    database = Database(Settings().database)
    with database.write() as session:
        add_scores(session, add_checkpoint(session, step=9), {"frechet_distance": 20.0})
    policy = gate_policy(candidate=None, baseline=None, metrics={"frechet_distance": {"max": 40}})
    (tmp_path / "gate.yaml").write_text(policy.model_dump_json(by_alias=True))

    def while_training_goes_on(*args, **more):
        done = run_gate(*args, **more)
        with database.write() as session:
            add_checkpoint(session, step=10)
        return done

    monkeypatch.setattr("evalsvc.gates.several.run_gate", while_training_goes_on)
    command = ["alias", "set", "production", "flow", "--require-gate", str(tmp_path / "gate.yaml"), "--stored"]
    done = CliRunner().invoke(app, command, catch_exceptions=False)
    assert (done.exit_code, "production is now flow@9, by gate 1" in done.stderr) == (0, True)


@pytest.mark.parametrize("name", ["", "flow@5", "a/b", "a" * 101])
def test_an_alias_is_called_like_no_checkpoint(production, name):
    with pytest.raises(InputError, match="invalid alias"):
        promote(production, name, "flow@9")
