"""Hostile requests get a clear no, or a close; never a 5xx, never another request than the one that was framed."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from tests.gateway.process import GatewayProcess
from tests.hostile import bodies, corpus
from tests.hostile.corpus import SMUGGLED, Case
from tests.hostile.wire import Came, send

CASES = [*corpus.cases(), *bodies.cases()]


def problem(case: Case, came: Came) -> str | None:
    """What is wrong with the answers to one case."""
    if any(status >= 500 for status in came.statuses):
        return f"{case.name}: {came.statuses}"
    if not set(came.statuses) <= case.allowed:
        return f"{case.name}: {came.statuses}, allowed {sorted(case.allowed)}"
    if not came.statuses and (case.must_answer or not came.is_closed):
        return f"{case.name}: no answer{'' if came.is_closed else ', and not closed'}"
    return None


def port_of(gateway: GatewayProcess) -> int:
    return int(gateway.config["ingest"]["port"])


def stored(folder: Path) -> list[bytes]:
    """The records of every segment, as bytes."""
    with closing(sqlite3.connect(folder / "data" / "journal.sqlite")) as db:
        return [records for (records,) in db.execute("SELECT records FROM segment")]


def test_names_are_unique() -> None:
    assert [] == [name for name, count in Counter(case.name for case in CASES).items() if count > 1]


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_every_case_gets_a_clear_answer_and_nothing_is_smuggled(gateway: GatewayProcess) -> None:
    """All cases, thirty-two at a time, three times; a good request behind; no stack trace in the log, and memory stays.

    The first rounds find memory at its highest: a batch of ten thousand items alone takes a hundred megabytes for a
    moment. What a third round adds would be added by every one that follows.
    """
    gate = asyncio.Semaphore(32)

    async def one(case: Case) -> str | None:
        async with gate:
            return problem(case, await send(port_of(gateway), case))

    for _ in range(3):
        before = gateway.resident_bytes()
        problems = [found for found in await asyncio.gather(*map(one, CASES)) if found]
        assert [] == problems
    good = Case(
        "good", (corpus.sized(b"messageid=good&phone=15550100200&status=2"),), frozenset({200}), must_answer=True
    )
    assert problem(good, await send(port_of(gateway), good)) is None
    grown = gateway.resident_bytes() - before
    assert 0 == await gateway.terminate()
    assert "" == "\n".join(str(line)[-600:] for line in gateway.lines if "Traceback" in str(line))
    records = stored(gateway.folder)
    assert any(b"good" in record for record in records)
    assert [] == [record for record in records if SMUGGLED.encode() in record]
    print(f"{len(CASES)} cases, memory {before / 2**20:.0f} MiB, grew by {grown / 2**20:.1f} MiB in the third round")
    assert before < 512 * 2**20
    assert grown < 24 * 2**20


async def test_a_sender_that_closes_its_side_behind_a_request_is_answered(gateway: GatewayProcess) -> None:
    """A half-closed connection is a whole request (RFC 9293, section 3.6): it is answered, then closed."""
    body = b"messageid=half&phone=15550100200&status=2"
    came = await send(port_of(gateway), Case("half", (corpus.sized(body),), frozenset({200}), ends=True))
    assert ([200], True) == (came.statuses, came.is_closed)
