"""What the repository shows beside its code agrees with the code: workflows, hooks, forms, changelog, citation."""

import re
import tomllib
from datetime import date
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from packaging.version import Version

ROOT = Path(__file__).parents[1]
GITHUB = ROOT / ".github"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
WORKFLOWS = {file.stem: yaml.safe_load(file.read_text()) for file in (GITHUB / "workflows").iterdir()}
PINNED = re.compile(r"[\w-]+/[\w-]+@v\d+\.\d+\.\d+")
CHANGES = ("Added", "Changed", "Deprecated", "Removed", "Fixed", "Security")


def steps_of(job):
    return [step.get("run", "").partition(" #")[0].strip() or step["uses"] for step in job.get("steps", [])]


def triggers(workflow):
    return workflow[True]  # YAML 1.1 reads the key 'on' as a truth value


def test_pull_requests_are_tested_by_the_command_of_ci():
    assert {"pull_request", "push", "workflow_call"} <= triggers(WORKFLOWS["ci"]).keys()
    assert ".ci/run" in steps_of(WORKFLOWS["ci"]["jobs"]["test"])
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111


def test_a_release_is_built_once_tested_and_published_without_a_stored_secret():
    jobs = WORKFLOWS["release"]["jobs"]
    assert jobs["test"] == {"uses": "./.github/workflows/ci.yml"}
    assert "python -m build" in steps_of(jobs["build"])
    assert set(jobs["publish"]["needs"]) == {"test", "build"}
    assert jobs["publish"]["environment"] == "pypi"
    assert steps_of(jobs["publish"])[-1].startswith("pypa/gh-action-pypi-publish@")
    assert "secrets." not in (GITHUB / "workflows" / "release.yml").read_text()


@pytest.mark.parametrize("name", WORKFLOWS)
def test_workflows_pin_their_actions_and_may_only_read(name):
    assert WORKFLOWS[name]["permissions"] == {"contents": "read"}
    for job in WORKFLOWS[name]["jobs"].values():
        assert job.get("permissions", {}) in ({}, {"id-token": "write"})
        assert all(PINNED.fullmatch(step["uses"]) for step in job.get("steps", []) if "uses" in step)


def test_dependabot_watches_folders_that_exist():
    updates = yaml.safe_load((GITHUB / "dependabot.yml").read_text())["updates"]
    assert {"github-actions", "pip", "docker"} == {update["package-ecosystem"] for update in updates}
    assert all((ROOT / update["directory"].strip("/")).is_dir() for update in updates)


@pytest.mark.parametrize("name", ["bug", "feature"])
def test_issue_forms_have_fields_with_labels_and_ids_of_their_own(name):
    form = yaml.safe_load((GITHUB / "ISSUE_TEMPLATE" / f"{name}.yml").read_text())
    assert form["name"]
    assert form["description"]
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    assert len({field["id"] for field in fields}) == len(fields) > 0
    assert all(field["attributes"]["label"] for field in fields)


def test_a_commit_is_checked_by_the_commands_of_make_lint():
    recipe = re.search(r"^lint:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert recipe
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    assert [hook["entry"] for hook in hooks] == re.findall(r"\t(.*)\n", recipe[1].replace("$(BIN)", ".venv/bin"))


def test_an_image_is_given_all_that_the_wheel_is_built_from():
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in lines, "the rest stays out"
    wheel = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    folders = {path.partition("/")[0] for path in wheel["force-include"]}
    needed = {*wheel["packages"], *folders, *PROJECT["project"]["license-files"]}
    needed |= {"dashboards", "metrics", "pyproject.toml", PROJECT["project"]["readme"]}
    assert {f"!{name}" for name in needed} <= set(lines)


def test_the_changelog_keeps_its_format():
    text = (ROOT / "CHANGELOG.md").read_text()
    first, *releases = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert first == "[Unreleased]"
    found = [re.fullmatch(r"\[(\d+\.\d+\.\d+)\] - (\d{4}-\d\d-\d\d)", release) for release in releases]
    assert all(found), releases
    dated = [(Version(match[1]), date.fromisoformat(match[2])) for match in found if match]
    assert all(newer[0] > older[0] and newer[1] >= older[1] for newer, older in pairwise(dated))
    for release in re.split(r"^## .+$", text, flags=re.MULTILINE)[1:]:
        groups = re.findall(r"^### (.+)$", release, re.MULTILINE)
        assert groups == [each for each in CHANGES if each in groups], "each at most once, in the usual order"


def test_the_version_is_in_the_changelog_and_in_the_citation_with_its_date():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    version = PROJECT["project"]["version"]
    assert citation["version"] == version
    assert citation["license"] == PROJECT["project"]["license"]
    assert f"## [{version}] - {citation['date-released']}\n" in (ROOT / "CHANGELOG.md").read_text()
