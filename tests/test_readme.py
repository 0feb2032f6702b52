"""README is true: its commands exist, its tour works as pasted, the generated tables are what the code says."""

from __future__ import annotations

import asyncio
import re
import shlex
import shutil
import sys
import time
from pathlib import Path

import click
import orjson
import pytest
import yaml

from gateway.cli import main
from gateway.config.loading import loads
from gateway.log import Entry
from gateway.log.kafka import KafkaLog, KafkaOptions
from tests.effort import IS_NIGHTLY
from tests.pace import slowness
from tests.readme import TABLES, filled
from tests.rows import rows
from tests.tour import README, ROOT, touring

COMMANDS = sorted({line for line in README.splitlines() if line.startswith(".venv/bin/gateway")})


def between(marker: str) -> str:
    """What stands between ``<!-- marker -->`` and the next ``<!-- end -->``."""
    found = re.search(rf"<!-- {marker} -->\n(.*?)<!-- end -->", README, re.DOTALL)
    assert found is not None, marker
    return found[1]


@rows("line", COMMANDS)
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

    (block,) = re.findall(r"```json\n(.*?)```", README, re.DOTALL)
    event = orjson.loads(block)
    assert re.fullmatch(r"[0-9a-f]{32}", event["id"])
    assert datetime.fromisoformat(event["time"]).utcoffset() is not None
    assert event["type"] == "nxcloud.sms.dr"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What a user has after the installation: the command and the documented default."""
    shutil.copy(ROOT / "config.yaml", tmp_path)
    bin_folder = tmp_path / ".venv" / "bin"
    bin_folder.mkdir(parents=True)
    script = bin_folder / "gateway"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -m gateway "$@"\n')
    script.chmod(0o755)
    return tmp_path


@pytest.mark.slow
async def test_tour_works_as_pasted(folder: Path) -> None:
    """Run, listen, subscribe while running, send, see it arrive: the README's own lines, on free ports."""
    async with touring(folder, PYTHONPATH=str(ROOT)) as tour:
        code, said = await tour.paste(tour.send)
        assert code == 0, said
        shown = await tour.end()
    assert "nxcloud.sms.dr" in shown
    assert " 0 unauthenticated" in shown.strip().splitlines()[-1]


def test_it_is_short() -> None:
    """At most two hundred lines: what is longer has a page of its own."""
    assert len(README.splitlines()) <= 200


@pytest.mark.slow
@pytest.mark.quiet
@pytest.mark.timeout(400)
@pytest.mark.parametrize("count", [20, 150] if IS_NIGHTLY else [150])
async def test_tour_keeps_its_promise(folder: Path, count: int) -> None:
    """What is sent while ``listen`` is stopped arrives within ten seconds of its return, in the order of each key.

    Also behind a hundred deliveries that succeeded a moment before, and with a log that a person can still read.
    """
    # Six processes are started one after the other, each some ten seconds on a machine that is busy.
    async with touring(folder, 360, PYTHONPATH=str(ROOT)) as tour:
        assert (await tour.paste(tour.send.splitlines()[0]))[0] == 0
        await tour.stop_listening()
        code, said = await tour.paste(f".venv/bin/gateway send sms-dr --count {count} --seed 4")
        assert code == 0, said
        lines = await tour.logged(b"subscriber.down") + await tour.logged(b"subscriber.still_down")
        events, took_s = await tour.listen_again(count)
    found = [orjson.loads(line) for line in events]
    assert len(found) == count
    assert took_s <= 10.0 * slowness(time.perf_counter)
    for key in {event["partitionkey"] for event in found}:
        times = [event["recordedtime"] for event in found if event["partitionkey"] == key]
        assert times == sorted(times)
    assert sum(b"delivery.attempted" in line for line in lines) <= 10


def test_configuration_in_the_tour_is_valid() -> None:
    """The snippet is YAML that the loader takes."""
    (snippet,) = re.findall(r"cat >> config.yaml <<'EOF'\n(.*?)EOF", README, re.DOTALL)
    assert yaml.safe_load(snippet)
    assert loads((ROOT / "config.yaml").read_text() + snippet, {}).subscribers[0].name == "tour"


@rows("name", TABLES)
def test_generated_tables_are_what_the_code_says(name: str) -> None:
    """``python -m tests.readme`` writes them anew."""
    text = (ROOT / name).read_text()
    assert filled(text, TABLES[name]) == text


@pytest.mark.kafka
async def test_consumer_in_the_readme_reads_typed_events(kafka: str, prefix: str, tmp_path: Path) -> None:
    """The program, as printed, prints an event that the gateway published."""
    log = KafkaLog(KafkaOptions((kafka,), prefix=prefix))
    await log.start()
    value = b'{"type":"nxcloud.sms.dr","subject":"m-1","data":{"status":"delivered"}}'
    await log.append([Entry("sms.dr", "m-1", "0" * 32, value)])
    await log.stop()
    (program,) = re.findall(r"```python\n(.*?)```", between("consumer"), re.DOTALL)
    path = tmp_path / "consumer.py"
    path.write_text(program.replace("localhost:9092", kafka).replace('"sms.dr"', f'"{prefix}sms.dr"'))
    consumer = await asyncio.create_subprocess_exec(sys.executable, str(path), stdout=asyncio.subprocess.PIPE)
    try:
        assert consumer.stdout is not None
        async with asyncio.timeout(60):
            line = await consumer.stdout.readline()
    finally:
        consumer.kill()
        await consumer.wait()
    assert line == b"nxcloud.sms.dr m-1 delivered\n"
