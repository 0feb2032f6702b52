"""Phones, money and the converters."""

from __future__ import annotations

from decimal import Context, Decimal
from typing import Any
from zoneinfo import ZoneInfo

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.callbacks import fields, money, phones
from gateway.callbacks.fields import Converter, Odd, Scope
from gateway.callbacks.plan import UNUSABLE

ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("15550100200", "+15550100200"),
        ("+15550100200", "+15550100200"),
        (" 15550100200", "+15550100200"),
        ("0015550100200", "+15550100200"),
        ("+1 (555) 010-0200", "+15550100200"),
        ("628123456789", "+628123456789"),
        ("sip:1001@192.0.2.10:5060", "sip:1001@192.0.2.10:5060"),
        ("1001", "1001"),
        ("02112345678", "02112345678"),
        ("ACME", "ACME"),
        ("1555****200", "1555****200"),
        ("1234567890123456", "1234567890123456"),
        ("١٥٥٥٠١٠٠٢٠٠", "١٥٥٥٠١٠٠٢٠٠"),
        ("+", "+"),
        ("", ""),
    ],
)
def test_numbers_with_a_country_code_become_e164(text: str, expected: str) -> None:
    """A number with its country code gets one ``+``; anything else stays as it is."""
    assert expected == phones.e164(text)


@pytest.mark.parametrize(
    ("number", "code", "expected"),
    [
        ("15550100200", "1", "+15550100200"),
        ("13800001111", "86", "+8613800001111"),
        ("013800001111", "86", "+8613800001111"),
        ("8613800001111", "+86", "+8613800001111"),
        ("+15550100200", "86", "+15550100200"),
        ("1001", "86", "1001"),
        ("15550100200", "US", "+15550100200"),
    ],
)
def test_a_country_code_of_its_own_makes_the_number_whole(number: str, code: str, expected: str) -> None:
    """A number that lacks its country code gets it from the field that names it."""
    assert expected == phones.with_country(number, code)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("0.0360", "0.0360"),
        ("7", "7"),
        (" 0.5 ", "0.5"),
        (".5", "0.5"),
        ("+1.50", "1.50"),
        ("1e-5", "0.00001"),
        (1e-05, "0.00001"),
        (0.1, "0.1"),
        (3, "3"),
        (-2.5, "-2.5"),
        ("12345678901234567890.12", "12345678901234567890.12"),
        (" ", None),
    ],
)
def test_money_is_plain_digits(value: object, expected: str | None) -> None:
    """An amount is written without exponent and without losing a digit."""
    assert expected == money.decimal(value)


@pytest.mark.parametrize(
    "value", ["free", "NaN", "Infinity", "1e999999999", "1e-400", "9" * 100, float("inf"), True, [], {}, "1,5"]
)
def test_what_is_no_amount(value: object) -> None:
    """What is not a finite amount is refused, a gigantic exponent at once."""
    with pytest.raises(ValueError, match="amount"):
        money.decimal(value)


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**12), max_value=10**12, places=6))
def test_money_keeps_its_value(amount: Decimal) -> None:
    """Any amount as the vendor may write it keeps its exact value."""
    written = money.decimal(str(amount))
    assert written is not None
    assert amount == Decimal(written)
    assert "e" not in written.lower()


@given(st.lists(st.integers(-(10**38), 10**38), min_size=1, max_size=5))
def test_a_sum_is_exact(cents: list[int]) -> None:
    """Amounts are added without rounding, however long they are."""
    assert Decimal(sum(cents)).scaleb(-2, context=Context(prec=99)) == Decimal(
        money.total([format(Decimal(cent).scaleb(-2, context=Context(prec=99)), "f") for cent in cents])
    )


CONVERTERS = [value for value in vars(fields).values() if isinstance(value, Converter)] + [
    fields.words({"1": "one"}),
    fields.is_one_of("1"),
]


@pytest.mark.parametrize("converter", CONVERTERS, ids=lambda converter: converter.name)
@given(value=ANY_JSON)
@settings(max_examples=50)
def test_a_converter_gives_json_or_refuses(converter: Converter, value: Any) -> None:
    """Any JSON value becomes something that can be stored, nothing, or one of the refusals a table expects."""
    if value is None or value == "":
        return
    try:
        made = converter.convert(value, Scope(ZoneInfo("Asia/Shanghai")))
    except Odd as odd:
        made = odd.value
    except UNUSABLE:
        return
    orjson.dumps(made)


@pytest.mark.parametrize(
    ("converter", "value", "expected"),
    [
        (fields.integer, "2", 2),
        (fields.integer, 2, 2),
        (fields.integer, 2.0, 2),
        (fields.integer, "2.00", 2),
        (fields.integer, " 7 ", 7),
        (fields.integer, "-7", -7),
        (fields.text, 2, "2"),
        (fields.text, 2.0, "2"),
        (fields.text, True, "true"),
        (fields.identifier, " a ", "a"),
        (fields.identifier, 9007199254740993, "9007199254740993"),
        (fields.phone, 15550100200, "+15550100200"),
        (fields.duration, "12.5", 12.5),
        (fields.number, "121.473701", 121.473701),
        (fields.flag, "true", True),
        (fields.flag, 0, False),
        (fields.flag, "No", False),
        (fields.texts, "a", ["a"]),
        (fields.texts, ["a", None, 5], ["a", "5"]),
        (fields.is_set, "0", False),
        (fields.is_set, 1735000000, True),
        (fields.words({"DELIVRD": "delivered"}), "delivrd ", "delivered"),
        (fields.words({"2": "delivered"}), 2, "delivered"),
        (fields.is_one_of("2"), 2, True),
    ],
)
def test_declared_type_and_wire_type(converter: Converter, value: Any, expected: Any) -> None:
    """A number as text and a text as number are the same (protocol.md, E1)."""
    made = converter.convert(value, Scope(ZoneInfo("Asia/Shanghai")))
    assert (type(expected), expected) == (type(made), made)


def test_drift_is_bounded() -> None:
    """However much is odd about a callback, its labels are few and short."""
    scope = Scope(ZoneInfo("Asia/Shanghai"))
    for number in range(1000):
        scope.note("field", f"{number}\x00")
        scope.note("field", "x" * number)
    assert fields.MOST_LABELS == len(scope.drift)
    assert all(len(label) < 64 and label.isprintable() for label in scope.drift)
