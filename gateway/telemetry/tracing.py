"""The trace of an event: ``traceparent``, and OpenTelemetry spans if an exporter is configured.

One span is made for each accepted callback, and one for each attempt. No data is stored for spans. The trace is the
caller's (``traceparent`` of the callback, which only this module parses) or is derived from the event's id. The id of
the callback's span is the first half of the event's id, so every attempt, in any process and at any time, has its
parent's id:

    caller's span → callback.received (id[:16]) → delivery.attempted (the span id in the webhook's ``traceparent``)

Spans are created afterwards, with times that are measured anyway, and passed to the SDK's batch processor, whose thread
sends them. The SDK's variables ``OTEL_EXPORTER_OTLP_ENDPOINT`` or ``OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`` enable them;
the extra ``otel`` is required.

Sources: W3C Trace Context, section 3.2 (version 00); OpenTelemetry specification, "OTLP exporter configuration" and
semantic conventions for messaging.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from gateway import __version__
from gateway.errors import ConfigError

TRACEPARENT: Final = "traceparent"
_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_VALID: Final = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_TRACE_ID: Final = re.compile(r"(?!0{32})[0-9a-f]{32}")


def valid_traceparent(value: str | None) -> str:
    """Return the value of a ``traceparent`` header; empty if it is missing or malformed."""
    return value if value is not None and _VALID.fullmatch(value) else ""


def caller(headers: Iterable[tuple[str, str]]) -> str:
    """Return the ``traceparent`` in the headers of an event; empty if it is missing or malformed."""
    return valid_traceparent(next((value for name, value in headers if name == TRACEPARENT), None))


def trace_id(event_id: str) -> str:
    """Return the trace id of an event: a gateway's id is a trace id, and another producer's id is hashed."""
    if _TRACE_ID.fullmatch(event_id):
        return event_id
    return hashlib.blake2b(event_id.encode(errors="replace"), digest_size=16).hexdigest()


class Traced(NamedTuple):
    """Ids of an event's trace, of its callback's span, and of the caller's span (empty without one)."""

    trace_id: str
    intake_span: str
    caller_span: str


def traced(event_id: str, headers: Iterable[tuple[str, str]]) -> Traced:
    """Return the ids of an event.

    Args:
        event_id: id of the event.
        headers: stored with the event.
    """
    own = trace_id(event_id)
    given = caller(headers)
    return Traced(given[3:35], own[:16], given[36:52]) if given else Traced(own, own[:16], "")


class Spans:
    """Creates and sends spans; see the module. Calls never block, except :meth:`close`.

    Args:
        processor: span processor of the SDK.
        resource: of the SDK.
    """

    def __init__(self, processor: Any, resource: Any) -> None:
        self._processor = processor
        self._resource = resource

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Spans | None:
        """Return spans as the SDK's variables configure them; None without an exporter.

        Raises:
            ConfigError: an exporter is configured, and its packages are not installed.
        """
        if not any(environ.get(name) for name in _ENDPOINTS) or environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
            return None
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ImportError as exc:
            raise ConfigError(
                [f"{_ENDPOINTS[1]} is set, but OpenTelemetry is not installed: pip install 'nxcloud-gateway[otel]'"]
            ) from exc
        name = environ.get("OTEL_SERVICE_NAME", "nxcloud-gateway")
        resource = Resource.create({"service.name": name, "service.version": __version__})
        return cls(BatchSpanProcessor(OTLPSpanExporter()), resource)

    def received(
        self, callback: str, event_id: str, headers: Iterable[tuple[str, str]], started: float, ended: float
    ) -> None:
        """Create the span of a stored event.

        Args:
            callback: name of the callback.
            event_id: id of the event.
            headers: stored with the event.
            started: time of arrival, Unix seconds.
            ended: time of the answer, Unix seconds.
        """
        where = traced(event_id, headers)
        self._end(
            "callback.received",
            where.trace_id,
            where.intake_span,
            where.caller_span,
            started,
            ended,
            is_server=True,
            error="",
            attributes={"messaging.message.id": event_id, "gateway.callback": callback},
        )

    def attempted(
        self,
        subscriber: str,
        event_id: str,
        headers: Iterable[tuple[str, str]],
        span_id: str,
        ended: float,
        duration_s: float,
        outcome: str,
        result: str,
    ) -> None:
        """Create the span of an attempt.

        Args:
            subscriber: name of the subscriber.
            event_id: id of the event.
            headers: stored with the event.
            span_id: span id in the ``traceparent`` of the webhook.
            ended: end of the attempt, Unix seconds.
            duration_s: duration of the attempt, seconds.
            outcome: such as ``delivered``.
            result: status or kind of error.
        """
        where = traced(event_id, headers)
        self._end(
            "delivery.attempted",
            where.trace_id,
            span_id,
            where.intake_span,
            ended - duration_s,
            ended,
            is_server=False,
            error="" if outcome == "delivered" else result,
            attributes={
                "messaging.message.id": event_id,
                "gateway.subscriber": subscriber,
                "gateway.outcome": outcome,
                "gateway.result": result,
            },
        )

    def close(self) -> None:
        """Send the waiting spans, for some seconds at most. It blocks: call it from a thread."""
        self._processor.shutdown()

    def _end(
        self,
        name: str,
        trace_id: str,
        span_id: str,
        parent_id: str,
        started: float,
        ended: float,
        *,
        is_server: bool,
        error: str,
        attributes: dict[str, str],
    ) -> None:
        from opentelemetry.sdk.trace import ReadableSpan
        from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

        def context(number: str, *, is_remote: bool) -> SpanContext:
            return SpanContext(int(trace_id, 16), int(number, 16), is_remote, TraceFlags(TraceFlags.SAMPLED))

        self._processor.on_end(
            ReadableSpan(
                name,
                context=context(span_id, is_remote=False),
                parent=context(parent_id, is_remote=True) if parent_id else None,
                resource=self._resource,
                attributes=attributes,
                kind=SpanKind.SERVER if is_server else SpanKind.CLIENT,
                status=Status(StatusCode.ERROR, error) if error else Status(StatusCode.UNSET),
                start_time=int(started * 1e9),
                end_time=int(ended * 1e9),
            )
        )
