"""Volume: as many distinct events delivered as callbacks sent, in memory that does not grow with them."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import orjson
import pytest

from gateway.config.settings import FAMILIES
from tests.effort import IS_NIGHTLY
from tests.gateway.conftest import MakeGateway, MakeSubscriber, to
from tests.gateway.process import GatewayProcess

#: 100,000 by hand (``GATEWAY_TEST_CALLBACKS=100000 pytest -s tests/gateway/test_volume.py``); less on CI.
CALLBACKS = int(os.environ.get("GATEWAY_TEST_CALLBACKS") or (10_000 if IS_NIGHTLY else 6_000))
#: Of which the first two fill the windows of fixed size.
ROUNDS = 10 if IS_NIGHTLY else 6
MIB = 1024 * 1024


async def send(running: GatewayProcess, callback: str, count: int, *options: str) -> dict[str, object]:
    """``gateway send`` to its end; its summary."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", "send", callback, "--count", str(count), "--json",
        "-c", str(running.path), *options, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    found: dict[str, object] = orjson.loads(out.splitlines()[-1])
    return found


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_every_callback_sent_is_delivered_and_memory_stays_flat(
    gateway: MakeGateway, subscriber: MakeSubscriber
) -> None:
    """Round by round; after the first two, which fill the fixed-size windows, memory grows by no more than noise."""
    receiver = await subscriber()
    running = await gateway(
        ingest={"port": 0, "dedup_window": CALLBACKS // ROUNDS},
        subscribers=[to(receiver, "all")],
    )
    resident: list[int] = []
    for number in range(ROUNDS):
        await send(running, "sms-dr", CALLBACKS // ROUNDS, "--seed", str(number), "--concurrency", "64")
        resident.append(running.resident_bytes())
    await receiver.until(lambda: len(receiver.ids) >= CALLBACKS, 120)
    print(f"{CALLBACKS} callbacks, distinct delivered {len(receiver.ids)}, resident MiB", [r // MIB for r in resident])
    assert CALLBACKS == len(receiver.ids)
    assert CALLBACKS == sum(receiver.ids.values())
    assert resident[-1] - resident[1] < 32 * MIB


async def test_repeats_on_request_are_not_stored_twice(gateway: MakeGateway, subscriber: MakeSubscriber) -> None:
    """With a fifth of the requests repeated, each is answered with success and each event arrives once."""
    receiver = await subscriber()
    running = await gateway(subscribers=[to(receiver, "all")])
    summary = await send(running, "sms-dr", 500, "--repeat-rate", "0.2", "--seed", "3")
    repeats = summary["repeats"]
    assert isinstance(repeats, int)
    assert repeats > 50
    await receiver.until(lambda: len(receiver.ids) >= 500 - repeats)
    assert await running.terminate() == 0
    assert 500 - repeats == sum(receiver.ids.values())


async def test_mix_of_every_callback_is_accepted_and_delivered(
    gateway: MakeGateway, subscriber: MakeSubscriber, tmp_path: Path
) -> None:
    """All callbacks in the platform's own layouts: not one is refused, and only a kind that was made up is drift."""
    receiver = await subscriber()
    running = await gateway(subscribers=[to(receiver, "all", topics=list(FAMILIES))])
    await send(running, "all", 420, "--seed", "1")
    await receiver.until(lambda: len(receiver.ids) >= 350)
    assert await running.terminate() == 0
    names = {line["event"] for line in running.lines}
    assert "callback.rejected" not in names
    drift = {line["what"] for line in running.lines if line["event"] == "callback.drifted"}
    assert drift <= {"kind:ephemeral_poll", "field:messages.ephemeral_poll"}
