"""The stack for one machine: what it names exists, and it is closed to other machines."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import PurePosixPath
from typing import Any

import pytest
import yaml

from gateway.cli import COMMANDS
from gateway.config.loading import load
from tests.deploy.artefacts import DEPLOY, ROOT, STOP_S, run

FILE = DEPLOY / "compose.yaml"
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(FILE.read_text())["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"] == "nxcloud-gateway"}


def interpolated(value: str) -> str:
    """``${NAME:-default}`` as its default."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value)


def environment(service: dict[str, Any]) -> dict[str, str]:
    return {name: interpolated(str(value)) for name, value in service.get("environment", {}).items()}


def test_every_part_of_the_stack_is_there() -> None:
    """Kafka, both roles, a subscriber, Prometheus, Grafana."""
    assert {"kafka", "serve", "fanout", "listen", "prometheus", "grafana"} == set(SERVICES)


def test_images_of_others_are_pinned_by_version() -> None:
    """The same file starts the same stack next year."""
    images = [service["image"] for service in SERVICES.values() if "build" not in service]
    assert [] == [image for image in images if not re.search(r":v?\d+\.\d+\.\d+$", image)]


@pytest.mark.parametrize("name", OURS)
def test_commands_exist(name: str) -> None:
    """Each container runs a command that the gateway has."""
    assert SERVICES[name]["command"][0] in COMMANDS


@pytest.mark.parametrize("name", ["serve", "fanout"])
def test_configuration_is_valid_with_the_containers_environment(name: str) -> None:
    """Keys, variables and secrets of the file and the environment fit each other."""
    image = dict(re.findall(r"(GATEWAY__\w+)=(\S+)", (DEPLOY / "Dockerfile").read_text()))
    settings = load(DEPLOY / "compose/config.yaml", {**image, **environment(SERVICES[name])})
    assert settings.kafka is not None
    assert ["kafka:19092"] == settings.kafka.bootstrap_servers
    assert "INTERNAL://kafka:19092" in SERVICES["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"]
    assert [f"http://listen:{SERVICES['listen']['command'][-1]}/"] == [one.url for one in settings.subscribers]


def test_subscriber_checks_the_signatures_that_the_gateway_makes() -> None:
    """Both sides have one secret."""
    assert environment(SERVICES["serve"])["DEMO_SECRET"] == environment(SERVICES["listen"])["GATEWAY_LISTEN_SECRET"]


def test_nothing_is_open_to_other_machines() -> None:
    """Published ports are on loopback: the tokens in the file are no secrets."""
    ports = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert ports
    assert [] == [port for port in ports if not port.startswith("127.0.0.1:")]


@pytest.mark.parametrize("name", OURS)
def test_our_containers_are_confined(name: str) -> None:
    """Read-only, no capabilities, and time enough to end by themselves."""
    service = SERVICES[name]
    assert service["read_only"] is True
    assert ["ALL"] == service["cap_drop"]
    assert ["no-new-privileges:true"] == service["security_opt"]
    assert int(service["stop_grace_period"].rstrip("s")) > STOP_S


def test_mounted_files_exist() -> None:
    """Docker makes a folder of a file that is missing."""
    mounts = [mount.split(":")[0] for service in SERVICES.values() for mount in service.get("volumes", ())]
    assert [] == [path for path in mounts if path.startswith("./") and not (DEPLOY / path).exists()]


def test_prometheus_scrapes_both_roles_with_the_token() -> None:
    """Targets are services of the stack at the admin port; rules and token are where it looks for them."""
    config = yaml.safe_load((DEPLOY / "compose/prometheus.yml").read_text())
    job = config["scrape_configs"][0]
    mounted = {mount.split(":")[1] for mount in SERVICES["prometheus"]["volumes"]}
    token = SERVICES["prometheus"]["configs"][0]["target"]
    assert "nxcloud-gateway" == job["job_name"]
    assert ["serve:8081", "fanout:8081"] == [target for group in job["static_configs"] for target in group["targets"]]
    assert token == job["authorization"]["credentials_file"]
    assert mounted.issuperset(config["rule_files"])


def test_grafana_finds_source_and_dashboard() -> None:
    """The provider's folder is where the dashboard is mounted."""
    provider = yaml.safe_load((DEPLOY / "grafana/provisioning/dashboards/gateway.yml").read_text())["providers"][0]
    targets = [PurePosixPath(mount.split(":")[1]) for mount in SERVICES["grafana"]["volumes"]]
    assert PurePosixPath(provider["options"]["path"]) in [target.parent for target in targets]
    source = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yml").read_text())["datasources"][0]
    assert "http://prometheus:9090" == source["url"]


def test_promtool_reads_the_scrape_configuration() -> None:
    """As Prometheus would, without looking for the files of the container."""
    run("promtool", "check", "config", "--syntax-only", str(DEPLOY / "compose/prometheus.yml"), install="prometheus")


def test_compose_reads_it() -> None:
    """Compose itself finds nothing wrong."""
    plugin = shutil.which("docker") and subprocess.run(["docker", "compose", "version"], capture_output=True)
    if not plugin or plugin.returncode:
        pytest.skip("docker with its compose plugin is not installed")
    run("docker", "compose", "-f", str(FILE.relative_to(ROOT)), "config", "--quiet", install="docker", is_on_ci=False)
