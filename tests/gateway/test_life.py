"""Start, stop, reload, and what the log may say, on the process that users run."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import aiohttp
import orjson
import pytest

from gateway.app import App, Shared
from gateway.config.loading import load
from gateway.log.journal import EVENTS, Journal, Retention
from gateway.log.journal.files import FolderLock
from gateway.processes import _run
from gateway.sockets import listen_locally
from tests.gateway.conftest import MakeGateway, MakeSubscriber, to
from tests.waiting import turn

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


async def post(session: aiohttp.ClientSession, url: str, number: int) -> bool:
    """One receipt; whether it was answered 200.

    A refused connection is a clear no, and so is a reset: the kernel resets what it took from the network but the
    gateway had not accepted when it closed the port. A request that the gateway read must be answered.
    """
    body = f"messageid=m-{number}&phone=15550{number:06d}&status=2&ext=private+text"
    try:
        async with session.post(f"{url}/callbacks/sms-dr", data=body.encode()) as answer:
            assert answer.status == 200, await answer.text()
            return True
    except aiohttp.ServerDisconnectedError:
        raise
    except aiohttp.ClientOSError:
        return False


async def test_sigterm_under_load_finishes_requests_and_exits_0(
    gateway: MakeGateway, subscriber: MakeSubscriber
) -> None:
    """No request that was read goes unanswered, all that was answered is stored, exit code 0 within 25 s."""
    receiver = await subscriber()
    running = await gateway(subscribers=[to(receiver, "all")])
    accepted: set[int] = set()
    is_refused = asyncio.Event()

    async def client(session: aiohttp.ClientSession, first: int) -> None:
        for number in range(first, first + 100_000):
            if not await post(session, running.url, number):
                is_refused.set()
                return
            accepted.add(number)

    # A new connection for each request, so that a refused connection is the only way to fail.
    connector = aiohttp.TCPConnector(force_close=True)
    async with aiohttp.ClientSession(connector=connector) as session:
        clients = [asyncio.create_task(client(session, n * 100_000)) for n in range(8)]
        await receiver.until_more(200)
        started = time.monotonic()
        assert await running.terminate() == 0
        assert time.monotonic() - started < 25
        await asyncio.gather(*clients)
    assert is_refused.is_set()
    journal = Journal(running.folder / "data", Retention(1 << 30, 3600.0))
    await journal.start()
    reader = await journal.browse("test", [], start="earliest")
    stored: set[str] = set()
    while records := await reader.fetch(max_records=1000, wait_s=0):
        stored |= {record.key for record in records}
    delivered = journal.positions()["gateway.all", EVENTS]
    assert {f"m-{number}" for number in accepted} <= stored
    # What a stop leaves over is what was not delivered, nothing more: positions were committed.
    assert len(receiver.ids) <= delivered <= len(stored)
    await journal.stop()


async def test_second_sigterm_changes_nothing(gateway: MakeGateway) -> None:
    running = await gateway()
    os.kill(running.pid, signal.SIGTERM)
    os.kill(running.pid, signal.SIGTERM)
    assert await running.terminate() == 0


async def test_stop_may_come_before_the_start_is_over(tmp_path: Path) -> None:
    """A signal while the parts are still starting leads to a clean stop."""
    path = tmp_path / "config.yaml"
    path.write_text(f"journal: {{dir: {tmp_path}/data}}\ningest: {{port: 0}}\nadmin: {{port: 0}}\n")
    ready: list[Mapping[str, object]] = []
    running = asyncio.create_task(_run(lambda: App(load(path, {}), path), ready.append))
    await turn()  # the handlers are set in its first step
    assert not ready
    os.kill(os.getpid(), signal.SIGTERM)
    assert await running == 0


async def test_start_that_waits_for_another_process_is_broken_off(tmp_path: Path) -> None:
    """For the folder of another gateway it would wait ten seconds, and fail then."""
    path = tmp_path / "config.yaml"
    path.write_text(f"journal: {{dir: {tmp_path}/data}}\n")
    link = tmp_path / "log.link"
    shared = Shared(log=link, log_listening=listen_locally(link), reports={"log": tmp_path / "log.report"})
    lock = FolderLock(tmp_path / "data")
    lock.acquire()
    try:
        make = partial(App, load(path, {}), path, part="log", name="log", shared=shared)
        running = asyncio.create_task(_run(make, lambda facts: pytest.fail(f"it is ready: {facts}")))
        async with asyncio.timeout(5):
            while not any(task.get_name() == "start" for task in asyncio.all_tasks()):
                await turn()
            await turn()  # its first step ends where it waits for the lock
            os.kill(os.getpid(), signal.SIGTERM)
            assert await running == 0
    finally:
        lock.release()


async def test_app_can_be_stopped_twice_and_before_its_start(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(f"journal: {{dir: {tmp_path}/data}}\ningest: {{port: 0}}\nadmin: {{port: 0}}\n")
    app = App(load(path, {}))
    await app.stop()
    await app.start()
    await app.stop()
    await app.stop()


@pytest.mark.parametrize(("taken", "other"), [("ingest.port", "ADMIN"), ("admin.port", "INGEST")])
async def test_port_in_use_is_one_clear_sentence(gateway: MakeGateway, tmp_path: Path, taken: str, other: str) -> None:
    """The second gateway says which key to change and exits non-zero, leaving nothing half-open."""
    running = await gateway()
    second = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", "run", "-c", str(running.path),
        env={**os.environ, "GATEWAY__JOURNAL__DIR": str(tmp_path / "other"), f"GATEWAY__{other}__PORT": "0"},
        stderr=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    _, stderr = await second.communicate()
    assert second.returncode not in (0, None)
    assert f"{taken}: " in stderr.decode()
    assert b"Traceback" not in stderr


async def test_new_subscriber_is_taken_up_and_a_bad_file_is_refused(
    gateway: MakeGateway, subscriber: MakeSubscriber
) -> None:
    """SIGHUP takes up a changed file at once; with a bad one the old configuration stays in force, and says so."""
    first, second = await subscriber(), await subscriber()
    running = await gateway(subscribers=[to(first, "first")])
    running.config["subscribers"] = [to(first, "first"), to(second, "second")]
    running.write()
    os.kill(running.pid, signal.SIGHUP)
    await running.logged("config.applied")
    async with aiohttp.ClientSession() as session:
        assert await post(session, running.url, 1)
        await second.until(lambda: "m-1" in second.subjects)
        running.path.write_text("subscribers: [{name: first, topics: [sms.dr], url: 'ftp://nowhere'}]\nbogus: 1\n")
        os.kill(running.pid, signal.SIGHUP)
        refused = await running.logged("config.refused")
        assert "subscribers" in orjson.dumps(refused).decode()
        running.config["subscribers"] = [to(first, "first", tls={"ca_file": str(running.path.with_name("no.pem"))})]
        running.write()
        os.kill(running.pid, signal.SIGHUP)
        await running.logged("config.refused", count=2)
        assert 1 == sum(line["event"] == "config.applied" for line in running.lines)
        assert await post(session, running.url, 2)
        await second.until(lambda: "m-2" in second.subjects)
    await first.until(lambda: {"m-1", "m-2"} <= first.subjects.keys())


async def test_log_holds_ids_but_no_text_number_or_secret(gateway: MakeGateway, subscriber: MakeSubscriber) -> None:
    """At the most talkative level, with accepted, rejected and refused callbacks, and with failing deliveries."""

    async def refuse(_: dict[str, object]) -> int:
        return 500

    well, failing = await subscriber(), await subscriber(refuse)
    running = await gateway(
        log={"format": "json", "level": "debug"},
        ingest={"port": 0, "callbacks": {"nxlink-call": {"auth": {"token": "s3cret-token"}}}},
        subscribers=[to(well, "well", secrets=[SECRET]), to(failing, "failing", secrets=[SECRET])],
    )
    async with aiohttp.ClientSession() as session:
        for number in range(5):
            assert await post(session, running.url, number)
        rejected = await session.post(f"{running.url}/callbacks/sms-dr", data=b"phone=15550000009&ext=private+text")
        assert rejected.status == 400
        call = {"callId": "c-1", "callee": "15550000008", "other": "private text"}
        refused = await session.post(
            f"{running.url}/callbacks/nxlink-call", json=call, headers={"token": "wr0ng-token"}
        )
        assert refused.status == 401
    await well.until(lambda: len(well.ids) == 5)
    await running.logged("delivery.attempted")
    assert await running.terminate() == 0
    text = orjson.dumps(running.lines).decode()
    assert well.headers
    event_id = next(iter(well.ids))
    assert event_id in text
    for private in ("15550", "private", "s3cret", "wr0ng", SECRET[6:]):
        assert private not in text, private


async def test_webhook_is_signed_as_standard_webhooks_ask(gateway: MakeGateway, subscriber: MakeSubscriber) -> None:
    """The reference implementation's own verifier accepts what arrives."""
    from standardwebhooks import Webhook

    receiver = await subscriber()
    running = await gateway(subscribers=[to(receiver, "signed", secrets=[SECRET])])
    bodies: list[bytes] = []
    headers: list[dict[str, str]] = []

    async def keep(event: dict[str, object]) -> int:
        bodies.append(orjson.dumps(event))
        return 200

    receiver.behave = keep
    async with aiohttp.ClientSession() as session:
        assert await post(session, running.url, 1)
    await receiver.until(lambda: bool(receiver.headers))
    headers = receiver.headers
    verified = Webhook(SECRET).verify(bodies[0], {name.lower(): value for name, value in headers[0].items()})
    assert verified["type"] == "nxcloud.sms.dr"
    assert headers[0]["Content-Type"].startswith("application/cloudevents+json")


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
async def test_admin_port_tells_health_and_metrics(gateway: MakeGateway, path: str) -> None:
    running = await gateway(admin={"port": 0, "token": "adm1n"})
    async with aiohttp.ClientSession() as session:
        headers = {"Authorization": "Bearer adm1n"} if path == "/metrics" else {}
        answer = await session.get(running.admin_url + path, headers=headers)
        assert answer.status == 200
        if path == "/metrics":
            assert "gateway_journal_events_total" in await answer.text()
            assert (await session.get(running.admin_url + path)).status == 401


async def test_trace_of_the_caller_goes_on_to_the_subscriber(gateway: MakeGateway, subscriber: MakeSubscriber) -> None:
    """Its trace id stands in the webhook's ``traceparent``; a malformed one, or none, gives the event's own id."""
    receiver = await subscriber()
    running = await gateway(subscribers=[to(receiver, "all")])
    trace = "0af7651916cd43dd8448eb211c80319c"
    async with aiohttp.ClientSession() as session:
        for number, given in enumerate([f"00-{trace}-b7ad6b7169203331-01", "00-zz-1-01"]):
            body = f"messageid=m-{number}&status=2".encode()
            headers = {"traceparent": given}
            async with session.post(f"{running.url}/callbacks/sms-dr", data=body, headers=headers) as answer:
                assert answer.status == 200
            await receiver.until(lambda number=number: f"m-{number}" in receiver.subjects)
    first, second = receiver.headers
    assert trace == first["traceparent"].split("-")[1]
    assert second["webhook-id"] == second["traceparent"].split("-")[1]
