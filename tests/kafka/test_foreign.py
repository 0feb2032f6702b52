"""Records of other producers in our topics: what is an event is delivered, what is none never is."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from aiokafka import AIOKafkaProducer
from hypothesis import given
from hypothesis import strategies as st

from gateway.clock import SystemClock
from gateway.config.settings import Subscriber
from gateway.errors import Poison
from gateway.event import parse
from gateway.fanout import dead_letters, subscriptions
from gateway.fanout.filters import compile_filter, wants
from gateway.fanout.replay import Selection, replay
from gateway.fanout.sse import EventStream
from gateway.fanout.webhook import WebhookSink
from gateway.log import TOMBSTONE, Record
from gateway.log.kafka import KafkaLog, KafkaOptions, record_format
from gateway.telemetry.metrics import METRICS
from tests.fanout.receiver import Receiver
from tests.fanout.running import make, subscription, webhook
from tests.kafka.traffic import event

_CE = {"specversion": "1.0", "source": "/other", "type": "other.thing"}
_JSON = ("content-type", b"application/json")


def _structured(id_: str, **more: Any) -> bytes:
    return orjson.dumps({**_CE, "id": id_, "partitionkey": "k", "data": {"n": 1}, **more})


def _binary(id_: str, **more: bytes) -> list[tuple[str, bytes]]:
    return [(f"ce_{name}", text.encode()) for name, text in {**_CE, "id": id_}.items()] + list(more.items())


#: Value and headers that are no event, and what is in their dead letter's detail.
NO_EVENTS: list[tuple[bytes, list[tuple[str, bytes | None]], str]] = [
    (b"hello", [], "not JSON"),
    (b"", [], "empty"),
    (b"\xff\xfe{}", [], "not JSON"),
    (b'{"id":"1","status":"DELIVRD"}', [], "specversion"),
    (b"[1,2]", [("content-type", b"application/cloudevents-batch+json")], "no object"),
    (b"null", [], "no object"),
    (b"[" * 3000, [], "not JSON"),
    (_structured("x")[:-9], [], "not JSON"),
    (_structured(""), [], "id"),
    (_structured("x", id=7), [], "id"),
    (_structured("x", source=None), [], "source"),
    (_structured("x", type=["t"]), [], "type"),
    (_structured("x", specversion="0.3"), [], "specversion"),
    (b'{"n":1}', [*_binary("b1"), ("ce_type", b"\xff")], "UTF-8"),
    (b"{broken", [*_binary("b2"), _JSON], "not JSON"),
    (b"{}", [(name, raw) for name, raw in _binary("b3") if name != "ce_source"], "source"),
    (b"x" * 300_000, [("content-type", None), ("odd", b"\xff\n"), ("", b"")], "not JSON"),
]

#: Value and headers of valid CloudEvents, their ids, and ``data`` as it is delivered.
EVENTS: list[tuple[bytes | None, list[tuple[str, bytes | None]], str, Any]] = [
    (_structured("order-1"), [], "order-1", {"n": 1}),
    (b" " + _structured("order 2").replace(b",", b",\n ") + b"\r\n", [], "order 2", {"n": 1}),
    (_structured("A" * 1000), [("traceparent", b"x\r\nevil: 1" + b"y" * 44)], "A" * 1000, {"n": 1}),
    (b'{"n":2}', [*_binary("bin-1"), _JSON], "bin-1", {"n": 2}),
    ("grüß".encode(), [*_binary("bin-2"), ("content-type", b"text/plain; charset=utf-8")], "bin-2", "grüß"),
    (b"\x00\xff", [*_binary("bin-3"), ("content-type", b"application/octet-stream")], "bin-3", None),
    (None, [*_binary("bin-4"), ("ce_odd-name", b"x")], "bin-4", None),
    (b'{"n":3}', [*_binary("bin-5"), ("ce_data", b"no attribute"), _JSON], "bin-5", {"n": 3}),
]

#: Ids of valid JSON that no header can carry.
UNSENDABLE = ["line\nend", "carriage\r\nreturn: x", "nul\0", "ünïcode", " padded", "tab\t", "B" * 1025, "\x7f"]


async def _send(options: KafkaOptions, records: list[tuple[bytes | None, Any]], key: bytes | None = None) -> None:
    producer = AIOKafkaProducer(**options.client())
    await producer.start()
    for value, headers in records:
        await producer.send_and_wait(options.kafka_name("sms.dr"), value, key=key, headers=headers)
    await producer.stop()


def _count(group: str, kind: str) -> float:
    name = "gateway_kafka_not_events_total"
    return METRICS.registry.get_sample_value(name, {"group": group, "kind": kind}) or 0.0


@pytest.mark.kafka
@pytest.mark.parametrize("is_filtered", [False, True], ids=["everything", "filtered"])
@pytest.mark.parametrize("mode", ["structured", "binary"])
async def test_events_are_delivered_and_all_else_is_dead_lettered(
    kafka: str, prefix: str, is_filtered: bool, mode: Any
) -> None:
    """No webhook without an id, no attempt at what is no event, one dead letter for each, and the lag ends at 0."""
    options = KafkaOptions((kafka,), prefix=prefix, partitions=1, cloudevents=mode)
    log = KafkaLog(options)
    await log.start()
    ours = event(1, "k")
    await log.append([ours])
    await _send(options, [(value, headers) for value, headers, _ in NO_EVENTS])
    await _send(options, [(value, headers) for value, headers, _, _ in EVENTS], key=b"\xff")
    await _send(options, [(_structured(id_), []) for id_ in UNSENDABLE], key=b"k")
    await _send(options, [(None, []), (None, [("x", None)])], key=b"k")
    async with Receiver() as receiver:
        filtering = wants(compile_filter({"prefix": {"type": "o"}})) if is_filtered else None
        reader = make(log, webhook(receiver.url), subscription(wants=filtering))
        reader.start()
        letters = len(NO_EVENTS) + len(UNSENDABLE)
        given_up: list[Any] = []
        while len(given_up) < letters or await reader.lag():
            given_up = await dead_letters.find(log, "billing")
        expected = {id_: data for _, _, id_, data in EVENTS}
        if not is_filtered:
            expected[ours.id] = orjson.loads(ours.value)["data"]
        assert {post.id: json.loads(post.body).get("data") for post in receiver.posts} == expected
        assert len(receiver.posts) == len(expected)
        assert all(json.loads(post.body)["id"] == post.id for post in receiver.posts)
        assert all("evil" not in post.headers and len(post.headers["traceparent"]) == 55 for post in receiver.posts)
        no_events = [letter for letter in given_up if letter.reason == "not_an_event"]
        # In binary mode the attributes are put before the data, so that nothing of the record is lost.
        assert len(no_events) == len(NO_EVENTS)
        assert all(value in letter.value for letter, (value, *_) in zip(no_events, NO_EVENTS, strict=True))
        assert all(part in letter.last_detail for letter, (*_, part) in zip(no_events, NO_EVENTS, strict=True))
        assert len({letter.id for letter in no_events}) == len(NO_EVENTS)
        assert [letter.id for letter in given_up if letter.reason == "poison"] == UNSENDABLE
        assert all(letter.attempts == 1 for letter in given_up)
        assert _count(subscriptions.GROUP, "tombstone") >= 2
        assert _count(subscriptions.GROUP, "not_an_event") >= len(NO_EVENTS)
        again = await replay(
            log,
            Subscriber(name="billing", topics=["sms.dr"], url=receiver.url),
            Selection(is_from_dlq=True),
            clock=SystemClock(),
            is_dry_run=True,
        )
        assert again.events == len(UNSENDABLE)  # what is no event is never sent again
        await reader.stop(5.0)
        await log.stop()


@pytest.mark.kafka
async def test_streams_give_events_only(kafka: str, prefix: str) -> None:
    """What is no event is passed over, without a break in the stream."""
    options = KafkaOptions((kafka,), prefix=prefix, partitions=1)
    log = KafkaLog(options)
    await log.ensure(["sms.dr"])
    await _send(options, [(value, headers) for value, headers, _ in NO_EVENTS] + [(None, [])], key=b"k")
    await _send(options, [(value, headers) for value, headers, _, _ in EVENTS], key=b"k")
    stream = EventStream(
        log, Subscriber(name="feed", topics=["sms.dr"], kind="stream", start="earliest"), clock=SystemClock()
    )
    found: list[str] = []
    async for chunk in stream.events():
        blocks = [block for block in chunk.decode().split("\n\n") if "data:" in block]
        for block in blocks:
            lines = [line.removeprefix("data: ") for line in block.split("\n") if line.startswith("data: ")]
            found.append(json.loads("\n".join(lines))["id"])
        if len(found) >= len(EVENTS):
            break
    assert found == [id_ for _, _, id_, _ in EVENTS]
    await log.stop()


_HEADER = st.tuples(
    st.sampled_from(["content-type", "ce_id", "ce_type", "ce_source", "ce_specversion", "ce_data", "gateway-id", "x"])
    | st.text(max_size=8),
    st.none() | st.binary(max_size=20) | st.sampled_from([b"1.0", b"application/json", b"text/plain", b"id-1"]),
)


@given(st.none() | st.binary(max_size=60) | st.builds(_structured, st.text(max_size=5)), st.lists(_HEADER, max_size=8))
def test_any_record_is_an_event_with_its_id_or_has_a_flaw(
    value: bytes | None, headers: list[tuple[str, bytes | None]]
) -> None:
    """Nothing raises; what has no flaw is a CloudEvent whose id is the record's."""
    found = record_format.read(value, headers)
    if found.flaw:
        assert found.flaw != TOMBSTONE or value is None
    else:
        assert parse(found.value)["id"] == found.id != ""


@given(st.text(max_size=5) | st.sampled_from(UNSENDABLE))
async def test_an_id_is_sent_as_it_is_or_refused_at_once(id_: str) -> None:
    """Every id of our own form is sent; one that could break or alter a header never is."""
    sink: WebhookSink = webhook("http://127.0.0.1:9/")
    record = Record("sms.dr-0", 0, 0.0, "sms.dr", "k", id_, _structured(id_ or "x"))
    is_plain = id_.isascii() and id_.isprintable() and id_ == id_.strip() and 0 < len(id_) <= 1024
    try:
        result = await sink.attempt(record, is_replay=False)
    except Poison:
        assert not is_plain
    else:
        assert is_plain
        assert result.error == "connect"
    finally:
        await sink.close()
