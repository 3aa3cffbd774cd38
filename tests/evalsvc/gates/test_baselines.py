"""What a candidate is compared with: never itself, nothing that passed by less, and no alias that is a typing error."""

import pytest

from evalsvc.core.errors import InputError
from evalsvc.core.settings import Settings
from evalsvc.gates.policy import parse_policy
from evalsvc.gates.resolution import find_candidate
from evalsvc.gates.runner import run_gate
from evalsvc.store import names, queries
from evalsvc.store.session import Database

from .conftest import TODAY
from .store import DIGITS, add_checkpoint, add_scores, gate_policy, point

LIMITS = {"frechet_distance": {"max": 40, "max_worsening": 5}, "recall": {"min": 0.6, "tier": "supporting"}}
RELEASE = {"baseline": "last-passing", "on_missing_baseline": "absolute-only", "metrics": LIMITS}


@pytest.fixture
def opened(home):
    """``flow@5``, ``flow@9`` and ``flow@10``, each a little worse than the one before; production is ``flow@5``."""
    database = Database(Settings().database)
    with database.write() as session:
        for step, value in ((5, 20.0), (9, 21.0), (10, 22.0)):
            made = add_checkpoint(session, step=step)
            add_scores(session, made, {"frechet_distance": value, "recall": (0.8, 0.01)})
        point(session, "production", names.find(session, "flow@5"))
    yield database
    database.engine.dispose()


def decided(database, candidate="flow@10", more=None, **changes):
    return run_gate(gate_policy(**changes), database, DIGITS, today=TODAY, candidate=candidate, **more or {}).document


def baseline(document):
    return [each["step"] for each in document["baseline"]["checkpoints"]]


@pytest.mark.parametrize(
    "earlier",
    [
        {"metrics": LIMITS},
        {"metrics": LIMITS | {"frechet_distance": {"max": 30, "max_worsening": 3}}},
        {"metrics": LIMITS | {"kernel_distance": {"tier": "advisory"}}},
        {"metrics": {"frechet_distance": LIMITS["frechet_distance"]}},
        {"metrics": LIMITS, "defaults": {"confidence": 0.99}},
    ],
    ids=["the same", "stricter", "more reported", "without the supporting one", "surer"],
)
def test_last_passing_counts_a_pass_of_limits_at_least_as_strict(opened, earlier):
    passed = decided(opened, "flow@9", **earlier)
    assert passed["verdict"]["status"] == "PASS"
    assert baseline(decided(opened, **RELEASE)) == [9]


@pytest.mark.parametrize(
    "earlier",
    [
        {"metrics": LIMITS | {"frechet_distance": {"max": 1e6, "max_worsening": 5}}},
        {"metrics": LIMITS | {"frechet_distance": {"max": 40}}},
        {"metrics": LIMITS | {"frechet_distance": {"max": 40, "max_worsening": 6}}},
        {"metrics": {"recall": {"min": 0.6}, "frechet_distance": LIMITS["frechet_distance"] | {"tier": "supporting"}}},
        {"metrics": {"recall": {"min": 0.6}}},
        {"metrics": LIMITS, "defaults": {"confidence": 0.51}},
        {"metrics": LIMITS, "defaults": {"min_samples": 1}},
        {"metrics": LIMITS, "allow_same": True},
        {"metrics": LIMITS, "prompts": "fixed"},
        {"metrics": LIMITS, "more": {"shadow": True}},
        {
            "metrics": LIMITS | {"recall": {"min": 0.95}},
            "waivers": [{"metric": "recall", "reason": "r", "by": "b", "expires": TODAY.isoformat()}],
        },
    ],
    ids=[
        "max",
        "no margin",
        "margin",
        "tier",
        "other score",
        "confidence",
        "samples",
        "same",
        "prompts",
        "shadow",
        "waived",
    ],
)
def test_last_passing_does_not_count_what_passed_by_less(opened, earlier):
    passed = decided(opened, "flow@9", **earlier)
    assert passed["verdict"]["status"] == "PASS"
    done = decided(opened, **RELEASE)
    assert baseline(done) == []
    assert "no other checkpoint of flow has passed" in done["notices"][0]


def test_a_pass_on_this_reference_file_is_none_for_references_like_it(opened):
    decided(opened, "flow@9", **RELEASE)
    assert baseline(decided(opened, **RELEASE, reference="sampled")) == []
    decided(opened, "flow@5", **RELEASE, reference="sampled")
    assert baseline(decided(opened, **RELEASE, reference="sampled")) == [5]
    assert baseline(decided(opened, **RELEASE)) == [5]


def test_a_pass_that_does_not_count_hides_no_earlier_one_that_does(opened):
    decided(opened, "flow@5", **RELEASE)
    decided(opened, "flow@9", metrics={"frechet_distance": {"max": 1e6}}, defaults={"min_samples": 1})
    assert baseline(decided(opened, **RELEASE)) == [5]


@pytest.mark.parametrize("missing", ["fail", "absolute-only", "inconclusive"])
@pytest.mark.parametrize("rule", [{"alias": "production"}, {"model": "flow", "step": 5}])
def test_a_candidate_is_never_its_own_baseline(opened, rule, missing):
    changes = {"baseline": rule, "metrics": LIMITS, "on_missing_baseline": missing}
    done = decided(opened, "flow@5", **changes)
    assert (done["verdict"]["status"], done["exit_code"]) == ("MISSING", 5)
    assert "the candidate is its own baseline" in done["verdict"]["reason"]
    assert decided(opened, "flow@5", **changes, allow_same=True)["verdict"]["status"] == "PASS"


def test_the_same_content_under_another_name_is_the_candidate_itself(opened):
    with opened.write() as session:
        copy = add_checkpoint(session, "renamed", 1)
        copy.digest = names.find(session, "flow@5").digest
        add_scores(session, copy, {"frechet_distance": 20.0, "recall": (0.8, 0.01)})
    assert decided(opened, "renamed@1", metrics=LIMITS)["verdict"]["status"] == "MISSING"


def test_a_policy_that_compares_nothing_asks_for_no_other_baseline(opened):
    assert decided(opened, "flow@5", metrics={"frechet_distance": {"max": 40}})["verdict"]["status"] == "PASS"


@pytest.mark.parametrize("missing", ["fail", "absolute-only", "inconclusive"])
@pytest.mark.parametrize("name", ["prodution", "Production", "nobody"])
def test_an_alias_that_nobody_ever_set_is_an_error_with_the_nearest_names(opened, name, missing):
    with pytest.raises(InputError, match=f"alias '{name}' was never set; the nearest are production"):
        decided(opened, baseline={"alias": name}, on_missing_baseline=missing)
    with opened.read() as session:
        assert queries.gates(session) == []
        assert find_candidate(session, gate_policy(baseline={"alias": name}), "flow@9").step == 9


def test_a_key_that_policies_did_not_always_have_changes_no_digest_at_its_default():
    text = "version: 1\nsuite: digits\nmetrics: {m: {max: 1}}\n"
    assert parse_policy(text).digest == "84ddbdb2b4589799d99363743011f4cd905e1f1e268defa82e59eb98f73d89b5"
    assert parse_policy(text + "allow_same: false\n").digest == parse_policy(text).digest
    assert parse_policy(text + "allow_same: true\n").digest != parse_policy(text).digest
