"""README tells the truth: its commands exist, its tour works as pasted, its tables are what the code says."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import shutil
import signal
import socket
import sys
from pathlib import Path

import click
import pytest
import yaml

from gateway.cli import main
from tests.readme import TABLES, filled

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
COMMANDS = sorted({line for block in BLOCKS for line in block.splitlines() if line.startswith(".venv/bin/gateway")})


def between(marker: str) -> str:
    """What stands between ``<!-- marker -->`` and the next ``<!-- end -->``."""
    found = re.search(rf"<!-- {marker} -->\n(.*?)<!-- end -->", README, re.DOTALL)
    assert found is not None, marker
    return found[1]


@pytest.mark.parametrize("line", COMMANDS)
def test_command_exists_with_its_options(line: str) -> None:
    """Each command line parses: command, options and values are known to the command line interface."""
    words = shlex.split(line)[1:]
    context = click.Context(main)
    name, command, rest = main.resolve_command(context, words)
    assert command is not None
    command.make_context(name, list(rest), parent=context)


def test_ci_runs_the_test_command() -> None:
    """What CI extracts is one line, and it ends in ``python -m tests``."""
    (line,) = [line for line in between("test command").splitlines() if line and not line.startswith("```")]
    assert line.endswith(".venv/bin/python -m tests")
    assert "<!-- test command -->" in (ROOT / ".ci" / "run").read_text()


def test_example_event_has_the_attributes_of_events() -> None:
    """The example's id, times and data are of the form that events have."""
    from datetime import datetime

    import orjson

    (block,) = re.findall(r"```json\n(.*?)```", README, re.DOTALL)
    event = orjson.loads(block)
    assert re.fullmatch(r"[0-9a-f]{32}", event["id"])
    assert datetime.fromisoformat(event["time"]).utcoffset() is not None
    assert event["type"] == "nxcloud.sms.dr"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.slow
async def test_tour_works_as_pasted(tmp_path: Path) -> None:
    """Run, listen, subscribe while running, send, see it arrive: the README's own lines, on free ports."""
    shutil.copy(ROOT / "config.yaml", tmp_path)
    bin_folder = tmp_path / ".venv" / "bin"
    bin_folder.mkdir(parents=True)
    script = bin_folder / "gateway"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -m gateway "$@"\n')
    script.chmod(0o755)
    subscriber_port = free_port()
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "GATEWAY__INGEST__PORT": str(free_port()),
        "GATEWAY__ADMIN__PORT": str(free_port()),
    }
    tour = README.partition("## Five-minute tour")[2].partition("\n## ")[0]
    listen, subscribe, send = [
        block.replace("9000", str(subscriber_port)) for block in re.findall(r"```bash\n(.*?)```", tour, re.DOTALL)
    ]

    async def shell(text: str, **pipes: int) -> asyncio.subprocess.Process:
        command = text if "\n" in text else f"exec {text}"
        return await asyncio.create_subprocess_shell(command, cwd=tmp_path, env=environment, **pipes)

    gateway = await shell(".venv/bin/gateway run", stderr=asyncio.subprocess.PIPE)
    listener = await shell(listen.strip(), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT)
    try:
        async with asyncio.timeout(60):
            assert gateway.stderr is not None
            while b"gateway.started" not in await gateway.stderr.readline():
                pass
            assert await (await shell(subscribe)).wait() == 0
            gateway.send_signal(signal.SIGHUP)
            while b"config.applied" not in await gateway.stderr.readline():
                pass
            assert await (await shell(send, stdout=asyncio.subprocess.DEVNULL)).wait() == 0
            gateway.send_signal(signal.SIGTERM)
            assert await gateway.wait() == 0
            assert listener.stdout is not None
            listener.send_signal(signal.SIGINT)
            shown = (await listener.stdout.read()).decode()
    finally:
        for process in (gateway, listener):
            if process.returncode is None:
                process.kill()
                await process.wait()
    assert "nxcloud.sms.dr" in shown
    assert "unauthenticated" not in shown or "0 unauthenticated" in shown, shown[-500:]


def test_configuration_in_the_tour_is_valid() -> None:
    """The snippet is YAML that the loader takes."""
    from gateway.config.loading import loads

    (snippet,) = re.findall(r"cat >> config.yaml <<'EOF'\n(.*?)EOF", README, re.DOTALL)
    assert yaml.safe_load(snippet)
    assert loads((ROOT / "config.yaml").read_text() + snippet, {}).subscribers[0].name == "tour"


@pytest.mark.parametrize("name", TABLES)
def test_generated_tables_are_what_the_code_says(name: str) -> None:
    """``python -m tests.readme`` writes them anew."""
    text = (ROOT / name).read_text()
    assert filled(text, TABLES[name]) == text
