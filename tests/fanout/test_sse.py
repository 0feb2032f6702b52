from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.clock import SystemClock
from gateway.fanout.sse import (
    MAX_CLIENTS,
    BadLastEventId,
    EventStream,
    StreamCursor,
    TooManyClients,
    format_cursor,
    parse,
)
from tests.fanout.events import entries, entry
from tests.fanout.manual_clock import ManualClock, turns
from tests.fanout.memory_log import MemoryLog
from tests.fanout.test_subscriptions import subscriber
from tests.waiting import turn


def stream(log: MemoryLog, **options: object) -> EventStream:
    return EventStream(log, subscriber("console", kind="stream", **options), clock=SystemClock())


async def take(chunks: AsyncIterator[bytes], count: int) -> list[dict[str, str]]:
    """The next events, parsed as a browser would."""
    found: list[dict[str, str]] = []
    async with asyncio.timeout(10):
        while len(found) < count:
            for block in (await anext(chunks)).decode().split("\n\n"):
                fields = dict(line.split(": ", 1) for line in block.split("\n") if line and not line.startswith(":"))
                if fields:
                    found.append(fields)
    return found


def numbers(events: list[dict[str, str]]) -> list[int]:
    return sorted(orjson.loads(event["data"])["data"]["number"] for event in events)


@pytest.mark.parametrize("partitions", [1, 3])
async def test_a_client_that_comes_back_gets_what_it_missed(partitions: int) -> None:
    """``Last-Event-ID``: everything after it, nothing before it, also from partitions that were silent."""
    log = MemoryLog(partitions=partitions)
    await log.append(entries(20, 20))
    source = stream(log)
    first = source.events()
    seen = await take(first, 20)
    await first.aclose()  # type: ignore[attr-defined]
    await log.append(entries(15, 15, first=21))
    again = source.events(seen[-1]["id"])
    missed = await take(again, 15)
    await again.aclose()  # type: ignore[attr-defined]
    assert (numbers(seen), numbers(missed)) == (list(range(1, 21)), list(range(21, 36)))
    assert {event["event"] for event in seen} == {"nxcloud.sms.dr"}


async def test_latest_begins_now_and_filters_and_transforms() -> None:
    """Only what comes after the connection, only what is wanted, only the fields that are wanted."""
    log = MemoryLog(now=SystemClock().now)
    await log.append(entries(5))
    source = stream(
        log, start="latest", filter={"exact": {"type": "nxcloud.did.dr"}}, transform={"exclude": ["data.raw"]}
    )
    client = source.events()
    assert await anext(client) == b": connected\n\n"
    await log.append([entry(6), entry(7, type_="nxcloud.did.dr")])
    (event,) = await take(client, 1)
    await client.aclose()  # type: ignore[attr-defined]
    assert (event["event"], numbers([event])) == ("nxcloud.did.dr", [7])
    assert "raw" not in orjson.loads(event["data"])["data"]


async def test_silence_is_broken_by_comments() -> None:
    """Proxies close connections on which nothing comes."""
    client = stream(MemoryLog()).events(heartbeat_s=0.01)
    assert [await anext(client) for _ in range(3)] == [b": connected\n\n", b": still here\n\n", b": still here\n\n"]
    await client.aclose()  # type: ignore[attr-defined]


async def test_a_narrow_filter_on_a_busy_topic_is_broken_by_comments_too() -> None:
    """Events that are not wanted are no sign of life; the other tasks of the process get their turns meanwhile."""
    log = MemoryLog()
    await log.append(entries(50))
    client = stream(log, filter={"exact": {"type": "no.such"}}).events(heartbeat_s=0.05)
    await anext(client)

    async def busy() -> None:
        while True:
            await log.append(entries(50))
            await turn()

    traffic = asyncio.create_task(busy())
    async with asyncio.timeout(10):
        assert [await anext(client) for _ in range(3)] == [b": still here\n\n"] * 3
    assert not traffic.done()
    traffic.cancel()
    await client.aclose()  # type: ignore[attr-defined]


async def test_a_log_that_refuses_at_once_is_asked_now_and_then() -> None:
    """An outage costs a client a comment a second, and the process nothing: no loop of fetches and chunks."""
    clock, log = ManualClock(), MemoryLog()
    client = EventStream(log, subscriber("console", kind="stream"), clock=clock).events()
    await anext(client)
    log.failing_fetches = refusals = 1000
    waiting = asyncio.ensure_future(anext(client))
    await turns(50)
    assert (waiting.done(), log.failing_fetches) == (False, refusals - 1)
    clock.advance(1.0)
    assert await waiting == b": still here\n\n"
    await client.aclose()  # type: ignore[attr-defined]


async def test_a_place_of_a_topic_that_is_read_no_more_is_passed_over() -> None:
    """Topics of a subscriber may change while a client is away: it goes on in those that are left."""
    log = MemoryLog()
    await log.append(entries(3))
    client = stream(log).events(format_cursor(StreamCursor(0.0, {"call.event-0": 17})))
    assert numbers(await take(client, 3)) == [1, 2, 3]
    await client.aclose()  # type: ignore[attr-defined]


async def test_clients_are_bounded_and_a_place_is_given_back() -> None:
    """One too many is told to come later; when one leaves there is room."""
    source = stream(MemoryLog())
    clients = [source.events() for _ in range(MAX_CLIENTS)]
    for client in clients:
        await anext(client)
    with pytest.raises(TooManyClients):
        await anext(source.events())
    await clients[3].aclose()  # type: ignore[attr-defined]
    another = source.events()
    await anext(another)
    for client in [*clients, another]:
        await client.aclose()  # type: ignore[attr-defined]


@given(st.text())
def test_foreign_event_ids_are_refused(text: str) -> None:
    """An id that is not ours is the client's error, never ours."""
    with contextlib.suppress(BadLastEventId):
        assert format_cursor(parse(text))


@given(
    since=st.integers(0, 10**12).map(lambda ms: ms / 1000),
    offsets=st.dictionaries(st.from_regex(r"[A-Za-z0-9._-]{1,30}", fullmatch=True), st.integers(0, 10**15), min_size=1),
)
def test_places_survive_the_way_through_a_client(since: float, offsets: dict[str, int]) -> None:
    """What was given as an id comes back as the same place."""
    found = parse(format_cursor(StreamCursor(since, offsets)))
    assert (found.since, found.offsets) == (pytest.approx(since, abs=0.001), offsets)
