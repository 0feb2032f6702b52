"""Nothing of a person stands in the log or in a metric, wherever a sender puts it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, urlencode

import orjson
import pytest
from prometheus_client import generate_latest
from structlog.testing import capture_logs

from gateway.callbacks import CALLBACKS, CallbackRequest, DecodeContext
from gateway.callbacks.credentials import Credentials
from gateway.callbacks.generic import DecodedEvent, DecoderCallback, GenericCallback
from gateway.callbacks.jsontext import JsonPath
from gateway.errors import CallbackRejected
from gateway.ingest.accept import Acceptor, Pending
from gateway.ingest.endpoints import Decodes, Endpoint
from gateway.telemetry import redaction
from gateway.telemetry.metrics import METRICS
from tests.callbacks.samples import Sample, all_samples
from tests.ingest.wire import ListLog
from tests.rows import rows

NOW = datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC)
PLANTED = (
    "+6281122334455",
    "6281122334455",
    "62-811-2233-4455",
    "(0811) 2233 4455",
    "budi.santoso@example.com",
    "Budi Santoso",
    "Halo, kode Anda 4711",
    "Привет, 你好",
)
SAMPLES = all_samples()


def replaced(value: Any, planted: str) -> Iterator[Any]:
    """The value with one leaf, name or object changed so that it holds the planted text, in each place in turn."""
    yield planted
    yield [planted]
    yield {planted: planted}
    if isinstance(value, dict):
        yield {**value, planted: "1"}
        for name, inner in value.items():
            rest = {other: kept for other, kept in value.items() if other != name}
            yield {**rest, planted: inner}
            for changed in replaced(inner, planted):
                yield {**value, name: changed}
    elif isinstance(value, list):
        for at, inner in enumerate(value[:3]):
            for changed in replaced(inner, planted):
                yield [*value[:at], changed, *value[at + 1 :]]


def everywhere(value: Any, planted: str) -> Any:
    """The value with the planted text in place of all leaves."""
    if isinstance(value, dict):
        return {name: everywhere(inner, planted) for name, inner in value.items()}
    if isinstance(value, list):
        return [everywhere(inner, planted) for inner in value]
    return planted


def hostile(sample: Sample, planted: str) -> Iterator[tuple[bytes, bytes]]:
    """Query and body of the sample with the planted text in one place each."""
    query, body = sample.request.query, sample.request.body
    text = planted.encode()
    yield query, body + text
    yield query, text + body
    yield query, body[: len(body) // 2] + text
    yield query + b"&" + text + b"=" + text, body
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError:
        fields = None
    if fields is not None:
        for changed in (*replaced(fields, planted), everywhere(fields, planted)):
            yield query, orjson.dumps(changed)
        return
    pairs = parse_qsl((query or body).decode("utf-8", "replace"), keep_blank_values=True)
    for at, (name, value) in enumerate(pairs):
        for pair in ((name, planted), (planted, value)):
            made = urlencode([*pairs[:at], pair, *pairs[at + 1 :]]).encode()
            yield (made, body) if query else (query, made)
    yield (b"", urlencode([(name, planted) for name, _ in pairs]).encode())


class Capture:
    """An acceptor without credentials, and all that it wrote in the log."""

    def __init__(self) -> None:
        self.lines: list[Any] = []
        self._acceptor = Acceptor(ListLog(), clock=lambda: NOW, max_waiting=10**6)

    async def take(self, callback: Decodes, query: bytes, body: bytes, **headers: str) -> int:
        request = CallbackRequest("POST", f"/callbacks/{callback.name}", query, headers, body, NOW)
        with capture_logs() as lines:
            taken = self._acceptor.take(Endpoint(request.path, callback, DecodeContext(), Credentials()), request)
            if isinstance(taken, Pending):
                self._acceptor.metrics.count(callback.name, taken.outcome)
                await taken.turn.wait()
        self.lines += lines
        return taken.answer.status if isinstance(taken, Pending) else taken.status

    def shown(self) -> str:
        """The text of all lines and metrics."""
        lines = b"\n".join(orjson.dumps(line, default=str) for line in self.lines)
        return (lines + generate_latest(METRICS.registry)).decode()


def leaked(shown: str) -> set[str]:
    """What of the planted texts is shown, in any way of writing it in JSON."""
    return {text for text in PLANTED if text in shown or orjson.dumps(text).decode()[1:-1] in shown}


@pytest.mark.parametrize("callback", sorted(CALLBACKS))
async def test_no_place_of_a_callback_reaches_the_log(callback: str) -> None:
    """Each value and each name of every sample, unknown fields, wrong types and broken bodies."""
    capture = Capture()
    count = 0
    for at, sample in enumerate(sample for sample in SAMPLES if sample.callback == callback):
        for planted in PLANTED[at % 3 :: 3]:
            for query, body in hostile(sample, planted):
                await capture.take(CALLBACKS[callback], query, body, **sample.request.headers)
                count += 1
    assert count > 50
    assert {"callback.drifted", "callback.rejected"} & {line["event"] for line in capture.lines}
    assert set() == leaked(capture.shown())


async def test_senders_of_ones_own_reach_no_log_either() -> None:
    """Neither by their fields nor by what a decoder of somebody else's says of them."""

    def refusing(request: CallbackRequest, _: DecodeContext) -> list[DecodedEvent]:
        raise CallbackRejected(f"what is {request.body.decode()}?", f"items[0].{request.body.decode()}")

    def failing(request: CallbackRequest, _: DecodeContext) -> list[DecodedEvent]:
        raise KeyError(request.body.decode())

    capture = Capture()
    for planted in PLANTED:
        for callback in (
            DecoderCallback("own-1", refusing, "own.topic"),
            DecoderCallback("own-2", failing, "own.topic"),
            GenericCallback("own-3", "json", "own.topic", JsonPath("$.id"), type="", id=None, time=None),
        ):
            assert 400 == await capture.take(callback, b"", planted.encode())
        body = orjson.dumps({"id": planted, planted: planted})
        assert 200 == await capture.take(callback, b"", body)
    assert set() == leaked(capture.shown())


@rows("text", PLANTED)
def test_what_is_personal_is_shown_by_kind_and_length(text: str) -> None:
    """Also inside a path, a message of a library and an id of another producer."""
    assert redaction.code(text) in (f"<text, {len(text)} characters>", f"<number, {len(text)} characters>")
    assert text not in redaction.path(f"statuses[0].{text}.id")
    assert text not in redaction.fault(KeyError(text))
    assert text not in redaction.fault(ValueError(f"invalid literal for int() with base 10: {text!r}"))
    assert text not in redaction.event_id(text)


@rows(
    "code", ["DELIVRD", "2", "user_hangup", "v1.2", "key.updated", "missed-call", "E:404", "131047", "0099", "x" * 40]
)
def test_a_code_is_shown(code: str) -> None:
    """The codes that platforms use, but for those of six digits and more."""
    is_code = code != "131047"
    assert (code if is_code else "<number, 6 characters>") == redaction.code(code)


def test_trace_shows_lines_of_code_and_no_value() -> None:
    """Of the exception, of what it was raised from and of what it interrupted."""
    planted = "Budi Santoso"
    try:
        try:
            int(planted)
        except ValueError as exc:
            raise KeyError(planted) from exc
    except KeyError as exc:
        text = redaction.trace((type(exc), exc, exc.__traceback__))
    assert planted not in text
    assert "int(planted)" in text
    assert text.index("ValueError: invalid literal for int() with base 10") < text.index("KeyError: '<text, 12 charact")
