from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import count, islice, product
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.callbacks import CALLBACKS, CallbackRequest, DecodeContext
from gateway.callbacks.callback import EventSchema
from gateway.event import Event
from gateway.log import Record
from gateway.search.index import EventKind, hashed
from gateway.search.keys import _IS_PHONE, asked, callback_of, digits_of, keys_of_events, matches, parsed, texts_of
from gateway.traffic.simulator import requests
from tests.effort import examples
from tests.rows import rows
from tests.search.made import entry


def record(subject: str = "m-1", **data: object) -> Record:
    return Record("events", 0, 0.0, *entry(subject, **data))


@rows(
    ("typed", "is_found"),
    [
        ("+6281234567890", True),
        ("6281234567890", True),
        ("0062 812-3456-7890", True),
        ("0812 3456 7890", True),
        ("(0812) 3456.7890", True),
        ("81234567890", True),
        ("34567890", True),
        ("+6281234567891", False),
        ("99934567890", False),
        ("7890", False),
    ],
)
def test_phone_numbers_are_found_however_they_are_written(typed: str, is_found: bool) -> None:
    """With and without country code, with blanks, with the zero before a national number; never another number."""
    one = record(to="+6281234567890")
    assert is_found == (matches(one, typed) and not texts_of(one).isdisjoint(asked(typed)))


@rows("field", ["message_id", "call_id", "task_id", "order_id", "external_task_id"])
def test_ids_of_any_kind_are_found_without_case(field: str) -> None:
    one = record(**{field: "AbC-42"})
    assert texts_of(one).issuperset(asked(" abc-42 "))
    assert matches(one, "ABC-42")


def test_callback_type_topic_and_subject_are_keys() -> None:
    one = record("m-9")
    assert list(keys_of_events([one], 0).kinds) == [EventKind("sms.dr", "nxcloud.sms.dr", "sms-dr")]
    assert "m-9" in texts_of(one)


def has_all(one: Record) -> bool:
    """What is looked for in the bytes is what a parser finds, and perhaps what is only in raw."""
    keys = keys_of_events([one], 0)
    event = parsed(one.value)
    kind = EventKind(one.topic, str(event.get("type")), callback_of(event))
    return set(keys.hashes) >= set(map(hashed, texts_of(one))) and set(keys.of) == {7} and list(keys.kinds) == [kind]


@rows("callback", list(CALLBACKS))
def test_every_event_has_all_of_its_keys(callback: str) -> None:
    """Those of simulated callbacks of every kind: in the bytes of known types, and parsed."""
    ticks = count()
    made = requests(callback, Random(7), lambda: datetime(2026, 1, 2, tzinfo=UTC) + timedelta(seconds=next(ticks)))
    for request, context in product(islice(made, 150), (DecodeContext(), DecodeContext(account="a-1", country="62"))):
        headers = {"content-type": request.content_type} if request.content_type else {}
        method = "POST" if request.body else "GET"
        got = CallbackRequest(method, "/x", request.query, headers, request.body, datetime(2026, 1, 2, tzinfo=UTC))
        for event in CALLBACKS[callback].decode(got, context).events:
            assert has_all(Record("events", 7, 0.0, event.topic, event.partitionkey, event.id, event.to_json()))


TEXTS = st.one_of(
    st.sampled_from(["001234567", "+001234567"]),
    st.from_regex(r"[+0]{0,3}[0-9]{0,20}", fullmatch=True),
    st.text('a\u00c9"\\\n ,:{}+-0', max_size=9),
    st.text(),
)


@settings(max_examples=examples(100))
@given(st.data(), st.sampled_from([schema for callback in CALLBACKS.values() for schema in callback.schemas]))
def test_keys_in_the_bytes_are_those_of_a_parser(data: st.DataObject, schema: EventSchema) -> None:
    """Whatever stands in a member of a table: a number in any form, an escape, a name of another member, a list."""
    subject = data.draw(st.one_of(TEXTS, st.just("m-1")))
    members = {
        name: data.draw(TEXTS if about["type"] == "string" else st.lists(TEXTS, max_size=2))
        for name, about in schema.json_schema()["properties"].items()
        if name in _IS_PHONE and data.draw(st.booleans())
    }
    if len(schema.key) == 1:
        members[schema.key[0]] = subject
    members |= data.draw(st.sampled_from([{}, {"raw": {"to": "1", "raw": {"order_id": "x"}}}]))
    about = ("0" * 32, "/x/y", schema.type, schema.topic, subject, subject, "t", "t", members)
    event = Event(*about, dataschema=schema.dataschema)
    assert has_all(Record("events", 7, 0.0, schema.topic, subject, event.id, event.to_json()))


@given(st.binary())
def test_whatever_a_record_holds_has_keys(value: bytes) -> None:
    """An event is found by its id at least, be its bytes what they may."""
    one = Record("events", 7, 0.0, "sms.dr", "key", "0" * 32, value)
    assert {"0" * 32, "key"} <= texts_of(one)
    assert has_all(one)


@given(st.text())
def test_whatever_is_typed_can_be_asked(text: str) -> None:
    assert len(asked(text)) <= 2
    assert digits_of(text) == "" or digits_of(text).isascii()
    matches(record(), text)
