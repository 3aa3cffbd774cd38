"""The files that a reader copies to deploy evalsvc are safe as they are; tests/docs holds what they name."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from evalsvc.api.server.state import ServerSettings

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "examples" / "deploy"


def test_the_image_installs_extras_that_exist():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (asked,) = re.findall(r"/src\[([\w,]+)\]", (DEPLOY / "Dockerfile").read_text())
    assert set(asked.split(",")) <= extras.keys()


def test_compose_starts_everything_after_the_migration_and_publishes_to_this_machine_alone():
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    for name in ("api", "worker"):
        assert services[name]["depends_on"] == {"migrate": {"condition": "service_completed_successfully"}}
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert published.pop("proxy") == ["443:8443"]
    assert published
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)


def test_the_proxy_has_limits_and_is_the_one_that_the_server_trusts():
    text = (DEPLOY / "nginx.conf").read_text()
    said = {
        line.split()[0]: line.split(maxsplit=1)[1]
        for line in re.sub("#.*", "", text).replace("{", ";").replace("}", ";").split(";")
        if len(line.split()) > 1
    }
    for limit in ("client_header_timeout", "client_body_timeout", "send_timeout"):
        assert 5 <= int(said[limit].rstrip("s")) <= 30, limit
    assert {"limit_conn", "limit_req", "large_client_header_buffers", "reset_timedout_connection"} <= said.keys()
    assert "proxy_set_header X-Forwarded-For $remote_addr;" in text, "what a client says of itself is written over"
    settings = ServerSettings.model_construct()
    assert int(said["client_max_body_size"].removesuffix("g")) * 2**30 == settings.upload_limit
    (waits,) = re.findall(r"proxy_read_timeout (\d+)s;  # longer than EVALSVC_TASK_SECONDS", text)
    assert int(waits) > 1.5 * settings.task_seconds
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    trusted = compose["services"]["api"]["environment"]["EVALSVC_TRUSTED_PROXIES"]
    assert compose["services"]["proxy"]["networks"] == {"default": {"ipv4_address": trusted}}
    assert text.count("{") == text.count("}")


def pods():
    documents = list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text()))
    return documents, [each["spec"]["template"] for each in documents if each["kind"] in ("Job", "Deployment")]


def test_pods_run_without_root_a_service_account_or_a_file_system_to_write():
    for pod in pods()[1]:
        spec, (container,) = pod["spec"], pod["spec"]["containers"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["requests"].keys() == {"cpu", "memory"}
        assert "memory" in container["resources"]["limits"]
        mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
        assert {"/data", "/tmp"} <= mounts, "what is written has a volume"
        if container["name"] in ("api", "worker"):
            assert {"/data/uploads", "/shared/runs"} <= mounts


def test_pods_reach_and_are_reached_by_what_the_policies_list_alone():
    documents, found = pods()
    closed, opened = (each for each in documents if each["kind"] == "NetworkPolicy")
    assert closed["spec"]["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in closed["spec"]
    for pod in found:
        assert closed["spec"]["podSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    reached = opened["spec"]["podSelector"]["matchLabels"].items()
    names = {pod["spec"]["containers"][0]["name"] for pod in found if reached <= pod["metadata"]["labels"].items()}
    assert names == {"api", "dashboard"}


@pytest.mark.parametrize("name", ["server", "worker", "dashboard"])
def test_units_start_again_by_themselves_and_gain_no_privilege(name):
    unit = (DEPLOY / f"evalsvc-{name}.service").read_text()
    for line in ("Restart=always", "NoNewPrivileges=yes", "ProtectSystem=strict", "UMask=0077", "User=evalsvc"):
        assert re.search(rf"^{line}$", unit, re.MULTILINE), line
    assert f"EnvironmentFile=/etc/evalsvc/{name}.env" in unit
