"""The processes of one machine: each is killed, stopped and started again while callbacks flow."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, NamedTuple

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.log.journal import EVENTS, Journal, Retention
from tests.gateway.conftest import MakeGateway, MakeSubscriber, to
from tests.gateway.process import GatewayProcess, memory_bytes
from tests.hostile.test_neighbours import healthy
from tests.waiting import pause, until

pytestmark = pytest.mark.timeout(180)

CLIENTS = 16
#: Between two callbacks of a client: together some hundred a second, which leaves time for what is tested.
PAUSE_S = 0.02
#: A busy machine adds this to what a process takes for anything.
BUSY_S = 4.0


class Answer(NamedTuple):
    """What came back, and after how many seconds; a status of 0 is a broken connection."""

    status: int
    retry_after: str
    took_s: float


class Senders:
    """Clients that send callbacks until they are asked to stop; each is sent until it is answered 200."""

    def __init__(self, gateway: GatewayProcess, text: str = "") -> None:
        self._url = f"{gateway.url}/callbacks/sms-dr"
        self._text = text
        self._is_stopping = False
        self._next = 0
        self._answered = asyncio.Condition()
        self.accepted: set[str] = set()
        self.answers: list[Answer] = []

    async def until_more(self, count: int) -> None:
        """Wait until so many more were answered 200."""
        target = len(self.accepted) + count
        async with asyncio.timeout(90), self._answered:
            await self._answered.wait_for(lambda: len(self.accepted) >= target)

    async def until_answered(self, status: int) -> None:
        """Wait for an answer with this status that has not come yet."""
        seen = len(self.answers)
        async with asyncio.timeout(60), self._answered:
            await self._answered.wait_for(lambda: any(one.status == status for one in self.answers[seen:]))

    def stop(self) -> None:
        """Have each client end after the callback that it is sending."""
        self._is_stopping = True

    async def run(self, session: aiohttp.ClientSession) -> None:
        """One client."""
        while not self._is_stopping:
            self._next += 1
            name = f"m-{self._next}"
            while (await self._send(session, name)).status != 200:
                await pause(0.02, "a client that waits before it tries again")
            self.accepted.add(name)
            async with self._answered:
                self._answered.notify_all()
            await pause(PAUSE_S, "a client's rate")

    async def _send(self, session: aiohttp.ClientSession, name: str) -> Answer:
        answer = await post(session, self._url, name, self._text)
        self.answers.append(answer)
        async with self._answered:
            self._answered.notify_all()
        return answer


async def post(session: aiohttp.ClientSession, url: str, name: str, text: str = "") -> Answer:
    """Send one receipt."""
    began = time.monotonic()
    try:
        async with session.post(url, data=f"messageid={name}&phone=1&status=2&ext={text}".encode()) as answer:
            await answer.read()
            return Answer(answer.status, answer.headers.get("Retry-After", ""), time.monotonic() - began)
    except aiohttp.ClientError:
        return Answer(0, "", time.monotonic() - began)


@asynccontextmanager
async def sending(gateway: GatewayProcess, text: str = "", clients: int = CLIENTS) -> AsyncIterator[Senders]:
    """Have callbacks flow; at the end each was answered 200."""
    senders = Senders(gateway, text)
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session:
        running = [asyncio.create_task(senders.run(session)) for _ in range(clients)]
        try:
            yield senders
        finally:
            senders.stop()
            async with asyncio.timeout(60):
                await asyncio.gather(*running)


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Hold a process, as a debugger or a disk that hangs does."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


async def ready(gateway: GatewayProcess, name: str, count: int) -> None:
    """Wait until a process has been ready so many times."""
    await gateway.logged("process.ready", where=lambda line: line["process"] == name, count=count)


def died(gateway: GatewayProcess) -> Counter[str]:
    """How many times each process died."""
    return Counter(line["process"] for line in gateway.lines if line["event"] == "process.died")


async def stored(gateway: GatewayProcess) -> Counter[str]:
    """Keys of what a stopped gateway has in its log."""
    journal = Journal(gateway.folder / "data", Retention(1 << 30, 3600.0))
    await journal.start()
    try:
        reader = await journal.browse("test", [], start="earliest")
        keys, ids = Counter[str](), Counter[str]()
        while records := await reader.fetch(max_records=1000, wait_s=0):
            keys.update(record.key for record in records)
            ids.update(record.id for record in records)
        assert sum(keys.values()) == journal.head(EVENTS)
        assert set(ids.values()) <= {1}
        return keys
    finally:
        await journal.stop()


async def readiness(gateway: GatewayProcess, status: int) -> dict[str, str]:
    """Ask until the gateway is as ready as this; what each check says."""
    async with aiohttp.ClientSession() as session:

        async def look() -> dict[str, str]:
            async with session.get(f"{gateway.admin_url}/readyz") as answer:
                checks: dict[str, str] = (await answer.json())["checks"]
                return checks if answer.status == status else {}

        return await until(look, within_s=30)


async def samples(gateway: GatewayProcess) -> list[Any]:
    """What ``/metrics`` has."""
    async with aiohttp.ClientSession() as session, session.get(f"{gateway.admin_url}/metrics") as answer:
        families = text_string_to_metric_families(await answer.text())
        return [sample for family in families for sample in family.samples]


# -- the log process -----------------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_killed_log_process_loses_nothing_and_stores_nothing_twice(
    gateway: MakeGateway, subscriber: MakeSubscriber
) -> None:
    """What waits is sent to the new one: 200, or 503 after two seconds. The other processes live on."""
    receiver = await subscriber()
    running = await gateway(subscribers=[to(receiver, "all")], ingest={"port": 0, "workers": 2})
    others = {name: running.pid_of(name) for name in ("deliver", "ingest-0", "ingest-1")}
    async with sending(running) as senders:
        for number in range(3):
            await senders.until_more(200)
            os.kill(running.pid_of("log"), signal.SIGKILL)
            await ready(running, "log", number + 2)
        await senders.until_more(200)
    assert {one.status for one in senders.answers} <= {200, 503}
    assert all(one.retry_after == "5" for one in senders.answers if one.status == 503)
    # Two seconds for what waits; a new process takes some tenths.
    assert max(one.took_s for one in senders.answers) < 2 + BUSY_S
    await receiver.until(lambda: senders.accepted <= receiver.subjects.keys())
    assert others == {name: running.pid_of(name) for name in others}
    assert died(running) == {"log": 3}
    assert await running.terminate() == 0
    assert senders.accepted == (await stored(running)).keys()


async def test_without_a_log_process_callbacks_are_answered_503_in_two_seconds(gateway: MakeGateway) -> None:
    """Also where one that is being started has the connection already, and does not answer yet."""
    running = await gateway()
    url = f"{running.url}/callbacks/sms-dr"
    async with aiohttp.ClientSession() as session:
        assert (await post(session, url, "m-1")).status == 200
        with stopped(running.pid):  # it starts none
            os.kill(running.pid_of("log"), signal.SIGKILL)
            await running.logged("link.broken", count=2)
            waited = await post(session, url, "m-2")
            assert (waited.status, waited.retry_after) == (503, "5")
            assert waited.took_s < 2 + BUSY_S
            at_once = await post(session, url, "m-3")
            assert at_once.status == 503
            assert at_once.took_s < 2
            assert "log process is not running" in (await readiness(running, 503))["journal"]
        await readiness(running, 200)
        assert (await post(session, url, "m-2")).status == 200
    assert await running.terminate() == 0
    assert {"m-1", "m-2"} <= (await stored(running)).keys() <= {"m-1", "m-2", "m-3"}


@pytest.mark.slow
async def test_stopped_log_process_is_answered_503_and_explained(
    gateway: MakeGateway, subscriber: MakeSubscriber
) -> None:
    """After ten seconds, not for ever; when it goes on, so does everything, and nothing answered 200 is lost."""
    receiver = await subscriber()
    running = await gateway(subscribers=[to(receiver, "all")])
    async with sending(running) as senders:
        await senders.until_more(100)
        with stopped(running.pid_of("log")):
            assert "has not answered" in (await readiness(running, 503))["journal"]
            await senders.until_answered(503)
        await senders.until_more(100)
    assert {one.status for one in senders.answers} == {200, 503}
    assert 9 < max(one.took_s for one in senders.answers) < 11 + BUSY_S
    await readiness(running, 200)
    await receiver.until(lambda: senders.accepted <= receiver.subjects.keys())
    assert died(running) == {}
    assert await running.terminate() == 0
    assert senders.accepted == (await stored(running)).keys()


@pytest.mark.slow
async def test_log_process_that_is_asked_to_end_is_replaced(gateway: MakeGateway) -> None:
    """By itself, as some watchers of memory do: it serves until its time is over, and the next one has its socket."""
    running = await gateway()
    async with sending(running, clients=4) as senders:
        os.kill(running.pid_of("log"), signal.SIGTERM)
        await ready(running, "log", 2)
        await senders.until_more(50)
    assert {one.status for one in senders.answers} <= {200, 503}
    assert max(one.took_s for one in senders.answers) < 2 + BUSY_S
    assert died(running) == {"log": 1}
    assert await running.terminate() == 0
    assert senders.accepted == (await stored(running)).keys()


# -- deliver -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_killed_deliver_process_is_not_noticed_by_the_platform(
    gateway: MakeGateway, subscriber: MakeSubscriber
) -> None:
    """Each callback is answered 200 as quickly as before; the admin port waits for the new process and answers."""
    receiver = await subscriber()
    running = await gateway(subscribers=[to(receiver, "all")])
    async with sending(running) as senders:
        for number in range(3):
            await senders.until_more(200)
            os.kill(running.pid_of("deliver"), signal.SIGKILL)
            await running.logged("process.died", count=number + 1)
            await readiness(running, 200)  # this request waits in the port's queue
            await ready(running, "deliver", number + 2)
    assert {one.status for one in senders.answers} == {200}
    assert max(one.took_s for one in senders.answers) < BUSY_S
    await receiver.until(lambda: senders.accepted <= receiver.subjects.keys())
    assert died(running) == {"deliver": 3}
    assert await running.terminate() == 0
    assert senders.accepted == (await stored(running)).keys()


@pytest.mark.slow
async def test_stopped_deliver_process_holds_up_nothing_and_fills_no_memory(
    gateway: MakeGateway, subscriber: MakeSubscriber
) -> None:
    """The log process keeps little for a follower that does not read; that one reads the file when it goes on."""
    receiver = await subscriber()
    running = await gateway(subscribers=[to(receiver, "all")])
    async with sending(running, text="x" * 20_000) as senders:
        await senders.until_more(200)
        before = memory_bytes(running.pid_of("log"))
        with stopped(running.pid_of("deliver")):
            await senders.until_more(2000)  # 40 MB at least
            grown = memory_bytes(running.pid_of("log")) - before
            assert grown < 24e6, f"{grown / 1e6:.0f} MB more"
    assert {one.status for one in senders.answers} == {200}
    assert max(one.took_s for one in senders.answers) < BUSY_S
    await receiver.until(lambda: senders.accepted <= receiver.subjects.keys())
    assert died(running) == {}


# -- ingest --------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def one_connection() -> AsyncIterator[aiohttp.ClientSession]:
    """A session with one connection, which stays."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) as session:
        yield session


async def test_connections_of_other_ingest_processes_go_on(gateway: MakeGateway) -> None:
    """Those of the one that was killed are broken; new ones are accepted at once, and later by the new one too."""
    running = await gateway(ingest={"port": 0, "workers": 2})
    url = f"{running.url}/callbacks/sms-dr"
    pids = {name: running.pid_of(name) for name in ("log", "deliver", "ingest-1")}
    async with one_connection() as first, one_connection() as second, one_connection() as third:
        with stopped(running.pid_of("ingest-1")):
            assert (await post(first, url, "m-1")).status == 200
        with stopped(running.pid_of("ingest-0")):
            assert (await post(second, url, "m-2")).status == 200
        os.kill(running.pid_of("ingest-0"), signal.SIGKILL)
        await running.logged("process.died")
        assert (await post(second, url, "m-3")).status == 200
        assert (await post(third, url, "m-4")).status == 200
        await ready(running, "ingest-0", 2)
        with stopped(running.pid_of("ingest-1")):
            assert (await post(first, url, "m-5")).status == 200
    assert pids == {name: running.pid_of(name) for name in pids}
    counted = {
        one.labels["process"]: one.value for one in await samples(running) if one.name == "gateway_callbacks_total"
    }
    assert {"ingest-0": 1.0, "ingest-1": 3.0} == counted
    assert await running.terminate() == 0


async def test_connections_wait_while_the_only_ingest_process_is_away(gateway: MakeGateway) -> None:
    """Some hundred senders that connect meanwhile are answered by the next one; none is refused."""
    running = await gateway()
    port = running.config["ingest"]["port"]
    with stopped(running.pid):  # it starts none
        os.kill(running.pid_of("ingest-0"), signal.SIGKILL)
        async with asyncio.timeout(30):
            opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(300)]
        for number, (_, writer) in enumerate(opened):
            writer.write(healthy(number))
    async with asyncio.timeout(60):
        for reader, writer in opened:
            assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 200 ")
            writer.close()
    assert died(running) == {"ingest-0": 1}
    assert await running.terminate() == 0


async def test_a_repeat_is_known_by_every_ingest_process(gateway: MakeGateway) -> None:
    """The log process knows the ids of all."""
    running = await gateway(ingest={"port": 0, "workers": 2})
    url = f"{running.url}/callbacks/sms-dr"
    async with one_connection() as first, one_connection() as second:
        with stopped(running.pid_of("ingest-1")):
            assert (await post(first, url, "m-1")).status == 200
        with stopped(running.pid_of("ingest-0")):
            assert (await post(second, url, "m-1")).status == 200
    counted = {
        (one.labels["process"], one.labels["outcome"]): one.value
        for one in await samples(running)
        if one.name == "gateway_callbacks_total"
    }
    assert {("ingest-0", "accepted"): 1.0, ("ingest-1", "repeated"): 1.0} == counted
    assert await running.terminate() == 0
    assert {"m-1": 1} == await stored(running)


async def test_events_of_a_key_keep_their_order_with_several_ingest_processes(
    gateway: MakeGateway, subscriber: MakeSubscriber
) -> None:
    """As one connection sends them, while others keep all processes busy."""
    order: list[str] = []

    async def note(event: dict[str, Any]) -> int:
        if event["subject"] == "one":
            order.append(event["data"]["ext"])
        return 200

    receiver = await subscriber(note)
    running = await gateway(subscribers=[to(receiver, "all")], ingest={"port": 0, "workers": 2})
    sent = [str(number) for number in range(60)]
    async with sending(running, clients=8) as senders, one_connection() as session:
        await senders.until_more(50)
        for number in sent:
            assert (await post(session, f"{running.url}/callbacks/sms-dr", "one", number)).status == 200
    await receiver.until(lambda: len(order) >= len(sent))
    assert order == sent
    assert await running.terminate() == 0


# -- the supervisor ------------------------------------------------------------------------------------------------


# -- what all of it says and takes ---------------------------------------------------------------------------------
