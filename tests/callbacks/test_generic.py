"""Webhooks of other senders, by configuration and by a decoder of one's own."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.callbacks import CallbackRequest, DecodeContext
from gateway.callbacks.answers import MISSING
from gateway.callbacks.generic import DecodedEvent, DecoderCallback, GenericCallback, JsonPath, load_decoder
from gateway.callbacks.rejected import rejected_event
from gateway.errors import CallbackRejected
from gateway.event import Event
from tests.rows import rows

NOW = datetime(2025, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
CONTEXT = DecodeContext(account="shop")
ORDERS = GenericCallback("shop-orders", "json", "shop.order", JsonPath("$.order.id"))


def request(body: bytes = b"", query: bytes = b"") -> CallbackRequest:
    return CallbackRequest("POST", "/callbacks/shop-orders", query, {}, body, NOW)


def test_a_json_webhook_by_configuration() -> None:
    """Topic, key and source come from the configuration, the sender's fields are kept digit by digit."""
    body = b'{"order":{"id":12345678901234567890,"total":10.00},"at":1735000000}'
    decoded = ORDERS.decode(request(body), CONTEXT)
    event = decoded.events[0]
    assert ("shop.order", "shop.order", "/callbacks/shop-orders") == (event.topic, event.type, event.source)
    assert ("12345678901234567890", "12345678901234567890") == (event.subject, event.partitionkey)
    assert ("shop", "2025-01-02T03:04:05.678901Z") == (event.account, event.time)
    assert body in event.to_json()
    assert event.id == ORDERS.decode(request(b" " + body), CONTEXT).events[0].id


def test_names_that_a_sender_sends_twice_are_drift() -> None:
    """The last one counts for key, id and time, as in the fields of built-in callbacks; ``raw`` keeps the bytes."""
    body = b'{"id":"first","id":"second","order":{"id":1,"id":2}}'
    callback = GenericCallback("g", "json", "t", JsonPath("$.order.id"), id=JsonPath("$.id"))
    decoded, last = (callback.decode(request(one), CONTEXT) for one in (body, b'{"id":"second","order":{"id":2}}'))
    assert ("2", last.events[0].id) == (decoded.events[0].subject, decoded.events[0].id)
    assert (("duplicate:id",), ()) == (decoded.drift, last.drift)
    assert body in decoded.events[0].to_json()
    in_a_form = GenericCallback("f", "form", "t", JsonPath("$.id")).decode(request(body), CONTEXT)
    assert ("second", ("duplicate:id",)) == (in_a_form.events[0].subject, in_a_form.drift)


def test_a_form_webhook_by_configuration() -> None:
    """A form's fields are found by name, in the query or in the body."""
    callback = GenericCallback("f", "form", "t", JsonPath("$.id"), type="shop.paid", time=JsonPath("$.when"))
    events = [
        callback.decode(sent, CONTEXT).events[0]
        for sent in (request(b"id=7&when=2024-01-02+03:04:05"), request(b"", b"id=7&when=2024-01-02 03:04:05"))
    ]
    assert events[0] == events[1]
    assert ("shop.paid", "7", "2024-01-01T19:04:05.000000Z") == (events[0].type, events[0].subject, events[0].time)
    assert {"id": "7", "when": "2024-01-02 03:04:05"} == events[0].data["raw"]
    assert frozenset({"POST", "GET"}) == callback.methods


def test_an_id_of_the_senders_own() -> None:
    """With an id path the same id is the same event, whatever else differs; an unreadable time is arrival."""
    callback = GenericCallback("g", "json", "t", JsonPath("$.k"), id=JsonPath("$.id"), time=JsonPath("$.at"))
    first, repeat, other = (
        callback.decode(request(body), CONTEXT).events[0]
        for body in (b'{"k":1,"id":"a","try":1,"at":"soon"}', b'{"k":1,"id":"a","try":2}', b'{"k":1,"id":"b"}')
    )
    assert first.id == repeat.id
    assert first.id != other.id
    assert first.recordedtime == first.time


@rows(
    ("body", "field"),
    [
        (b"{}", "$.order.id"),
        (b'{"order":{"id":""}}', "$.order.id"),
        (b'{"order":[1]}', "$.order.id"),
        (b"order=1", ""),
        (b"", ""),
    ],
)
def test_what_lacks_its_key_is_rejected(body: bytes, field: str) -> None:
    """No value at the key's path, or another layout than the configured one, is a typed refusal."""
    with pytest.raises(CallbackRejected) as refusal:
        ORDERS.decode(request(body), CONTEXT)
    assert field == refusal.value.field


@given(st.binary(max_size=100), st.binary(max_size=30))
def test_any_bytes(body: bytes, query: bytes) -> None:
    """Any bytes become an event or a typed refusal, for both layouts."""
    for callback in (ORDERS, GenericCallback("f", "form", "t", JsonPath("$.a"))):
        try:
            events = callback.decode(request(body, query), CONTEXT).events
        except CallbackRejected:
            continue
        assert all(event.to_json() for event in events)


@rows(
    ("path", "found"),
    [
        ("$.a", "1"),
        ("$.b.c", "x"),
        ("$.b['d e']", "2.5"),
        ('$["b"]["c"]', "x"),
        ("$.l[1].m", "true"),
        ("$.l[7].m", ""),
        ("$.b", ""),
        ("$.none", ""),
        ("$.a.b", ""),
    ],
)
def test_paths(path: str, found: str) -> None:
    """A path leads to one scalar, as text; to nothing where there is none."""
    fields = {"a": 1, "b": {"c": "x", "d e": 2.5}, "l": [{}, {"m": True}]}
    assert found == JsonPath(path).find(fields)


@rows("path", ["", "a", "$", "$.", "$..a", "$.a[", "$.a[*]", "$.a[-1]", "$.a b", ".a"])
def test_what_is_no_path(path: str) -> None:
    """A path that could not be followed is refused when it is configured, and named."""
    with pytest.raises(ValueError, match="is not a path"):
        JsonPath(path)


PACKAGE = """
import orjson
from gateway.callbacks.generic import DecodedEvent
from gateway.errors import CallbackRejected

def decode(request, context):
    try:
        body = orjson.loads(request.body)
    except orjson.JSONDecodeError as exc:
        raise CallbackRejected("not JSON") from exc
    return [DecodedEvent(key=parcel["id"], data={"parcel": parcel}) for parcel in body["parcels"]]

word = "not a function"
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package as pip leaves it: its module, and its metadata with the entry points."""
    (tmp_path / "acme_gateway.py").write_text(PACKAGE)
    metadata = tmp_path / "acme_gateway-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-gateway\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        "[gateway.decoders]\nparcels = acme_gateway:decode\nword = acme_gateway:word\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("acme_gateway", None)


@pytest.mark.usefixtures("installed")
def test_a_decoder_of_ones_own() -> None:
    """An installed package's decoder is found by name, and its findings become events with stable ids."""
    callback = DecoderCallback("parcels", load_decoder("parcels"), "parcel.status")
    body = b'{"parcels":[{"id":17},{"id":"p-2","kg":1.5}]}'
    events = callback.decode(request(body), CONTEXT).events
    assert ["17", "p-2"] == [event.subject for event in events]
    assert {"parcel": {"id": "p-2", "kg": 1.5}} == events[1].data
    assert ("/callbacks/parcels", "parcel.status", "shop") == (events[0].source, events[0].type, events[0].account)
    assert [event.id for event in events] == [event.id for event in callback.decode(request(body), CONTEXT).events]
    assert 2 == len({event.id for event in events})


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    "body", [b"x", b"{}", b'{"parcels":[{}]}', b'{"parcels":[]}', b'{"parcels":[{"id":""}]}', b'{"parcels":3}']
)
def test_whatever_a_decoder_raises_the_request_is_kept(body: bytes) -> None:
    """A decoder that refuses, fails, or finds nothing gives a typed refusal with a reason that names it."""
    callback = DecoderCallback("parcels", load_decoder("parcels"), "parcel.status")
    with pytest.raises(CallbackRejected) as refusal:
        callback.decode(request(body), CONTEXT)
    assert refusal.value.reason


@pytest.mark.usefixtures("installed")
def test_decoders_that_cannot_be_used() -> None:
    """A name that nobody offers is refused with those that are; what is no function is refused too."""
    with pytest.raises(LookupError, match=r"'letters'; there are: .*parcels"):
        load_decoder("letters")
    with pytest.raises(TypeError, match="not a function"):
        load_decoder("word")


def nested(levels: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for _ in range(levels - 1):
        found = {"x": found}
    return found


def decoded(*found: Any) -> tuple[Event, ...]:
    """What becomes of findings that a decoder of one's own returns."""
    return DecoderCallback("d", lambda request, context: found, "t").decode(request(b"x"), CONTEXT).events


@rows(
    ("found", "field"),
    [
        (DecodedEvent(1.5, {}), "key"),
        (DecodedEvent(True, {}), "key"),
        (DecodedEvent(["a"], {}), "key"),
        (DecodedEvent(b"a", {}), "key"),
        (DecodedEvent("\ud83d", {}), "key"),
        (DecodedEvent("", {}), "key"),
        (DecodedEvent(None, {}), "key"),
        (DecodedEvent("k", {}, type=7), "type"),
        (DecodedEvent("k", {}, type="\ud83d"), "type"),
        (DecodedEvent("k", {}, id=1.5), "id"),
        (DecodedEvent("k", {}, id="\ud83d"), "id"),
        (DecodedEvent("k", {"x": object()}), "data"),
        (DecodedEvent("k", {"x": "\ud83d"}), "data"),
        (DecodedEvent("k", {"x": 1 << 64}), "data"),
        (DecodedEvent("k", nested(251)), "data"),
        (DecodedEvent("k", None), "data"),
        ("k", ""),
        (None, ""),
    ],
)
def test_what_no_event_can_be_made_of_is_refused(found: Any, field: str) -> None:
    """Whatever a decoder returns: a key, type, id or data that cannot be stored is a typed refusal, and named."""
    with pytest.raises(CallbackRejected) as refusal:
        decoded(DecodedEvent("first", {}), found)
    assert (field, True) == (refusal.value.field, bool(refusal.value.reason))
    orjson.loads(rejected_event("d", None, request(b"x"), refusal.value).to_json())


def test_whole_numbers_are_keys_and_ids() -> None:
    """A parcel 123 has the key "123", and 0 is a number as any other; a time may be a number, too."""
    one, other = decoded(DecodedEvent(123, {}, id=7), DecodedEvent(0, {}, id=0, time=1735000000))
    assert ("123", "0") == (one.partitionkey, other.subject)
    assert "2024-12-24T00:26:40.000000Z" == other.time
    assert [one.id, other.id] == [
        event.id for event in decoded(DecodedEvent("123", {}, id="7"), DecodedEvent("0", {}, id="0"))
    ]
    assert {"x": nested(249)} == decoded(DecodedEvent("k", nested(250)))[0].data


def test_a_refusal_in_any_words_is_kept() -> None:
    """A decoder may refuse with whatever it was given as the reason: the request is kept, and the answer is text."""

    def refuses(request: CallbackRequest, context: DecodeContext) -> list[DecodedEvent]:
        raise CallbackRejected(7, "\ud83d")

    with pytest.raises(CallbackRejected) as refusal:
        DecoderCallback("d", refuses, "t").decode(request(b"x"), CONTEXT)
    assert ("7", "\\ud83d") == (refusal.value.reason, refusal.value.field)
    orjson.loads(rejected_event("d", None, request(b"x"), refusal.value).to_json())


def test_what_a_header_says_tells_two_events_apart() -> None:
    """A decoder that takes type or key from a header, with one body: two events, each of them once."""

    def decode(request: CallbackRequest, context: DecodeContext) -> list[DecodedEvent]:
        return [DecodedEvent(request.headers["x-key"], {}, type=request.headers["x-event"])]

    callback = DecoderCallback("d", decode, "t")
    ids = [
        callback.decode(request(b"x")._replace(headers={"x-event": event, "x-key": key}), CONTEXT).events[0].id
        for event, key in (("a", "1"), ("b", "1"), ("a", "2"), ("a", "1"))
    ]
    assert ids[0] == ids[3]
    assert 3 == len(set(ids))


def test_times_and_ids_of_the_decoders_own_are_used() -> None:
    """The same id is the same event, whatever else the request holds."""
    good = DecoderCallback(
        "d", lambda request, context: [DecodedEvent("k", {}, type="t.one", id="7", time="1735000000")], "t"
    )
    one, other = (good.decode(request(body), CONTEXT).events[0] for body in (b"a", b"b"))
    assert one.id == other.id
    assert ("t.one", "2024-12-24T00:26:40.000000Z") == (one.type, one.time)
    orjson.loads(one.to_json())


ITEMS = GenericCallback(
    "stock", "json", "t", JsonPath("$.order.id"), time=JsonPath("$$.sent"), each=JsonPath("$.data.events")
)


def test_a_list_has_no_more_items_than_allowed() -> None:
    """``ingest.max_items`` counts for lists of other senders, and before any item is read."""
    context = replace(CONTEXT, max_items=3)
    for count, item in ((3, b'{"order":{"id":7}}'), (4, b'{"order":{"id":7}}'), (4, b"{}")):
        sent = request(b'{"data":{"events":[%s]}}' % b",".join([item] * count))
        if count <= 3:
            assert count == len(ITEMS.decode(sent, context).events)
        else:
            with pytest.raises(CallbackRejected, match=r"ingest\.max_items"):
                ITEMS.decode(sent, context)


def test_a_list_becomes_one_event_for_each_item() -> None:
    """In order, each with the item's own digits in ``raw``, and an id of its own even for equal items."""
    item = b'{"order":{"id":7},"total":10.00,"n":12345678901234567890}'
    body = b'{"sent":"2024-01-02T03:04:05Z","data":{"events":[%s,%s,{"order":{"id":"8"}}]}}' % (item, item)
    decoded = ITEMS.decode(request(body), CONTEXT)
    assert ["7", "7", "8"] == [event.subject for event in decoded.events]
    assert {"2024-01-02T03:04:05.000000Z"} == {event.time for event in decoded.events}
    assert 3 == len({event.id for event in decoded.events})
    assert item in decoded.events[0].to_json()
    assert item in decoded.events[1].to_json()
    again = ITEMS.decode(request(b" " + body), CONTEXT)
    assert [event.id for event in decoded.events] == [event.id for event in again.events]


@rows(
    ("body", "field", "reason"),
    [
        (b'{"data":{"events":[{"order":{"id":1}},{},{"order":{"id":1}}]}}', "data.events[1].order.id", MISSING),
        (b'{"data":{"events":[7]}}', "data.events[0].order.id", MISSING),
        (b'{"data":{"events":[null]}}', "data.events[0].order.id", MISSING),
        (b'{"data":{"events":[]}}', "data.events", "the list is empty"),
        (b'{"data":{"events":{"order":{"id":1}}}}', "data.events", "a list is expected"),
        (b'{"data":[]}', "data.events", "a list is expected"),
        (b"{}", "data.events", "a list is expected"),
    ],
)
def test_an_item_without_its_key_rejects_the_whole_request(body: bytes, field: str, reason: str) -> None:
    """Nothing of it becomes an event, and the error says which item."""
    with pytest.raises(CallbackRejected) as refusal:
        ITEMS.decode(request(body), CONTEXT)
    assert (field, reason) == (refusal.value.field, refusal.value.reason)


def test_an_id_in_an_item() -> None:
    """The sender's id makes the event's, wherever the item stands; twice in one body is one event, and drift."""
    callback = GenericCallback("g", "json", "t", JsonPath("$$.account"), id=JsonPath("$.id"), each=JsonPath("$.e"))
    decoded = callback.decode(request(b'{"account":"a","e":[{"id":1},{"id":2},{"id":1}]}'), CONTEXT)
    other = callback.decode(request(b'{"account":"a","e":[{"id":2,"x":0}]}'), CONTEXT)
    assert (2, ("duplicate:id",), ["a", "a"]) == (
        len(decoded.events),
        decoded.drift,
        [event.subject for event in decoded.events],
    )
    assert decoded.events[1].id == other.events[0].id
    with pytest.raises(CallbackRejected, match=r"\$\$\.account"):
        callback.decode(request(b'{"e":[{"id":1}]}'), CONTEXT)


def test_a_body_that_is_a_list() -> None:
    """``each: $``; anything else than one JSON array is rejected."""
    callback = GenericCallback("g", "json", "t", JsonPath("$.id"), each="$")
    for body in (b'[{"id":1,"p":1.10},{"id":2}]', b'\xef\xbb\xbf [{"id":1,"p":1.10},{"id":2}]\n'):
        decoded = callback.decode(request(body), CONTEXT)
        assert ["1", "2"] == [event.subject for event in decoded.events]
        assert b'"raw":{"id":1,"p":1.10}' in decoded.events[0].to_json()
    for body in (b"{}", b"", b"[", b"[]", b'[{"id":1}],"x":2', b'[{"id":1}],"$":[{"id":2}]', b"[1]", b"id=1", b"[{}"):
        with pytest.raises(CallbackRejected):
            callback.decode(request(body), CONTEXT)
    with pytest.raises(CallbackRejected, match=r"^\[1\]\.id: "):
        callback.decode(request(b'[{"id":1},{}]'), CONTEXT)


def test_a_type_of_the_senders_own() -> None:
    """With a path the type comes from the payload; without a value there the request is rejected."""
    callback = GenericCallback("g", "json", "t", JsonPath("$.id"), type_path=JsonPath("$.type"))
    assert ("a.b",) == tuple(event.type for event in callback.decode(request(b'{"id":1,"type":"a.b"}'), CONTEXT).events)
    with pytest.raises(CallbackRejected, match=r"\$\.type"):
        callback.decode(request(b'{"id":1}'), CONTEXT)
