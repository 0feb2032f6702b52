"""The journal's files are taken from under the running process: refused, not ready, explained, and saved."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from pathlib import Path

import aiohttp
import pytest

from gateway.log.journal import EVENTS, Journal, Retention
from gateway.log.journal.open_files import CHECK_INTERVAL_S
from tests.gateway.conftest import MakeGateway
from tests.log.journal.test_open_files import DAMAGES, WAL


async def post(session: aiohttp.ClientSession, url: str, number: int) -> aiohttp.ClientResponse:
    async with session.post(f"{url}/callbacks/sms-dr", data=f"messageid=m-{number}&status=2".encode()) as answer:
        await answer.read()
        return answer


async def keys(folder: Path) -> set[str]:
    """What the next start finds."""
    journal = Journal(folder, Retention(1 << 30, 3600.0))
    await journal.start()
    reader = await journal.browse("test", [], start="earliest")
    found: set[str] = set()
    while journal.head(EVENTS) and (records := await reader.fetch(max_records=1000, wait_s=0)):
        found |= {record.key for record in records}
    await journal.stop()
    return found


@pytest.mark.parametrize(
    "damage", ["rm -rf", "folder moved away", "another folder", "log deleted", "log cut to nothing"]
)
async def test_callbacks_are_refused_and_the_reason_is_shown(gateway: MakeGateway, damage: str) -> None:
    """Under load 200 ends within the interval, repeats included; /readyz has the reason, the log one line of it."""
    running = await gateway()
    folder = running.folder / "data"
    async with aiohttp.ClientSession() as session:
        for number in range(50):
            assert (await post(session, running.url, number)).status == 200
        DAMAGES[damage](folder)
        damaged_at = time.monotonic()
        for number in range(50, 100_000):
            began_at = time.monotonic()
            answer = await post(session, running.url, number)
            if answer.status != 200:
                break
            assert began_at - damaged_at < CHECK_INTERVAL_S
        assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
        assert (await post(session, running.url, 1)).status == 503  # stored, but the next start would not know it
        async with session.get(f"{running.admin_url}/readyz") as ready:
            assert ready.status == 503
            assert str(folder) in (await ready.json())["checks"]["journal"]
        async with session.get(f"{running.admin_url}/metrics") as metrics:
            text = await metrics.text()
            if (folder / "run").exists():
                assert 'gateway_journal_failures_total{process="log",reason="moved"}' in text
            else:  # with the folder went the sockets by which processes are asked: unknown, not 0
                assert 'gateway_process_up{process="log"} 0.0' in text
    line = await running.logged("journal.moved")
    assert line["advice"]
    assert 1 == sum(line["level"] == "error" for line in running.lines)
    assert await running.terminate() == 1  # the next start finds nothing of it


async def test_folder_that_is_put_back_loses_nothing_that_was_answered(gateway: MakeGateway) -> None:
    """The gateway continues by itself, and a restart finds every callback that was answered 200."""
    running = await gateway()
    folder, accepted = running.folder / "data", set()
    async with aiohttp.ClientSession() as session:
        for number in range(200):
            if number == 100:
                folder.rename(running.folder / "away")
            if (await post(session, running.url, number)).status == 200:
                accepted.add(f"m-{number}")
            elif not folder.exists():
                (running.folder / "away").rename(folder)
                await running.logged("journal.moved_back")
    assert len(accepted) >= 198
    await running.kill()
    assert accepted <= await keys(folder)


async def test_a_removed_journal_can_be_copied_from_the_process(gateway: MakeGateway) -> None:
    """The advice of the log line, followed to the letter, saves every callback that was answered 200."""
    running = await gateway()
    accepted = set()
    async with aiohttp.ClientSession() as session:
        for number in range(100):
            if number == 90:
                shutil.rmtree(running.folder / "data")
            if (await post(session, running.url, number)).status == 200:
                accepted.add(f"m-{number}")
    advice = (await running.logged("journal.moved"))["advice"]
    sources = [
        word for word in advice.replace(",", "").split() if word.startswith(f"/proc/{running.pid_of('log')}/fd/")
    ]
    saved = running.folder / "saved"
    os.mkdir(saved)
    for source, name in zip(sources, (WAL.removesuffix("-wal"), WAL), strict=True):
        await asyncio.to_thread(shutil.copyfile, source, saved / name)
    await running.kill()
    assert len(accepted) >= 90
    assert accepted <= await keys(saved)
