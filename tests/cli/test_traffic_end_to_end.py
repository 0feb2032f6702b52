"""``send`` and ``listen`` over real sockets: what is counted is what happened."""

from __future__ import annotations

import asyncio
import base64
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from itertools import islice
from random import Random
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from gateway.callbacks import CALLBACKS
from gateway.cli.traffic import _path_of, _prepared
from gateway.config.loading import loads
from gateway.signing import Signer
from gateway.traffic.client import GatewayAnswer, Target
from gateway.traffic.load import LoadProfile, LoadRequest, LoadResult, drive, is_success, percentile
from gateway.traffic.receiver import Delivery, Receiver, ReceiverBehaviour
from gateway.traffic.simulator import mixed

SECRET = "whsec_" + base64.b64encode(b"k" * 24).decode()
SETTINGS = loads("ingest: {callbacks: {whatsapp: {auth: {signature: {secret: s3cret}}, path: /wa}}}", {})


@asynccontextmanager
async def serving(server: Any) -> AsyncIterator[Target]:
    runner = web.ServerRunner(server)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield Target.parse(f"http://127.0.0.1:{runner.addresses[0][1]}")
    finally:
        await runner.cleanup()


def rows(target: Target, *names: str) -> Any:
    rng = Random(5)
    return mixed([_prepared(_path_of(name, SETTINGS, None, None), SETTINGS, target, rng, None) for name in names], rng)


def answering(status: int = 200, **bodies: str) -> tuple[web.Server, Counter[str]]:  # type: ignore[type-arg]
    """A server that answers as the platform wants, and counts paths."""
    seen: Counter[str] = Counter()

    async def handle(request: web.BaseRequest) -> web.Response:
        await request.read()
        seen[request.path] += 1
        return web.Response(status=status, text=bodies.get("body", "success"))

    return web.Server(handle), seen


async def test_every_request_is_sent_once_and_counted() -> None:
    """As many as asked for, over all connections."""
    server, seen = answering()
    async with serving(server) as target:
        result = LoadResult()
        await drive(target, rows(target, "email-dr"), LoadProfile(500, 16), Random(1), result)
    assert {"/callbacks/email-dr": 500} == seen
    assert (500, 500, 0, {"200": 500}) == (result.sent, result.succeeded, result.failed, result.by_status)
    assert (500, True) == (len(result.latencies_s), min(result.latencies_s) > 0)


@pytest.mark.parametrize(("status", "body"), [(200, "error"), (503, "success"), (200, '{"code":0}')])
async def test_what_is_not_the_platforms_word_is_a_failure(status: int, body: str) -> None:
    """The status alone does not count, nor the body alone."""
    server, _ = answering(status, body=body)
    async with serving(server) as target:
        result = LoadResult()
        await drive(target, rows(target, "email-dr"), LoadProfile(20, 4), Random(1), result)
    assert (20, 0, 20) == (result.sent, result.succeeded, result.failed)
    assert [20] == list(result.refused.values())


async def test_repeats_are_earlier_requests_byte_for_byte() -> None:
    """Their number is told, and the rest are all different."""
    bodies: list[bytes] = []

    async def handle(request: web.BaseRequest) -> web.Response:
        bodies.append(await request.read())
        return web.Response(text="success")

    async with serving(web.Server(handle)) as target:
        result = LoadResult()
        await drive(target, rows(target, "email-dr"), LoadProfile(400, 8, repeat_rate=0.25), Random(1), result)
    assert 400 == len(bodies)
    assert 400 - result.repeats == len(set(bodies))
    assert 50 < result.repeats < 150


async def test_rate_is_kept_and_latency_counts_from_the_due_time() -> None:
    """A stall shows in the latency of everything that was due meanwhile (coordinated omission)."""
    release = asyncio.Event()
    served = 0

    async def handle(request: web.BaseRequest) -> web.Response:
        nonlocal served
        await request.read()
        served += 1
        if served == 1:
            await release.wait()
        return web.Response(text="success")

    async with serving(web.Server(handle)) as target:
        result = LoadResult()
        loop = asyncio.get_running_loop()
        loop.call_later(0.3, release.set)
        started = time.perf_counter()
        await drive(target, rows(target, "email-dr"), LoadProfile(20, 1, rate_per_s=100.0), Random(1), result)
        took_s = time.perf_counter() - started
    assert took_s >= 0.3
    late = [latency for latency in result.latencies_s if latency > 0.1]
    assert len(late) >= 10


async def test_connection_that_was_closed_is_opened_again() -> None:
    """A server may close after each answer."""

    async def handle(request: web.BaseRequest) -> web.Response:
        await request.read()
        response = web.Response(text="success")
        response.force_close()
        return response

    async with serving(web.Server(handle)) as target:
        result = LoadResult()
        await drive(target, rows(target, "email-dr"), LoadProfile(30, 3), Random(1), result)
    assert 30 == result.succeeded


async def test_chunked_answers_are_read() -> None:
    """A proxy may send them."""

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        await request.read()
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        await response.write(b"suc")
        await response.write(b"cess")
        await response.write_eof()
        return response

    async with serving(web.Server(handle)) as target:
        result = LoadResult()
        await drive(target, rows(target, "email-dr"), LoadProfile(10, 2), Random(1), result)
    assert 10 == result.succeeded


async def test_configured_path_and_signature_are_used() -> None:
    """A path of one's own gets its requests, signed."""
    found: list[tuple[str, str | None]] = []

    async def handle(request: web.BaseRequest) -> web.Response:
        await request.read()
        found.append((request.path, request.headers.get("sign")))
        return web.Response(text='{"code":0,"message":"success"}')

    async with serving(web.Server(handle)) as target:
        await drive(target, rows(target, "whatsapp"), LoadProfile(10, 1), Random(1), LoadResult())
    assert {"/wa"} == {path for path, _ in found}
    assert all(sign is not None and len(sign) == 32 for _, sign in found)


def test_success_is_the_platforms_word_or_callbots_code() -> None:
    """Callbot signs its answers, so they differ; its code tells."""
    judge = is_success(b"success")
    assert judge(GatewayAnswer(200, b"success"))
    assert judge(GatewayAnswer(200, b'{"retCode":0,"retMsg":"success","responseID":"x"}'))
    for answer in (
        GatewayAnswer(200, b"error"),
        GatewayAnswer(400, b"success"),
        GatewayAnswer(200, b'{"retCode":6}'),
        GatewayAnswer(200, b"[0]"),
    ):
        assert not judge(answer)


def test_percentiles_are_of_the_nearest_rank() -> None:
    """Never a value that did not occur."""
    values = [float(n) for n in range(1, 101)]
    assert (50.0, 99.0, 100.0) == (percentile(values, 0.5), percentile(values, 0.99), percentile(values, 1.0))
    assert 0.0 == percentile([], 0.5)
    assert 7.0 == percentile([7.0], 0.5)


@pytest.mark.parametrize("name", CALLBACKS)
def test_every_callback_can_be_prepared(name: str) -> None:
    """For the command line: each has a path, credentials and a judge."""
    for one in islice(rows(Target.parse("http://127.0.0.1:1"), name), 5):
        assert isinstance(one, LoadRequest)
        assert one.callback == name


# -- listen -------------------------------------------------------------------------------------------------------


def webhook(event_id: str, body: bytes, secret: str = SECRET, now: int | None = None) -> dict[str, str]:
    stamp = now if now is not None else int(datetime.now(UTC).timestamp())
    return {
        "webhook-id": event_id,
        "webhook-timestamp": str(stamp),
        "webhook-signature": Signer([secret]).sign(event_id, stamp, body),
    }


async def deliver(target: Target, *deliveries: tuple[str, dict[str, str]]) -> list[int]:
    async with aiohttp.ClientSession() as session:
        statuses = []
        for event_id, headers in deliveries:
            body = b'{"id":"%s"}' % event_id.encode()
            async with session.post(str(target), data=body, headers=headers or {"webhook-id": event_id}) as response:
                statuses.append(response.status)
        return statuses


async def test_listener_counts_distinct_events_and_repeats() -> None:
    """By webhook-id."""
    receiver = Receiver(ReceiverBehaviour(), Random(1))
    async with serving(receiver.server()) as target:
        assert [204, 204, 204] == await deliver(target, ("a", {}), ("b", {}), ("a", {}))
        await asyncio.wait_for(receiver.accepted(2), 5)
    assert {"accepted": 2, "repeated": 1} == receiver.counts.outcomes
    assert 2 == receiver.counts.distinct


async def test_listener_checks_signatures() -> None:
    """Right, of another secret, too old, and none at all."""
    told: list[Delivery] = []
    receiver = Receiver(ReceiverBehaviour(secrets=(SECRET,)), Random(1), told.append)
    body = b'{"id":"a"}'
    other = "whsec_" + base64.b64encode(b"o" * 24).decode()
    async with serving(receiver.server()) as target:
        statuses = await deliver(
            target,
            ("a", webhook("a", body)),
            ("a", webhook("a", body, other)),
            ("a", webhook("a", body, now=1_000_000_000)),
            ("a", {}),
        )
    assert [204, 401, 401, 401] == statuses
    assert ["no signature matches", "webhook-timestamp is off by more than 300 s"] == [one.reason for one in told[1:3]]
    assert 1 == receiver.counts.distinct


async def test_refused_delivery_is_no_repeat_when_it_comes_again() -> None:
    """A retry after a failure of ours is the gateway doing its work."""
    receiver = Receiver(ReceiverBehaviour(status=503, fail_rate=1.0), Random(1))
    async with serving(receiver.server()) as target:
        assert [503, 503] == await deliver(target, ("a", {}), ("a", {}))
    assert {"refused": 2} == receiver.counts.outcomes
    assert 0 == receiver.counts.distinct


async def test_share_of_failures_is_about_what_was_asked_for() -> None:
    """And the same for the same seed."""
    receiver = Receiver(ReceiverBehaviour(fail_rate=0.3), Random(1))
    async with serving(receiver.server()) as target:
        await deliver(target, *[(f"e{n}", {}) for n in range(300)])
    assert 60 < receiver.counts.outcomes["refused"] < 120


async def test_listener_survives_what_is_no_event() -> None:
    """No JSON, no id, another method."""
    told: list[Delivery] = []
    receiver = Receiver(ReceiverBehaviour(), Random(1), told.append)
    async with serving(receiver.server()) as target, aiohttp.ClientSession() as session:
        async with session.post(str(target), data=b"\xff\x00") as response:
            assert response.status == 204
        async with session.get(str(target)) as response:
            assert "POST webhooks here" in await response.text()
    assert [None] == [one.event for one in told]
