"""Work on a request is bounded by its size: every decoder, every regular expression, and what is kept of rejections."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import orjson
import pytest

import gateway
from gateway.callbacks import CALLBACKS, CallbackRequest, DecodeContext
from gateway.callbacks.credentials import Credentials
from gateway.callbacks.generic import DecodedEvent, DecoderCallback, GenericCallback, JsonPath
from gateway.callbacks.rejected import rejected_event
from gateway.errors import CallbackRejected
from gateway.ingest.accept import Prepared, prepare
from gateway.ingest.endpoints import Decodes, Endpoint
from tests.hostile.shapes import SIZES, shapes
from tests.pace import best
from tests.rows import rows

NOW: Final = datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC)
#: CPU seconds that 64 KiB may cost on the reference machine, see :mod:`tests.pace`. A busy machine counts some of the
#: others' time as ours: the best of some runs.
_MOST_S: Final = 0.05
#: 16 times the size may cost so many times as much; the square of 16 is 256.
_MOST_RATIO: Final = 64
#: The others read a body by the same functions, and make one event of it.
_AT_ALL_SIZES: Final = ("whatsapp", "sms-dr", "own-json")
#: Shorter times are noise.
_LEAST_S: Final = 0.002

GENERIC: Final[tuple[Decodes, ...]] = (
    GenericCallback("own-json", "json", "own.topic", JsonPath("$.id")),
    GenericCallback("own-form", "form", "own.topic", JsonPath("$.messageid")),
)
EVERY: Final[dict[str, Decodes]] = {**CALLBACKS, **{callback.name: callback for callback in GENERIC}}
TOKENS: Final = Credentials(("secret-token-1", "aaaaaaaaaaaaaaab", "%41%41%41%41%41"))


def endpoint(callback: Decodes, credentials: Credentials = TOKENS, **bounds: int) -> Endpoint:
    context = DecodeContext(credential_fields=credentials.fields, **bounds)
    return Endpoint(f"/callbacks/{callback.name}", callback, context, credentials)


def request(body: bytes, path: str = "/callbacks/x") -> CallbackRequest:
    return CallbackRequest("POST", path, b"", {"token": "secret-token-1"}, body, NOW)


def slow(work: Callable[[bytes], Any], name: str, sizes: Sequence[int] = SIZES) -> list[str]:
    """What is wrong with the costs of one shape at all sizes."""
    costs: list[float] = []
    for size in sizes:
        body = shapes_of(size)[name]
        most = _MOST_S if size <= 64 * 1024 else _MOST_RATIO * max(costs[-1], _LEAST_S)
        costs.append(best(lambda body=body: work(body), most))  # type: ignore[misc]
        if costs[-1] >= most:
            return [f"{name} of {size} bytes: {costs[-1] * 1000:.0f} ms, before {[f'{c * 1000:.1f}' for c in costs]}"]
    return []


_made: dict[int, dict[str, bytes]] = {}


def shapes_of(size: int) -> dict[str, bytes]:
    if size not in _made:
        _made[size] = shapes(size)
    return _made[size]


NAMES: Final = tuple(shapes(1024))


def test_shapes_have_their_sizes() -> None:
    """Each is about as large as it says, and none is larger."""
    for size in SIZES:
        for name, body in shapes_of(size).items():
            assert size * 0.4 < len(body) <= size, (name, size)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("callback", EVERY.values(), ids=EVERY)
def test_every_decoder_is_linear(callback: Decodes) -> None:
    """From bytes to the events that are stored, rejections included: 64 KiB below 50 ms of CPU, and linear.

    A body of 1 MiB becomes at most a thousand events and 8 MiB of them, or one rejection.
    """
    row = endpoint(callback)

    def work(body: bytes) -> None:
        prepared = prepare(row, request(body))
        assert 1 <= len(prepared.events) <= 1000
        assert sum(map(len, prepared.values)) <= 8 * 1024 * 1024
        assert len(prepared.events) == 1 or prepared.outcome == "accepted"

    sizes = SIZES if callback.name in _AT_ALL_SIZES else SIZES[:-1]
    assert [] == [text for name in NAMES for text in slow(work, name, sizes)]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_every_decoder_is_linear_in_the_query() -> None:
    """A query is bounded by the request line (8 KiB), and read by the same functions."""
    row = endpoint(CALLBACKS["sms-dr"])
    for name in NAMES:
        query = shapes_of(16 * 1024)[name][:8192]
        took = best(lambda query=query: prepare(row, request(b"")._replace(query=query)), _MOST_S)  # type: ignore[misc]
        assert took < _MOST_S, name


def patterns() -> Iterator[tuple[str, re.Pattern[Any]]]:
    """Every regular expression that a module of the gateway holds."""
    for info in pkgutil.walk_packages(gateway.__path__, "gateway."):
        if info.name.endswith("__main__"):
            continue
        module = importlib.import_module(info.name)
        for name, value in vars(module).items():
            if isinstance(value, re.Pattern):
                yield f"{info.name}.{name}", value


PATTERNS: Final = dict(patterns())


SOURCES: Final = "\n".join(path.read_text() for path in Path(gateway.__file__).parent.rglob("*.py"))


def used(name: str) -> set[str]:
    """How the code uses a pattern: anchored, or looked for at each place. Of one that it hands on, all ways."""
    found = set(re.findall(rf"\b{name.rpartition('.')[2]}\.(\w+)\(", SOURCES))
    return found or {"match", "fullmatch", "finditer"}


def test_patterns_are_found() -> None:
    """Those that see a sender's bytes are among them."""
    assert {
        "gateway.callbacks.form._LISTED",
        "gateway.callbacks.jsontext._FRACTION",
        "gateway.telemetry.tracing._VALID",
        "gateway.search.keys._NOT_DIGITS",
    } <= PATTERNS.keys()


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("package", sorted({name.split(".")[1] for name in PATTERNS}))
def test_every_regular_expression_is_linear(package: str) -> None:
    """As the code uses it, on what its own source suggests and on every hostile shape.

    At 16 KiB the square of the size is already a hundred times the bound, and the test is four times as quick.
    """
    names = [name for name in PATTERNS if name.split(".")[1] == package]
    assert {} == {name: problems for name in names if (problems := costs(PATTERNS[name], used(name)))}


def costs(pattern: re.Pattern[Any], ways: set[str]) -> list[str]:
    """What is wrong with the costs of a regular expression, used in these ways."""
    is_bytes = isinstance(pattern.pattern, bytes)

    def work(body: bytes) -> None:
        text: Any = body if is_bytes else body.decode("latin-1")
        if "match" in ways:
            pattern.match(text)
        if "fullmatch" in ways:
            pattern.fullmatch(text)
        if ways - {"match", "fullmatch"}:
            for _ in pattern.finditer(text):
                pass

    problems = [text for shape in NAMES for text in slow(work, shape, (16 * 1024,))]
    source = pattern.pattern if is_bytes else pattern.pattern.encode()
    for character in sorted({bytes([byte]) for byte in source} | {b" ", b"\n", b"0", b"a", b"=", b"\xe9"}):
        for head, tail in ((b"", b"!"), (source[:1], b"\0"), (b",", b":")):
            took = best(lambda: work(head + character * 16_000 + tail), _MOST_S)  # noqa: B023
            if took >= _MOST_S:
                problems.append(f"{head!r} + 16,000 {character!r} + {tail!r}: {took * 1000:.0f} ms")
    return problems


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_what_is_kept_of_a_rejection_is_linear() -> None:
    """With tokens to be cut out, in every shape; its bytes are a small multiple of the request's."""

    def work(body: bytes) -> None:
        error = CallbackRejected("not understood")
        value = rejected_event("sms-dr", None, request(body), error, TOKENS).to_json()
        assert len(value) < 8 * len(body) + 1000

    assert [] == [text for name in NAMES for text in slow(work, name)]


PAST_ITEMS: Final = {
    "statuses": b'{"statuses":[%b]}' % b",".join([b'{"id":"1","status":"sent"}'] * 11),
    "messages as text": b'{"messages":"[%b]"}' % b",".join([b"{}"] * 11),
    "three lists": b'{"statuses":[{},{},{},{}],"messages":[{},{},{},{}],"calls":[{},{},{}]}',
    "empty values": b'{"field":"history","value":[%b]}' % b",".join([b"{}"] * 11),
    "values of items": b'{"field":"x","value":[%b]}'
    % b",".join([b'{"statuses":[{"id":"1"},{"id":"2"},{"id":"3"}]}'] * 4),
    "costs": b'{"statuses":[{"id":"1","costs":[%b]}]}' % b",".join([b"{}"] * 41),
    "costs of several": b'{"statuses":[%b]}' % b",".join([b'{"id":"1","costs":[{},{},{},{},{}]}'] * 9),
    "phones": b'{"messages":[{"id":"1","from":"1","contacts":[%b]}]}' % b",".join([b'{"phones":[{},{},{},{}]}'] * 9),
    "echoes": b'{"field":"smb_message_echoes","value":{"message_echoes":[%b]}}' % b",".join([b"{}"] * 11),
    "entries": b'{"entry":[%b]}' % b",".join([b"{}"] * 11),
    "changes": b'{"entry":[{"changes":[%b]}]}' % b",".join([b"{}"] * 11),
    "items of changes": b'{"entry":[{"id":"1","changes":[%b]}]}'
    % b",".join([b'{"field":"messages","value":{"statuses":[{"id":"1"},{"id":"2"},{"id":"3"}]}}'] * 4),
    "events": b'{"events":[%b]}' % b",".join([b"{}"] * 11),
    "events as text": b'{"events":"[%b]"}' % b",".join([b"{}"] * 11),
}  # fmt: skip


@rows("name", PAST_ITEMS)
def test_more_items_than_allowed_are_rejected_whole(name: str) -> None:
    """In every place where a list may stand; the reason names the bound and its setting, and the request is kept."""
    body = PAST_ITEMS[name]
    callback = CALLBACKS["line" if name.startswith("events") else "whatsapp"]
    prepared = prepare(endpoint(callback, max_items=10), request(body))
    check_rejected(prepared, body, "ingest.max_items")
    assert "ingest.max_items" not in str(prepare(endpoint(callback), request(body)).error)


def check_rejected(prepared: Prepared, body: bytes, setting: str) -> None:
    assert ("rejected", 400) == (prepared.outcome, prepared.answer.status)
    (event,) = prepared.events
    assert setting in event.data["reason"]
    assert body == event.data["body"].encode()
    assert orjson.loads(prepared.values[0])["type"] == "nxcloud.callback.rejected"


@rows(
    ("callback", "body"),
    [
        ("whatsapp", b'{"wabaId":"%b","statuses":[{"id":"1"},{"id":"2"}]}' % (b"w" * 900)),
        ("whatsapp", b'{"contacts":[{"wa_id":"%b"}],"statuses":[{"id":"1"},{"id":"2"}]}' % (b"w" * 900)),
        (
            "whatsapp",
            b'{"field":"smb_message_echoes","value":{"wabaId":"%b","message_echoes":[{"id":"1"},{"id":"2"}]}}'
            % (b"w" * 900),
        ),
        (
            "whatsapp",
            b'{"entry":[{"id":"%b","changes":[{"field":"messages","value":{"statuses":[{"id":"1"},{"id":"2"}]}}]}]}'
            % (b"w" * 900),
        ),
        (
            "whatsapp",
            b'{"entry":[{"id":"1","changes":[{"field":"%b","value":{"statuses":[{"id":"1"},{"id":"2"}]}}]}]}'
            % (b"w" * 900),
        ),
        (
            "line",
            b'{"destination":"%b","events":[{"type":"follow","source":{"userId":"1"}},{"type":"join","source":{"groupId":"2"}}]}'
            % (b"w" * 900),
        ),
        ("sms-dr", b"messageid=1&phone=15550100200&status=2&ext=" + b"x" * 900),
        ("own-json", b'{"id":"1","more":"%b"}' % (b"x" * 1500)),
    ],
    ids=["an envelope", "a contact", "echoes", "Meta's", "a change", "LINE's", "a form", "another sender"],
)  # fmt: skip
def test_more_bytes_of_events_than_allowed_are_rejected_whole(callback: str, body: bytes) -> None:
    """The reason names the bound and its setting."""
    check_rejected(prepare(endpoint(EVERY[callback], max_event_bytes=1500), request(body)), body, "max_event_bytes")
    assert "accepted" == prepare(endpoint(EVERY[callback]), request(body)).outcome


def endless() -> Iterator[DecodedEvent]:
    while True:
        yield DecodedEvent("k", {})


def test_a_decoder_of_ones_own_may_give_events_without_end() -> None:
    """No more than the bound are taken; its copies of one large body are bounded, too."""
    own = DecoderCallback("own", lambda request, context: endless(), "own.topic")
    check_rejected(prepare(endpoint(own), request(b"x")), b"x", "ingest.max_items")
    large = DecoderCallback(
        "own", lambda request, context: [DecodedEvent("k", {"body": request.body.decode()})] * 1000, "own.topic"
    )
    body = b"x" * 500_000
    check_rejected(prepare(endpoint(large), request(body)), body, "ingest.max_event_bytes")
