"""The fail-open table: what may be wrong with a store, a policy or a command, alone and in pairs. None of it passes."""

import hashlib
import json
import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import combinations
from typing import Any

import pytest
from sqlalchemy.orm import Session
from typer.testing import CliRunner

from evalsvc.cli.main import app
from evalsvc.core.errors import EvalsvcError, InputError
from evalsvc.core.settings import Settings
from evalsvc.gates.policy import Policy
from evalsvc.gates.runner import run_gate
from evalsvc.inputs.suites import Suite
from evalsvc.store import queries
from evalsvc.store.session import Database
from evalsvc.store.tables import Checkpoint, Evaluation, Gate, Protocol, Status, now

from .store import DIGITS, add_checkpoint, add_scores, point

GOOD = {"frechet_distance": 20.0, "recall": (0.8, 0.01)}
TODAY = now().date()


@dataclass
class World:
    """A good candidate that a policy passes against ``production``, until something is done to it.

    Each has a model and an alias of its own, so that many fit into one database.
    """

    session: Session
    number: int
    candidate: Checkpoint = field(init=False)
    baseline: Checkpoint = field(init=False)
    asked: str = field(init=False)
    policy: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self.baseline, self.candidate = (self.scored(step) for step in (5, 9))
        point(self.session, self.alias, self.baseline)
        self.asked = f"{self.model}@9"
        self.policy = {
            "version": 1,
            "suite": "digits@1",
            "baseline": {"alias": self.alias},
            "metrics": {"frechet_distance": {"max_worsening": 2.0}, "recall": {"min": 0.6}},
        }

    @property
    def model(self) -> str:
        return f"flow-{self.number}-"

    @property
    def alias(self) -> str:
        return f"production-{self.number}"

    def scored(self, step: int, values=GOOD, **more) -> Checkpoint:
        row = add_checkpoint(self.session, self.model, step)
        add_scores(self.session, row, values, **more)
        return row

    def sibling(self, **changes) -> None:
        """Another entry of the candidate's label, without scores."""
        own = self.candidate
        facts = {"digest": own.digest, "options": {}, "generator": own.generator, "configuration": own.configuration}
        self.session.add(Checkpoint(model_id=own.model_id, step=own.step, path="gone", **facts | changes))

    def scores(self, side: Checkpoint, label: str = "frechet_distance"):
        runs = queries.evaluations(self.session, side.id)
        return [score for run in runs for score in run.scores if score.label == label]

    def change(self, side: Checkpoint, label: str = "frechet_distance", **changes) -> None:
        for score in self.scores(side, label):
            for name, value in changes.items():
                setattr(score, name, value)

    def protocol(self, side: Checkpoint, **facts) -> None:
        """Let the scores of a side be of another protocol."""
        name = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
        self.session.merge(Protocol(id=name, facts=facts))
        self.change(side, protocol_id=name)

    def runs(self, side: Checkpoint, **changes) -> None:
        for run in queries.evaluations(self.session, side.id):
            for name, value in changes.items():
                setattr(run, name, value)

    def passed(self, *, shadow: bool = False, policy=None, waived: bool = False, **evidence) -> None:
        """``last-passing`` is asked for, and finds this decision about another checkpoint of the model."""
        other = self.scored(100 + len(queries.gates(self.session, self.model)))
        self.policy["baseline"] = "last-passing"
        body = Policy.model_validate(self.policy | (policy or {}))
        waiver = {"by": "ada"} if waived else None
        metrics = [{"metric": name, "status": "PASS", "waiver": waiver} for name in self.policy["metrics"]]
        self.session.add(
            Gate(
                suite=DIGITS.id,
                model=self.model,
                step=other.step,
                digest="",
                checkpoint_id=other.id,
                baseline="",
                policy_digest=body.digest,
                policy=body.model_dump(mode="json", by_alias=True),
                status="PASS",
                exit_code=0,
                shadow=shadow,
                evidence={"suite_digest": DIGITS.digest} | evidence,
                verdict={"metrics": metrics},
            )
        )


Situation = Callable[[World], None]
SITUATIONS: dict[str, tuple[Situation, int]] = {}
"""What may be wrong, by name, and how the gate then ends."""


def ends_with(code: int) -> Callable[[Situation], Situation]:
    def kept(situation: Situation) -> Situation:
        SITUATIONS[situation.__name__.replace("_", " ")] = situation, code
        return situation

    return kept


@ends_with(5)
def only_another_configuration_is_scored(world):
    world.sibling(options={"noise": 200}, configuration="c" * 64)
    world.asked = f"{world.model}@9[noise=200]"


@ends_with(5)
def only_another_digest_of_the_label_is_scored(world):
    world.sibling(digest="f" * 64)
    world.asked = f"{world.model}@9#ffffffff"


@ends_with(2)
def the_label_names_two_digests(world):
    world.sibling(digest="e" * 64)


@ends_with(5)
def only_a_shadow_gate_passed(world):
    world.passed(shadow=True)


@ends_with(5)
def only_a_waived_gate_passed(world):
    world.passed(waived=True)


@ends_with(5)
def only_a_laxer_policy_passed(world):
    world.passed(policy={"metrics": {"frechet_distance": {"max_worsening": 3.0}, "recall": {"min": 0.6}}})


@ends_with(5)
def only_another_content_of_the_suite_passed(world):
    world.passed(suite_digest="d")


@ends_with(5)
def only_a_policy_with_a_baseline_of_its_own_passed(world):
    world.passed(policy={"baseline": {"model": "collapsed", "step": 1}})


@ends_with(5)
def only_a_checkpoint_compared_with_itself_passed(world):
    world.passed(policy={"allow_same": True})


@ends_with(5)
def only_a_policy_of_fixed_prompts_passed(world):
    world.passed(policy={"prompts": "fixed"})


@ends_with(2)
def the_alias_was_never_set(world):
    world.policy["baseline"] = {"alias": f"prodution-{world.number}"}


@ends_with(5)
def the_alias_points_at_the_candidate(world):
    point(world.session, world.alias, world.candidate)
    world.session.flush()


@ends_with(7)
def the_candidate_has_an_old_metric_version(world):
    world.protocol(world.candidate, metric="frechet_distance", version=0)


@ends_with(7)
def both_have_an_old_metric_version(world):
    for side in (world.candidate, world.baseline):
        world.protocol(side, metric="frechet_distance", version=0)


@ends_with(7)
def the_baseline_has_an_old_metric_version(world):
    world.protocol(world.baseline, metric="frechet_distance", version=0)


@ends_with(7)
def both_are_scored_against_another_reference(world):
    for side in (world.candidate, world.baseline):
        world.protocol(side, metric="frechet_distance", version=1, reference="r" * 64)


@ends_with(7)
def the_candidate_is_a_part_in_another_order(world):
    world.protocol(world.candidate, order={"version": 1, "seed": 7})


@ends_with(7)
def both_are_the_first_of_an_ordered_set(world):
    spec = {
        "seed": 2026,
        "generator": "samples",
        "path": "gone",
        "options": {},
        "suite": DIGITS.model_dump(mode="json"),
    }
    for side in (world.candidate, world.baseline):
        world.runs(side, spec=spec)


@ends_with(4)
def the_candidate_repeats_few_prompts(world):
    reason = "none: fewer than 20 independent prompts"
    world.change(world.candidate, stderr=None, ci_low=None, ci_high=None, stderr_method=reason)


@ends_with(4)
def the_candidate_repeats_few_prompts_under_an_absolute_limit(world):
    reason = "none: fewer than 20 independent prompts"
    world.change(world.candidate, "recall", stderr=None, ci_low=None, ci_high=None, stderr_method=reason)


@ends_with(4)
def the_baseline_repeats_few_prompts(world):
    reason = "none: fewer than 20 independent prompts"
    world.change(world.baseline, stderr=None, ci_low=None, ci_high=None, stderr_method=reason)


@ends_with(5)
def the_candidate_has_no_scores(world):
    world.runs(world.candidate, status=Status.CANCELLED)


@ends_with(5)
def the_baseline_has_no_scores(world):
    world.runs(world.baseline, status=Status.CANCELLED)


@ends_with(1)
def the_evaluation_of_the_candidate_failed(world):
    world.runs(world.candidate, status=Status.FAILED, error="worker died")


@ends_with(1)
def the_evaluation_of_the_baseline_failed(world):
    world.runs(world.baseline, status=Status.FAILED, error="worker died")


@ends_with(5)
def the_evaluation_is_still_running(world):
    world.runs(world.candidate, status=Status.RUNNING)


@ends_with(5)
def the_evaluation_was_superseded(world):
    world.runs(world.candidate, status=Status.SUPERSEDED)


@ends_with(5)
def the_candidate_lacks_a_score(world):
    for score in world.scores(world.candidate):
        world.session.delete(score)


@ends_with(5)
def the_baseline_lacks_a_score(world):
    for score in world.scores(world.baseline):
        world.session.delete(score)


@ends_with(1)
def the_error_is_infinite(world):
    world.change(world.candidate, stderr=math.inf)


@ends_with(5)
def the_candidate_has_too_few_samples(world):
    world.change(world.candidate, n=999)


@ends_with(5)
def the_baseline_has_too_few_samples(world):
    world.change(world.baseline, n=999)


@ends_with(3)
def the_candidate_is_worse(world):
    world.change(world.candidate, "recall", value=0.3, ci_low=0.28, ci_high=0.32)


@ends_with(4)
def the_candidate_may_be_worse(world):
    world.change(world.candidate, stderr=5.0, ci_low=10.0, ci_high=30.0)


@ends_with(3)
def a_waiver_has_expired(world):
    world.change(world.candidate, "recall", value=0.3, ci_low=0.28, ci_high=0.32)
    world.policy["waivers"] = [{"metric": "recall", "reason": "known", "by": "ada", "expires": "2020-01-01"}]


def waive(world, *metrics):
    expires = (TODAY + timedelta(7)).isoformat()
    world.policy["waivers"] = [
        {"metric": name, "reason": "known", "by": "ada", "expires": expires}
        for name in metrics or world.policy["metrics"]
    ]


@ends_with(5)
def all_that_could_decide_is_waived(world):
    for label, value in (("frechet_distance", 90.0), ("recall", 0.3)):
        world.change(world.candidate, label, value=value, ci_low=value - 0.02, ci_high=value + 0.02)
    waive(world)


SOFTENED: dict[str, tuple[Situation, dict[str, Any]]] = {
    "then warn": (lambda world: world.policy.update(on_inconclusive={"then": "warn"}), {}),
    "--warn-only": (lambda world: None, {"warn_only": True}),
    "a waiver": (lambda world: waive(world, "recall"), {}),
    "absolute-only": (lambda world: world.policy.update(on_missing_baseline="absolute-only"), {}),
}
"""What lets a gate end softly; none of it makes one pass."""
WAIVABLE = {
    "the candidate is worse",
    "a waiver has expired",
    "the candidate repeats few prompts under an absolute limit",
}
"""What concerns recall alone, for which there is a waiver."""


@pytest.fixture(scope="module")
def migrated(tmp_path_factory):
    """A database without rows, made once."""
    file = tmp_path_factory.mktemp("store") / "evalsvc.db"
    Database(f"sqlite:///{file}").engine.dispose()
    return file


@pytest.fixture
def store(home, migrated):
    home.mkdir()
    shutil.copy(migrated, home)
    opened = Database(Settings().database)
    yield opened
    opened.engine.dispose()


def built(store, *rows):
    """A world for each row of situations, all in one database."""
    with store.write() as session:
        worlds = []
        for number, row in enumerate(rows):
            worlds.append(World(session, number))
            for situation in row:
                situation(worlds[-1])
                session.flush()
        return [(Policy.model_validate(world.policy), world.asked, world) for world in worlds]


def decided(store, policy, asked, **more):
    """The status of a gate and its exit code."""
    try:
        done = run_gate(policy, store, DIGITS, candidate=asked, today=TODAY, **more)
    except EvalsvcError as error:
        return str(error), 2
    return done.document["verdict"]["status"], done.exit_code


def test_without_any_of_it_the_candidate_passes(store):
    [good, later] = built(store, [], [World.passed])
    assert decided(store, *good[:2]) == decided(store, *later[:2]) == ("PASS", 0)


@pytest.mark.parametrize("name", SITUATIONS)
def test_nothing_passes_that_is_not_as_it_was_asked_for_on_the_command_line(store, tmp_path, name):
    situation, code = SITUATIONS[name]
    [(policy, asked, _)] = built(store, [situation])
    (tmp_path / "gate.yaml").write_text(policy.model_dump_json(by_alias=True, exclude_defaults=True))
    done = CliRunner().invoke(app, ["gate", "run", str(tmp_path / "gate.yaml"), "--stored", "--candidate", asked])
    assert (2 if isinstance(done.exception, EvalsvcError) else done.exit_code) == code, done.output
    with store.read() as session:
        assert all(gate.status != "PASS" for gate in queries.gates(session) if gate.step == 9)
        assert queries.promotions(session) == []


@pytest.mark.parametrize("name", SITUATIONS)
def test_nothing_passes_with_two_things_wrong(store, name):
    others = [each for pair in combinations(SITUATIONS, 2) if pair[0] == name for each in pair[1:]]
    first = SITUATIONS[name][0]
    worlds = built(store, *([first, SITUATIONS[other][0]] for other in others))
    passed = {}
    for other, (policy, asked, _) in zip(others, worlds, strict=True):
        status, code = decided(store, policy, asked)
        if status == "PASS" or code == 0:
            passed[other] = status, code
    assert passed == {}


@pytest.mark.parametrize("soft", SOFTENED)
def test_nothing_softened_makes_a_hole_pass(store, soft):
    soften, more = SOFTENED[soft]
    worlds = built(store, *([situation, soften] for situation, _ in SITUATIONS.values()))
    for (name, (_, code)), (policy, asked, _) in zip(SITUATIONS.items(), worlds, strict=True):
        status, ended = decided(store, policy, asked, **more)
        assert status != "PASS" or (soft == "a waiver" and name in WAIVABLE), name
        assert ended != 0 or code in (3, 4), name


@pytest.mark.parametrize("name", ["EVALSVC_DATABASE_URL", "EVALSVC_HOME", "EVALSVC_ARTIFACTS"])
def test_an_empty_variable_ends_every_gate(store, tmp_path, monkeypatch, name):
    [(policy, asked, _)] = built(store, [])
    (tmp_path / "gate.yaml").write_text(policy.model_dump_json(by_alias=True))
    monkeypatch.setenv(name, "")
    done = CliRunner().invoke(app, ["gate", "run", str(tmp_path / "gate.yaml"), "--stored", "--candidate", asked])
    assert isinstance(done.exception, EvalsvcError)
    assert f"{name} is set but empty" in str(done.exception)


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        (["--seed", "7"], "no stored scores of seed 7"),
        (["--step", "10"], "--model, --step and their patterns require a path"),
        (["--model", "other"], "remove them"),
        (["--step-pattern", "x"], "remove them"),
        (["--option", "noise=200", "--option", "noise=0"], "option 'noise' is given twice"),
        (["--option", "noise=NaN"], "'noise=NaN' is not a finite number"),
    ],
)
def test_nothing_that_was_asked_for_is_left_out_silently(store, tmp_path, more, complaint):
    [(policy, asked, _)] = built(store, [])
    (tmp_path / "gate.yaml").write_text(policy.model_dump_json(by_alias=True, exclude_defaults=True))
    command = ["gate", "run", str(tmp_path / "gate.yaml"), "--stored", "--candidate", asked, *more]
    with pytest.raises(EvalsvcError, match=complaint):
        CliRunner().invoke(app, command, catch_exceptions=False)


def test_the_error_of_an_evaluation_writes_no_line_of_its_own(store, tmp_path):
    """CI reads commands such as ``::set-output`` at the beginning of a line."""
    [(policy, asked, _)] = built(store, [the_evaluation_of_the_candidate_failed])
    with store.write() as session:
        session.query(Evaluation).update({"error": "boom\n::set-output name=passed::true\x1b[2J"})
    (tmp_path / "gate.yaml").write_text(policy.model_dump_json(by_alias=True, exclude_defaults=True))
    done = CliRunner().invoke(app, ["gate", "run", str(tmp_path / "gate.yaml"), "--stored", "--candidate", asked])
    assert done.exit_code == 1
    assert "boom ::set-output" in done.output
    assert "\x1b" not in done.output
    assert not any(line.startswith("::") for line in done.output.splitlines())


def test_a_suite_that_changed_under_its_name_and_version_judges_nothing(store):
    [(policy, asked, _)] = built(store, [])
    other = Suite.model_validate(DIGITS.model_dump() | {"samples": 1000})
    with pytest.raises(InputError, match="digits@1 has changed since it was first used"):
        run_gate(policy, store, other, candidate=asked, today=TODAY)
    with store.read() as session:
        assert queries.gates(session) == []
