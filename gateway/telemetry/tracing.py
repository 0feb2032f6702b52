"""OpenTelemetry spans, where an exporter is configured: one for a callback taken in, one for each attempt to deliver.

Nothing is stored for it. The trace is the caller's (``traceparent`` of the callback) or is named by the event's id; the
span of intake is named by the first half of the id, so every attempt, in any process and at any time, knows its parent:

    caller's span → callback.received (id[:16]) → delivery.attempted (the span id in the webhook's ``traceparent``)

Spans are made after the fact, with the times that were measured anyway, and handed to the SDK's batch processor, whose
thread sends them. Switched on by the SDK's own variables, ``OTEL_EXPORTER_OTLP_ENDPOINT`` or
``OTEL_EXPORTER_OTLP_TRACES_ENDPOINT``; needs the extra ``otel``.

Sources: OpenTelemetry specification, "OTLP exporter configuration" and semantic conventions for messaging; W3C Trace
Context.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from gateway import __version__
from gateway.errors import ConfigError
from gateway.telemetry.traceparent import caller, trace_id

_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


class Traced(NamedTuple):
    """Where an event's spans hang: the trace, the span of intake, and the caller's span (empty: there was none)."""

    trace_id: str
    intake_span: str
    caller_span: str


def traced(event_id: str, headers: Iterable[tuple[str, str]]) -> Traced:
    """From an event's id and what travels beside it."""
    own = trace_id(event_id)
    given = caller(headers)
    return Traced(given[3:35], own[:16], given[36:52]) if given else Traced(own, own[:16], "")


class Spans:
    """Makes spans and sends them; see the module. Calls never block."""

    def __init__(self, processor: Any, resource: Any) -> None:
        self._processor = processor
        self._resource = resource

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Spans | None:
        """Spans as the SDK's variables ask for them; None where none of them is set.

        Raises:
            ConfigError: an exporter is configured, and the packages for it are not installed.
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
        """A callback's event was stored. Times are Unix seconds."""
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
        """An attempt ended. ``span_id`` is the one its ``traceparent`` told; ``result`` a status or a kind of error."""
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
        """Send what waits, for some seconds at the most. Blocks: call it from a thread."""
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
