"""Spans as a collector gets them: a real one in miniature, speaking OTLP over HTTP."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from gateway.errors import ConfigError
from gateway.telemetry.tracing import Spans, traced
from tests.gateway.conftest import MakeSubscriber, to
from tests.gateway.process import GatewayProcess

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def test_nothing_is_traced_unless_an_exporter_is_configured() -> None:
    assert Spans.from_environment({}) is None
    assert Spans.from_environment({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_SDK_DISABLED": "true"}) is None


def test_missing_packages_are_one_clear_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "opentelemetry.sdk.trace.export", None)
    with pytest.raises(ConfigError, match=r"pip install 'nxcloud-gateway\[otel\]'"):
        Spans.from_environment({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"})


def test_trace_is_the_callers_or_the_events_own() -> None:
    event_id = "f" * 16 + "e" * 16
    assert traced(event_id, [("traceparent", f"00-{TRACE}-{CALLER}-01")]) == (TRACE, "f" * 16, CALLER)
    assert traced(event_id, []) == (event_id, "f" * 16, "")


async def test_collector_gets_one_tree_from_the_caller_to_each_attempt(
    tmp_path: Path, subscriber: MakeSubscriber, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Caller → callback.received → delivery.attempted, whose span id is the one in the webhook's ``traceparent``."""
    found: dict[str, object] = {}
    has_both = asyncio.Event()

    async def collect(request: web.Request) -> web.Response:
        message = ExportTraceServiceRequest.FromString(await request.read())
        for resource in message.resource_spans:
            for scope in resource.scope_spans:
                found.update({span.name: span for span in scope.spans})
        if len(found) == 2:
            has_both.set()
        return web.Response()

    app = web.Application()
    app.router.add_post("/v1/traces", collect)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{runner.addresses[0][1]}")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
    receiver = await subscriber()
    gateway = GatewayProcess(tmp_path, {"subscribers": [to(receiver, "all")]})
    await gateway.start()
    try:
        async with aiohttp.ClientSession() as session:
            headers = {"traceparent": f"00-{TRACE}-{CALLER}-01"}
            url = f"{gateway.url}/callbacks/sms-dr"
            async with session.post(url, data=b"messageid=m-1&status=2", headers=headers) as answer:
                assert answer.status == 200
        async with asyncio.timeout(30):
            await has_both.wait()
    except TimeoutError:
        raise AssertionError((list(found), gateway.lines)) from None
    finally:
        assert await gateway.terminate() == 0
        await runner.cleanup()
    received, attempted = found["callback.received"], found["delivery.attempted"]
    event_id = next(iter(receiver.ids))
    assert (TRACE, CALLER) == (received.trace_id.hex(), received.parent_span_id.hex())  # type: ignore[attr-defined]
    assert event_id[:16] == received.span_id.hex() == attempted.parent_span_id.hex()  # type: ignore[attr-defined]
    told = receiver.headers[0]["traceparent"].split("-")
    assert [TRACE, attempted.span_id.hex()] == told[1:3]  # type: ignore[attr-defined]
