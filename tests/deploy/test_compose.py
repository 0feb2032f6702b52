"""The stack for one machine: what it names exists, and it is closed to other machines."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import yaml

from gateway.cli import COMMANDS
from gateway.config.loading import load
from tests.deploy.artefacts import DEPLOY, ROOT, STOP_S, run
from tests.ports import free_port
from tests.rows import rows

FILE = DEPLOY / "compose.yaml"
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(FILE.read_text())["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"] == "nxcloud-gateway"}


def interpolated(value: str) -> str:
    """``${NAME:-default}`` as its default."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value)


def environment(service: dict[str, Any]) -> dict[str, str]:
    return {name: interpolated(str(value)) for name, value in service.get("environment", {}).items()}


def test_every_part_of_the_stack_is_there() -> None:
    """Kafka, both roles, a subscriber, Prometheus, Grafana; the profile demo adds traffic and a failing subscriber."""
    plain = {name for name, service in SERVICES.items() if "profiles" not in service}
    demo = {name for name, service in SERVICES.items() if service.get("profiles") == ["demo"]}
    assert {"kafka", "serve", "fanout", "listen", "prometheus", "grafana"} == plain
    assert {"traffic", "traffic-demo", "failing"} == demo == set(SERVICES) - plain


def test_head_of_the_file_says_what_each_port_is_and_what_opens_it() -> None:
    """Every published port has its row, and every variable with a default is named."""
    text = FILE.read_text()
    head = text.partition("name: nxcloud-gateway")[0]
    ports = {port.split(":")[1] for service in SERVICES.values() for port in service.get("ports", ())}
    rows = dict(re.findall(r"(?m)^#   (?:http://)?localhost:(\d+) +(\S.*)$", head))
    assert ports == set(rows)
    assert {"8081", "8082", "3000"} == {port for port, row in rows.items() if "ADMIN_TOKEN" in row}
    assert all(name in head for name in re.findall(r"\$\{(\w+):-", text))
    assert "GF_SECURITY_ADMIN_PASSWORD" in SERVICES["grafana"]["environment"]


def test_schema_of_compose_agrees() -> None:
    """Every key exists, also where no Docker is installed."""
    arguments = ("--builtin-schema", "vendor.compose-spec", str(FILE))
    run("check-jsonschema", *arguments, install="pip install check-jsonschema")


def test_images_of_others_are_pinned_by_version() -> None:
    """The same file starts the same stack next year."""
    images = [service["image"] for service in SERVICES.values() if "build" not in service]
    assert [] == [image for image in images if not re.search(r":v?\d+\.\d+\.\d+$", image)]


@rows("name", OURS)
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
    port = SERVICES["listen"]["command"].index("--port") + 1
    urls = [f"http://{name}:{SERVICES[name]['command'][port]}/" for name in ("listen", "failing")]
    assert urls == [one.url for one in settings.subscribers]


def test_subscriber_checks_the_signatures_that_the_gateway_makes() -> None:
    """Both sides have one secret."""
    for name in ("listen", "failing"):
        assert environment(SERVICES["serve"])["DEMO_SECRET"] == environment(SERVICES[name])["GATEWAY_LISTEN_SECRET"]


def test_nothing_is_open_to_other_machines() -> None:
    """Published ports are on loopback: the tokens in the file are no secrets."""
    ports = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert ports
    assert [] == [port for port in ports if not port.startswith("127.0.0.1:")]


@rows("name", OURS)
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


#: Within which a process shows something, on a machine with much else to do.
_SHOWN_S = 150.0


@dataclass
class Stack:
    """The gateway's containers as processes: their commands and environments, with other addresses."""

    folder: Path
    bootstrap: str
    ports: dict[str, int] = field(default_factory=lambda: {name: free_port() for name in OURS})
    ingest_port: int = field(default_factory=free_port)
    processes: dict[str, asyncio.subprocess.Process] = field(default_factory=dict)
    output: dict[str, list[str]] = field(default_factory=dict)
    more: asyncio.Condition = field(default_factory=asyncio.Condition)
    readers: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    over: set[str] = field(default_factory=set)

    def config(self) -> Path:
        """The stack's configuration, with the addresses of this machine."""
        text = (DEPLOY / "compose/config.yaml").read_text().replace("kafka:19092", self.bootstrap)
        for name in ("listen", "failing"):
            text = text.replace(f"http://{name}:9000/", f"http://127.0.0.1:{self.ports[name]}/")
        path = self.folder / "config.yaml"
        path.write_text(text)
        return path

    async def start(self, name: str, *, count: int | None = None) -> asyncio.subprocess.Process:
        """Start what a container would run; ``count`` bounds what the demo sends."""
        command = list(SERVICES[name]["command"])
        if "--port" in command:
            command[command.index("--port") + 1] = str(self.ports[name])
        if count is not None:
            command[command.index("--count") + 1] = str(count)
        command = [word.replace("serve:8080", f"127.0.0.1:{self.ingest_port}") for word in command]
        started = await self.execute(name, *command)
        self.processes[name] = started
        self.output[name] = []
        self.readers[name] = asyncio.create_task(self._read(name, started))
        return started

    async def _read(self, name: str, process: asyncio.subprocess.Process) -> None:
        """Keep what a process prints; it would stand still behind a full pipe."""
        assert process.stdout is not None
        async for line in process.stdout:
            async with self.more:
                self.output[name].append(line.decode())
                self.more.notify_all()
        async with self.more:
            self.over.add(name)
            self.more.notify_all()

    async def execute(self, name: str, *command: str) -> asyncio.subprocess.Process:
        """Start a command of the gateway in the environment of a container."""
        own = {
            "GATEWAY_CONFIG": str(self.config()),
            "GATEWAY__INGEST__PORT": str(self.ingest_port),
            "GATEWAY__ADMIN__PORT": str(self.ports[name]),
            "GATEWAY__JOURNAL__DIR": str(self.folder / name),
            "GATEWAY__TOPICS__PREFIX": f"compose{self.ingest_port}.",
            "PYTHONPATH": str(ROOT),
        }
        pipe, merged = asyncio.subprocess.PIPE, asyncio.subprocess.STDOUT
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gateway", *command, cwd=self.folder, stdout=pipe, stderr=merged,
            env={**os.environ, **environment(SERVICES[name]), **own},
        )  # fmt: skip

    async def shows(self, name: str, text: str) -> None:
        """Wait until a process has printed a line with this text."""
        lines = self.output[name]
        try:
            async with asyncio.timeout(_SHOWN_S), self.more:
                while not any(text in line for line in lines):
                    assert name not in self.over, f"{name} ended before it had shown {text}: {lines[-20:]}"
                    await self.more.wait()
        except TimeoutError as exc:
            printed = "\n".join(f"{one}: {line.rstrip()}" for one in self.output for line in self.output[one][-20:])
            raise AssertionError(f"{name} did not show {text}:\n{printed}") from exc

    async def ended(self, name: str) -> int:
        """Wait until a process has ended and everything that it printed is there; its exit code."""
        await self.readers[name]
        return await self.processes[name].wait()

    async def stop(self) -> None:
        """End them in reverse order, as an orchestrator would."""
        for process in reversed(self.processes.values()):
            if process.returncode is None:
                process.terminate()
            await process.wait()
        await asyncio.gather(*self.readers.values())


@pytest.mark.kafka
@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_demo_delivers_to_one_subscriber_and_is_refused_by_the_other(kafka: str, tmp_path: Path) -> None:
    """The commands of the containers, without Docker, on a real Kafka."""
    stack = Stack(tmp_path, kafka)
    try:
        for name in ("listen", "failing"):
            await stack.start(name)
        for name in ("serve", "fanout"):
            await stack.start(name)
            await stack.shows(name, "gateway.started")
        for name, count in (("traffic", 30), ("traffic-demo", 2)):
            await stack.start(name, count=count)
            assert await stack.ended(name) == 0, stack.output[name]
        await stack.shows("listen", "nxcloud.sms.dr")
        await stack.shows("failing", "nxcloud.sms.dr")
        (command,) = re.findall(r"(?m)^#   docker compose .* exec fanout gateway (.*)$", FILE.read_text())
        shown, _ = await (await stack.execute("fanout", *command.split())).communicate()
        assert re.search(r"(?m)^\W*failing\b", shown.decode()), shown.decode()
    finally:
        await stack.stop()
