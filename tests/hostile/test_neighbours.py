"""What hostile senders cost the others: memory for each idle connection, and time for everybody's answers.

``GATEWAY_TEST_IDLE=10000`` opens ten thousand idle connections where ``ulimit -n`` allows; CI opens a thousand.
"""

from __future__ import annotations

import asyncio
import os
import resource
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from tests.gateway.process import GatewayProcess
from tests.hostile import bodies, corpus
from tests.hostile.corpus import Case
from tests.hostile.test_corpus import port_of
from tests.hostile.wire import send

IDLE = int(os.environ.get("GATEWAY_TEST_IDLE", "1000"))
#: Kernel memory is not counted; a connection of ours costs about three kilobytes, one of aiohttp's about nine.
_PER_CONNECTION = 24 * 1024
#: Healthy requests of one window, one after the other with a pause: enough for a p99.
_WINDOW = 200
_WINDOWS = 3
#: Below this a scheduler's turn on a busy machine of two cores is all that is measured.
_NOISE_S = 0.010
_SLOW = 150
_CLIENTS = 3


def healthy(number: int) -> bytes:
    return corpus.sized(b"messageid=n-%d&phone=15550100200&status=2" % number)


@pytest.mark.slow
async def test_idle_connections_cost_little_and_leave_nothing(gateway: GatewayProcess) -> None:
    """Each costs some kilobytes, good requests go on, and when they leave the next as many cost nothing more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = IDLE + 500
    if soft < wanted:
        if hard != resource.RLIM_INFINITY and hard < wanted:
            pytest.skip(f"{IDLE} connections need ulimit -n {wanted}, {hard} is the most here")
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        resource.prlimit(gateway.pid, resource.RLIMIT_NOFILE, (wanted, hard))
    good = Case("good", (healthy(0),), frozenset({200}), must_answer=True)
    sizes = [gateway.resident_bytes()]
    for _ in range(3):
        async with idle(gateway, IDLE):
            assert [200] == (await send(port_of(gateway), good)).statuses
            sizes.append(gateway.resident_bytes())
    print(f"{IDLE} idle connections: {(sizes[1] - sizes[0]) / IDLE / 1024:.1f} KiB each, memory {sizes[1:]}")
    assert sizes[1] - sizes[0] < IDLE * _PER_CONNECTION + 8 * 2**20
    assert sizes[3] - sizes[1] < 8 * 2**20


@asynccontextmanager
async def idle(gateway: GatewayProcess, count: int) -> AsyncIterator[None]:
    """So many connections that say nothing."""
    gate = asyncio.Semaphore(200)
    writers: list[asyncio.StreamWriter] = []

    async def connect() -> None:
        async with gate:
            writers.append((await asyncio.open_connection("127.0.0.1", port_of(gateway)))[1])

    try:
        await asyncio.gather(*(connect() for _ in range(count)))
        yield
    finally:
        for writer in writers:
            writer.transport.abort()


@pytest.mark.quiet
@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_slow_senders_do_not_slow_the_others(gateway: GatewayProcess) -> None:
    """A hundred and fifty that send a byte now and then, heads and bodies; all are sent away in time."""
    ended: list[float] = []

    async def slow(number: int) -> None:
        data = healthy(10**6 + number)
        cut = 30 if number % 2 else len(data) - 10
        started = time.monotonic()
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(gateway))
        reading = asyncio.create_task(reader.read())
        with suppress(OSError):
            writer.write(data[:cut])
            for at in range(cut, cut + 9):
                await asyncio.wait([reading], timeout=0.5)
                if reading.done():
                    break
                writer.write(data[at : at + 1])
        await asyncio.gather(reading, return_exceptions=True)
        ended.append(time.monotonic() - started)
        writer.transport.abort()

    @asynccontextmanager
    async def attack() -> AsyncIterator[None]:
        tasks = [asyncio.create_task(slow(number)) for number in range(_SLOW)]
        yield
        await asyncio.gather(*tasks)

    await compare(gateway, attack)
    assert len(ended) == _SLOW * _WINDOWS
    assert max(ended) < 15


@pytest.mark.quiet
@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_hostile_requests_do_not_slow_the_others(gateway: GatewayProcess) -> None:
    """Some of every kind, all the time, except the largest bodies, which cost what they weigh; see below."""
    small = [case for case in [*corpus.cases(), *bodies.cases()] if sum(map(len, case.chunks)) < 20_000]

    @asynccontextmanager
    async def attack() -> AsyncIterator[None]:
        is_over = False

        async def attacker(first: int) -> None:
            at = first
            while not is_over:
                await send(port_of(gateway), small[at % len(small)])
                at += _CLIENTS
                await asyncio.sleep(0.02)  # an attacker's rate, not synchronisation

        tasks = [asyncio.create_task(attacker(number)) for number in range(_CLIENTS)]
        yield
        is_over = True
        await asyncio.gather(*tasks)

    await compare(gateway, attack)


async def compare(gateway: GatewayProcess, attack: object) -> None:
    """Quiet windows and attacked ones in turn, so that what else the machine does meets both; medians of their p99."""
    quiet: list[float] = []
    attacked: list[float] = []
    numbers = iter(range(10**9))
    await p99(gateway, numbers)
    for _ in range(_WINDOWS):
        quiet.append(await p99(gateway, numbers))
        async with attack():  # type: ignore[operator]
            attacked.append(await p99(gateway, numbers))
    before, under = statistics.median(quiet), statistics.median(attacked)
    print(f"p99 quiet {before * 1000:.1f} ms, attacked {under * 1000:.1f} ms")
    assert under < 2 * before + _NOISE_S, (quiet, attacked)


async def p99(gateway: GatewayProcess, numbers: object) -> float:
    """Of good requests on one connection, each a fresh event that waits for the disk."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port_of(gateway))
    took: list[float] = []
    for _ in range(_WINDOW):
        started = time.perf_counter()
        writer.write(healthy(next(numbers)))  # type: ignore[call-overload]
        answer = await reader.readuntil(b"success")
        took.append(time.perf_counter() - started)
        assert answer.startswith(b"HTTP/1.1 200 ")
        await asyncio.sleep(0.004)  # the rate of a quiet sender
    writer.close()
    return statistics.quantiles(took, n=100)[98]
