"""One timer for many deadlines, and the TLS of a client."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest
from aiohttp import web

from gateway.config.sections import ClientTls
from gateway.errors import ConfigError
from gateway.fanout.webhook_client import Deadlines, tls_context
from gateway.log import Record
from tests.fanout.authority import Authority
from tests.fanout.events import entry
from tests.fanout.manual_clock import ManualClock, turns
from tests.fanout.running import webhook
from tests.waiting import turn


async def attempt(clock: ManualClock, deadlines: Deadlines, answered: asyncio.Future[None]) -> str:
    task = deadlines.begin(clock.monotonic())
    try:
        await answered
    except asyncio.CancelledError:
        if not deadlines.is_late(task):
            raise
        return "late"
    finally:
        deadlines.end(task)
    return "answered"


async def begun(clock: ManualClock, deadlines: Deadlines) -> tuple[asyncio.Task[str], asyncio.Future[None]]:
    answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(attempt(clock, deadlines, answered))
    await turn()
    return task, answered


async def test_each_is_late_at_its_own_time_and_the_answered_never() -> None:
    clock = ManualClock()
    deadlines = Deadlines(clock, 10.0)
    first, _ = await begun(clock, deadlines)
    clock.advance(4.0)
    second, answered = await begun(clock, deadlines)
    third, _ = await begun(clock, deadlines)
    clock.advance(5.9)
    assert not first.done()
    clock.advance(0.2)
    assert "late" == await first
    assert not second.done()
    answered.set_result(None)
    assert "answered" == await second
    clock.advance(3.8)
    assert not third.done()
    clock.advance(0.2)
    assert "late" == await third


async def test_a_task_that_was_late_may_try_again() -> None:
    clock = ManualClock()
    deadlines = Deadlines(clock, 10.0)
    never: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def work() -> list[str]:
        return [await attempt(clock, deadlines, asyncio.shield(never)) for _ in range(3)]

    task = asyncio.create_task(work())
    for _ in range(3):
        await turns()
        clock.advance(10.0)
    assert ["late"] * 3 == await task
    assert 0 == task.cancelling()


@pytest.mark.parametrize("is_late_first", [True, False])
async def test_who_is_cancelled_by_others_too_is_cancelled(is_late_first: bool) -> None:
    clock = ManualClock()
    deadlines = Deadlines(clock, 10.0)
    task, _ = await begun(clock, deadlines)
    if is_late_first:
        clock.advance(10.0)
        task.cancel()
    else:
        task.cancel()
        clock.advance(10.0)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert clock.next_call() is None


async def test_an_answer_in_the_same_turn_as_the_deadline_does_not_cancel_what_comes_after() -> None:
    clock = ManualClock()
    deadlines = Deadlines(clock, 10.0)

    async def work() -> str:
        outcome = await attempt(clock, deadlines, answered)
        await turn()  # a cancellation left over would end the task here
        return outcome

    answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(work())
    await turns()
    answered.set_result(None)
    clock.advance(10.0)
    assert await task in {"late", "answered"}


RECORD = Record("p", 0, 0.0, *entry(1))


async def attempt_with(tmp_path: Path, tls: ClientTls, server: ssl.SSLContext) -> tuple[int | None, str | None]:
    async def answer(_: web.BaseRequest) -> web.StreamResponse:
        return web.Response()

    runner = web.ServerRunner(web.Server(answer), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=server).start()
    sink = webhook(f"https://127.0.0.1:{runner.addresses[0][1]}/", tls=tls_context(tls))
    result = await sink.attempt(RECORD, is_replay=False)
    await sink.close()
    await runner.cleanup()
    return result.status, result.error


async def test_certificates_are_checked_against_the_subscribers_authority(tmp_path: Path) -> None:
    """With its ``ca_file`` a private certificate is good; without, or with another one, it is not."""
    ours, other = Authority(tmp_path, "ours"), Authority(tmp_path, "other")
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(ours.issue("server"))
    assert await attempt_with(tmp_path, ClientTls(ca_file=str(ours.file)), server) == (200, None)
    assert await attempt_with(tmp_path, ClientTls(ca_file=str(other.file)), server) == (None, "tls")
    assert await attempt_with(tmp_path, ClientTls(), server) == (None, "tls")


async def test_mutual_tls_shows_our_certificate(tmp_path: Path) -> None:
    """A receiver that asks for a certificate gets ours, and refuses us without."""
    authority = Authority(tmp_path, "authority")
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(authority.file))
    server.verify_mode = ssl.CERT_REQUIRED
    server.load_cert_chain(authority.issue("server"))
    mine = str(authority.issue("gateway"))
    assert await attempt_with(tmp_path, ClientTls(ca_file=str(authority.file), cert_file=mine), server) == (
        200,
        None,
    )
    status, error = await attempt_with(tmp_path, ClientTls(ca_file=str(authority.file)), server)
    assert status is None
    assert error in {"tls", "disconnected"}


@pytest.mark.parametrize("key", ["ca_file", "cert_file"])
def test_files_that_cannot_be_used_are_named(tmp_path: Path, key: str) -> None:
    """Missing or with something else in them: a sentence with the key, at configuration time."""
    (tmp_path / "junk.pem").write_text("junk")
    for path in (tmp_path / "junk.pem", tmp_path / "missing.pem"):
        with pytest.raises(ConfigError, match=f"tls.{key}: .*{path.name}"):
            tls_context(ClientTls(**{key: str(path)}))
