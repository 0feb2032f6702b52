"""The systemd unit: hardened, patient on stop, and it never gives up starting."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from gateway.cli import COMMANDS
from gateway.config.loading import load
from tests.components import needed
from tests.deploy.artefacts import DEPLOY, ROOT, STOP_S, run

FILE = DEPLOY / "systemd/nxcloud-gateway.service"


def settings() -> dict[str, list[str]]:
    """Every key with its values; systemd's format repeats keys."""
    found = defaultdict(list)
    for key, value in re.findall(r"(?m)^([A-Za-z]+)=(.*)$", FILE.read_text()):
        found[key].append(value)
    return dict(found)


def test_it_runs_a_command_that_exists() -> None:
    """The program is the gateway's, without a shell around it."""
    program, command = settings()["ExecStart"][-1].split()
    assert program.endswith("/gateway")
    assert command in COMMANDS


def test_its_environment_is_valid_configuration() -> None:
    """Overrides name keys that exist, and the journal is in the folder that the unit may write."""
    environ = dict(pair.split("=", 1) for pair in settings()["Environment"])
    loaded = load(ROOT / "config.yaml", environ)
    assert f"/var/lib/{settings()['StateDirectory'][0]}" == loaded.journal.dir == settings()["WorkingDirectory"][0]


def test_it_is_given_time_to_stop_and_always_started_again() -> None:
    """Callbacks that meet a stopped gateway are lost."""
    assert int(settings()["TimeoutStopSec"][0]) > STOP_S
    assert ["always"] == settings()["Restart"]
    assert ["0"] == settings()["StartLimitIntervalSec"]
    assert ["2"] == settings()["RestartPreventExitStatus"]  # ConfigError: a person is needed


def test_the_supervisor_decides_what_becomes_of_its_processes() -> None:
    """It alone gets SIGTERM, and one that the kernel kills for memory does not end the others."""
    assert (["mixed"], ["continue"]) == (settings()["KillMode"], settings()["OOMPolicy"])


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit with a program that is there, as systemd-analyze looks for it."""
    text = re.sub(r"(?m)^ExecStart=\S+", f"ExecStart={sys.executable}", FILE.read_text())
    copy = tmp_path / FILE.name
    copy.write_text(text)
    return copy


def test_systemd_finds_nothing(unit: Path) -> None:
    """Every key is known and every value can be read."""
    program = needed("systemd-analyze", install="apt-get install systemd")
    done = subprocess.run([program, "verify", str(unit)], check=False, capture_output=True, text=True)
    about_it = [line for line in done.stderr.splitlines() if FILE.name in line]
    assert [] == about_it


def test_systemd_calls_it_safe(unit: Path) -> None:
    """Exposure of at most 2.0 of 10 by systemd's own measure."""
    run("systemd-analyze", "security", "--offline=true", "--threshold=20", str(unit), install="apt-get install systemd")
