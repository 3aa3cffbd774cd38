"""What is judged is what was asked for: this content, in this configuration."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from evalsvc.builtin.demo.digits import splits
from evalsvc.cli.main import app
from evalsvc.core.digests import digest_configuration
from evalsvc.core.errors import AmbiguousError
from evalsvc.core.settings import Settings
from evalsvc.gates.policy import Policy
from evalsvc.gates.runner import run_gate
from evalsvc.inputs.checkpoint_folders import digest_checkpoint
from evalsvc.plugins.registry import PluginKind, Plugins
from evalsvc.store import names
from evalsvc.store.session import Database

from .conftest import TODAY
from .store import DIGITS, add_checkpoint, add_scores, gate_policy


@pytest.fixture
def gate(home, tmp_path, monkeypatch):
    """``evalsvc gate run`` on what is stored: the exit code, and all that was printed in one line."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gate.yaml").write_text("{version: 1, suite: digits@1, metrics: {frechet_distance: {max: 40}}}")

    def run(*arguments, stored=True):
        asked = ["gate", "run", "gate.yaml", "--json", *arguments, *(["--stored"] if stored else [])]
        found = CliRunner().invoke(app, asked)
        return found.exit_code, found.output + str(found.exception or "")

    return run


@pytest.fixture
def scored(gate, tmp_path):
    """``m/step_1.pt``, by flow: 20 with warm=1, 200 with warm=2."""
    (tmp_path / "m").mkdir()
    path = tmp_path / "m" / "step_1.pt"
    path.write_text("weights")
    version = Plugins().get(PluginKind.GENERATOR, "flow").recorded_version
    database = Database(Settings().database)
    with database.write() as session:
        for warm, value in ((1, 20.0), (2, 200.0)):
            row = add_checkpoint(session, "m", 1, digest_checkpoint(path), {"warm": warm})
            row.generator_version, row.path = version, str(path)
            row.configuration = digest_configuration("flow", version, row.options)
            add_scores(session, row, {"frechet_distance": value})
    return database


def test_a_file_is_judged_in_the_configuration_that_is_asked_for(gate, scored):
    for warm, code in (("1", 0), ("2", 3)):
        assert gate("--candidate", "m/step_1.pt", "--generator", "flow", "--option", f"warm={warm}")[0] == code
        assert gate("--candidate", "m@1", "--option", f"warm={warm}")[0] == code
        assert gate("--candidate", f"m@1[warm={warm}]")[0] == code


@pytest.mark.parametrize("more", [[], ["--option", "warm=3"], ["--option", "warm=true"], ["--option", 'warm="1"']])
def test_a_file_in_a_configuration_that_was_never_scored_is_missing_and_those_that_were_are_listed(gate, scored, more):
    code, said = gate("--candidate", "m/step_1.pt", "--generator", "flow", *more)
    assert code == 5
    assert "no stored scores with generator flow" in said
    assert "m@1[warm=1] (" in said
    assert "m@1[warm=2] (" in said


@pytest.mark.parametrize("candidate", ["m@1", "m", "m/step_1.pt"])
def test_without_a_choice_between_configurations_nothing_is_judged(gate, scored, candidate):
    code, said = gate("--candidate", candidate)
    assert code
    assert "choose one of m@1[warm=1] (" in said


@pytest.mark.parametrize("candidate", ["m/step_1.pt", "m@1"])
def test_a_generator_that_nobody_registered_is_an_error_that_names_the_nearest(gate, scored, candidate):
    code, said = gate("--candidate", candidate, "--generator", "fow")
    assert code != 0
    assert "there is no generator 'fow'; the nearest are flow" in said


def test_a_policy_chooses_among_configurations_by_options(scored):
    body = {"version": 1, "suite": "digits@1", "metrics": {"frechet_distance": {"max": 40}}}
    for options, status in (({"warm": 1}, "PASS"), ({"warm": 2}, "FAIL"), ({"warm": 3}, "MISSING")):
        policy = Policy.model_validate(body | {"candidate": {"model": "m", "step": 1, "options": options}})
        done = run_gate(policy, scored, DIGITS, today=TODAY)
        assert done.document["verdict"]["status"] == status
    assert "these exist: m@1[warm=1]" in done.document["verdict"]["reason"]


def test_policies_keep_the_digest_that_they_had_before_options_could_be_given():
    policy = gate_policy()
    assert "options" not in json.dumps(policy.model_dump(mode="json"))


def test_what_is_missing_is_recorded_as_what_was_asked_for_and_not_as_what_the_policy_names(scored):
    policy = gate_policy(baseline=None, metrics={"frechet_distance": {"max": 40.0}})
    done = run_gate(policy, scored, DIGITS, candidate="other@7", today=TODAY)
    assert done.document["candidate"] == {"model": "other", "step": 7, "digest": ""}


def test_reports_and_history_tell_candidates_of_one_label_apart(gate, scored):
    gate("--candidate", "m@1[warm=2]", "--report", "junit=report.xml")
    said = CliRunner().invoke(app, ["gate", "history", "--json"]).stdout
    assert json.loads(said)[0]["candidate"] == "m@1[warm=2]"
    assert 'classname="m@1[warm=2]"' in Path("report.xml").read_text()


def test_an_alias_is_set_to_the_content_of_a_file(gate, scored, tmp_path):
    (tmp_path / "other.pt").write_text("others")
    with scored.write() as session:
        wanted = add_checkpoint(session, "m", 1, digest_checkpoint(tmp_path / "other.pt")).id
    assert CliRunner().invoke(app, ["alias", "set", "production", "other.pt"]).exit_code == 0
    with scored.read() as session:
        assert names.find(session, "production").id == wanted


def test_the_gate_judges_the_file_that_it_was_given_and_no_other_of_its_label(gate, home, tmp_path):
    suite = {"name": "few", "version": 1, "modality": "image", "reference": "digits", "samples": 150}
    suite |= {"extractors": {"cnn": {"use": "digits-cnn"}}}
    suite["metrics"] = [{"metric": "frechet_distance", "features": "cnn/features"}]
    (tmp_path / "few.yaml").write_text(yaml.safe_dump(suite))
    (tmp_path / "gate.yaml").write_text(
        "{version: 1, suite: few.yaml, defaults: {min_samples: 100}, metrics: {frechet_distance: {max: 60}}}"
    )
    good = splits()[1].pixels[:150].cpu().numpy()
    for folder, pixels in (("pr1", np.roll(good, 3, axis=3) ^ 0xFF), ("pr2", good)):
        (tmp_path / folder).mkdir()
        np.save(tmp_path / folder / "step_1.npy", pixels)
    given = ["--generator", "samples", "--model", "release"]
    codes = [gate("--candidate", f"{pr}/step_1.npy", *given, stored=False)[0] for pr in ("pr1", "pr2", "pr1")]
    assert codes == [3, 0, 3]
    # The first failed early, so that nothing of it is stored; what is stored of the other does not stand for it.
    assert [gate("--candidate", f"{pr}/step_1.npy", *given)[0] for pr in ("pr1", "pr2")] == [5, 0]
    assert "release@1#" in gate("--candidate", "pr1/step_1.npy", *given)[1]


def test_every_command_that_reads_tells_the_configurations_of_a_label_apart(scored, gate, tmp_path):
    def run(*arguments):
        return CliRunner().invoke(app, arguments)

    both = {"m@1[warm=1]", "m@1[warm=2]"}
    [board] = json.loads(run("leaderboard", "--json").stdout)
    assert {entry["name"] for entry in board["entries"]} == both
    assert {each["name"] for each in json.loads(run("checkpoints", "--json").stdout)} == both
    assert {f"m@1{each['mark']}" for each in json.loads(run("status", "--json").stdout)["evaluations"]} == both
    assert run("export", "scores.json").exit_code == 0
    rows = json.loads((tmp_path / "scores.json").read_text())
    assert {(row["name"], row["options"]) for row in rows} == {(f"m@1[warm={n}]", f'{{"warm": {n}}}') for n in (1, 2)}
    compared = json.loads(run("compare", "m@1[warm=1]", "m@1[warm=2]", "--json").stdout)
    assert ({compared["a"], compared["b"]}, compared["differences"][0]["difference"]) == (both, 180.0)
    for command in ("show m@1", "show m/step_1.pt", "compare m@1 m@1[warm=1]", "alias set x m@1"):
        with pytest.raises(AmbiguousError, match=r"choose one of m@1\[warm=1\] \(.*\), m@1\[warm=2\] \("):
            raise run(*command.split()).exception
