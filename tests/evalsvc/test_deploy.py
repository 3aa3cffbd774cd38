"""The files that a reader copies name commands, options and variables that exist."""

import re
import tomllib
from pathlib import Path

import pytest
import typer
import yaml

from evalsvc.api.server import ServerSettings
from evalsvc.cli.main import app
from evalsvc.settings import Settings

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "examples" / "deploy"
FILES = [*sorted(DEPLOY.iterdir()), ROOT / "docs" / "deploy.md"]
COMMANDS = "serve|worker|db|token|doctor|reference|submit|retry|show|watch|status"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_variable_is_a_setting(file):
    known = {f"EVALSVC_{name.upper()}" for name in [*Settings.model_fields, *ServerSettings.model_fields]}
    assert set(re.findall(r"EVALSVC_[A-Z_]+[A-Z]", file.read_text())) <= known | {"EVALSVC_WEIGHTS_DIR"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_command_exists_with_its_options(file):
    text = re.sub(r"\[evalsvc, (.*)\]", lambda match: "`evalsvc " + match[1].replace(",", "") + "`", file.read_text())
    for line in re.findall(rf"evalsvc ((?:{COMMANDS})\b[^`\n|#]*)", text):
        command, words = typer.main.get_command(app), line.split()
        while words and (inner := getattr(command, "commands", {}).get(words[0])):
            command, words = inner, words[1:]
        assert not hasattr(command, "commands"), line
        options = {option for parameter in command.params for option in parameter.opts}
        assert {word.partition("=")[0] for word in words if word.startswith("--")} <= options, line


def test_the_image_installs_extras_that_exist():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (asked,) = re.findall(r"/src\[([\w,]+)\]", (DEPLOY / "Dockerfile").read_text())
    assert set(asked.split(",")) <= extras.keys()


def test_compose_starts_everything_after_the_migration_and_publishes_to_this_machine_alone():
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    for name in ("api", "worker"):
        assert services[name]["depends_on"] == {"migrate": {"condition": "service_completed_successfully"}}
    published = [port for service in services.values() for port in service.get("ports", ())]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_pods_run_without_root_and_without_a_service_account():
    documents = list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text()))
    assert [each["kind"] for each in documents] == ["Job", "Deployment", "Service", "Deployment"]
    for each in documents:
        if each["kind"] in ("Job", "Deployment"):
            assert each["spec"]["template"]["spec"]["automountServiceAccountToken"] is False
        if each["kind"] == "Deployment":
            pod = each["spec"]["template"]["spec"]
            assert pod["securityContext"]["runAsNonRoot"] is True
            mounts = {mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
            assert {"/data/uploads", "/shared/runs"} <= mounts
