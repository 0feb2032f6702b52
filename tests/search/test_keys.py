from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.log import Record
from gateway.search.keys import asked, digits_of, keys_of, matches
from tests.search.made import entry


def record(subject: str = "m-1", **data: object) -> Record:
    return Record("events", 0, 0.0, *entry(subject, **data))


@pytest.mark.parametrize(
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
    assert is_found == (matches(one, typed) and not keys_of(one).ids.isdisjoint(asked(typed)))


@pytest.mark.parametrize("field", ["message_id", "call_id", "task_id", "order_id", "external_task_id"])
def test_ids_of_any_kind_are_found_without_case(field: str) -> None:
    one = record(**{field: "AbC-42"})
    assert keys_of(one).ids.issuperset(asked(" abc-42 "))
    assert matches(one, "ABC-42")


def test_callback_type_topic_and_subject_are_keys() -> None:
    found = keys_of(record("m-9"))
    assert set(found.kinds) == {"callback:sms-dr", "type:nxcloud.sms.dr", "topic:sms.dr"}
    assert "m-9" in found.ids


@given(st.binary())
def test_whatever_a_record_holds_has_keys(value: bytes) -> None:
    """An event is found by its id at least, be its bytes what they may."""
    one = Record("events", 0, 0.0, "sms.dr", "key", "0" * 32, value)
    found = keys_of(one)
    assert {"0" * 32, "key"} <= found.ids
    assert "topic:sms.dr" in found.kinds


@given(st.text())
def test_whatever_is_typed_can_be_asked(text: str) -> None:
    assert len(asked(text)) <= 2
    assert digits_of(text) == "" or digits_of(text).isascii()
    matches(record(), text)
