"""explain, replay, dlq and subscribers against a running gateway, by the command line."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from pathlib import Path

import orjson
import pytest
import yaml

from tests.admin.running import Running
from tests.gateway.subscriber import Subscriber, accept


@pytest.fixture
async def config(gateway: Running, refusing: Subscriber, tmp_path: Path) -> Path:
    """Three events: delivered to one subscriber, given up for another; and a callback that was not understood."""
    path = tmp_path / "console.yaml"
    path.write_text(yaml.safe_dump({"admin": {"port": gateway.app.admin.port}}))
    for number in range(3):
        await gateway.sms(number)
    await gateway.sms(9, messageid="")
    await gateway.until("/api/dead-letters", lambda found: len(found["letters"]) == 3)
    await gateway.indexed()
    return path


@dataclass(frozen=True)
class Result:
    exit_code: int
    stdout: str
    output: str


async def run(config: Path, *arguments: str) -> Result:
    """As a user does, in a process of its own."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", *arguments, "-c", str(config),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, errors = await process.communicate()
    assert process.returncode is not None
    return Result(process.returncode, out.decode(), out.decode() + errors.decode())


async def test_explain_tells_the_story_by_id_and_by_anything_else(config: Path) -> None:
    async with asyncio.timeout(20):  # attempts are kept once a second
        while "attempt 2" not in (found := await run(config, "explain", "m-1")).output:
            assert found.exit_code == 0, found.output
    for text in ("nxcloud.sms.dr", "m-1", "answered", "billing", "delivered", "broken", "attempt 2", "422", "picky"):
        assert text in found.output
    story = orjson.loads((await run(config, "explain", "m-1", "--json")).stdout)
    assert orjson.loads((await run(config, "explain", story["id"].upper(), "--json")).stdout)["id"] == story["id"]
    missing = await run(config, "explain", "0" * 32)
    assert (missing.exit_code, "no such event" in missing.output) == (1, True)


async def test_replay_counts_first_and_then_delivers(config: Path, refusing: Subscriber) -> None:
    refusing.behave = accept
    dry = await run(config, "replay", "--subscriber", "broken", "--dlq", "--dry-run")
    assert (dry.exit_code, "3 events would be" in dry.output) == (0, True)
    letters = await run(config, "dlq", "replay", "--subscriber", "broken", "--dry-run")
    assert (letters.exit_code, letters.output) == (0, dry.output)
    assert "0 events" in (await run(config, "dlq", "replay", "--subscriber", "broken", "--id", "0" * 32)).output
    done = await run(config, "replay", "--subscriber", "broken", "--since", "1h", "--json")
    assert orjson.loads(done.stdout)["events"] == 3
    await refusing.until(lambda: len(refusing.ids) == 3)
    rejected = await run(config, "replay", "--rejected", "--dry-run")
    assert "0 of 1 rejected callbacks" in rejected.output
    assert "identifying field" in rejected.output


async def test_replays_that_make_no_sense(tmp_path: Path) -> None:
    """Told before anything is asked, with how to say it."""
    broken = ["--subscriber", "broken"]
    for arguments in (
        broken,
        ["--since", "1h"],
        [*broken, "--since", "1h", "--reason", "age"],
        ["--rejected", *broken],
        [*broken, "--since", "lately"],
        [*broken, "--since", "1h", "--callback", "sms-dr"],
        [*broken, "--since", "1h", "--as", "sms-dr"],
        [*broken, "--since", "1h", "--unauthenticated"],
    ):
        assert (await run(tmp_path / "none.yaml", "replay", *arguments)).exit_code == 2


async def test_dead_letters(config: Path) -> None:
    listed = await run(config, "dlq", "list")
    assert (listed.exit_code, listed.output.count("broken"), "422" in listed.output) == (0, 3, True)
    letters = orjson.loads((await run(config, "dlq", "list", "--subscriber", "broken", "--json")).stdout)["letters"]
    shown = await run(config, "dlq", "show", letters[0]["id"])
    assert (shown.exit_code, letters[0]["key"] in shown.output) == (0, True)
    assert (await run(config, "dlq", "show", "0" * 32)).exit_code == 1
    assert "nothing was given up" in (await run(config, "dlq", "list", "--subscriber", "billing")).output


async def test_subscribers(config: Path) -> None:
    listed = await run(config, "subscribers", "list")
    assert all(name in listed.output for name in ("billing", "broken", "picky", "feed"))
    assert "billing is paused" in (await run(config, "subscribers", "pause", "billing")).output
    assert "billing is closed" in (await run(config, "subscribers", "resume", "billing")).output
    unknown = await run(config, "subscribers", "pause", "nobody")
    assert (unknown.exit_code, "nobody" in unknown.output) == (1, True)


async def test_no_gateway_is_one_clear_sentence(tmp_path: Path) -> None:
    """Not started, port 0, a wrong token, not a gateway: what is wrong and what to do."""
    path = tmp_path / "console.yaml"
    for admin, words in (({"port": 1}, "no gateway answers"), ({"port": 0}, "--admin")):
        path.write_text(yaml.safe_dump({"admin": admin}))
        found = await run(path, "subscribers", "list")
        assert (found.exit_code, words in found.output, found.output.count("\n")) == (1, True, 1)
