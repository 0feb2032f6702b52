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
from gateway.callbacks.field_mapping import UNUSABLE
from gateway.callbacks.fields import Converter, Scope, UnknownValue
from gateway.callbacks.vocabulary import MESSAGE_STATUS
from tests.effort import examples
from tests.rows import rows

ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@rows(
    ("text", "expected", "is_national"),
    [
        ("15550100200", "+15550100200", False),
        ("+15550100200", "+15550100200", False),
        (" 15550100200", "+15550100200", False),
        ("0015550100200", "+15550100200", False),
        ("+1 (555) 010-0200", "+15550100200", False),
        ("62 811 0000 0001", "+6281100000001", False),
        ("+44 (0)20 7946 0958", "+442079460958", False),
        ("628123456789", "+628123456789", False),
        ("106900001234", "106900001234", True),  # a service number: +1 has eleven digits
        ("+106900001234", "106900001234", True),
        ("99912345678", "99912345678", True),  # no country has 999
        ("1001", "1001", True),
        ("02112345678", "02112345678", True),
        ("1234567890123456", "1234567890123456", True),
        ("sip:1001@192.0.2.10:5060", "sip:1001@192.0.2.10:5060", False),
        ("ACME", "ACME", False),
        ("1555****200", "1555****200", False),
        ("١٥٥٥٠١٠٠٢٠٠", "١٥٥٥٠١٠٠٢٠٠", False),
        ("+", "+", False),
        ("", "", False),
    ],
)
def test_numbers_whose_page_states_a_country_code(text: str, expected: str, is_national: bool) -> None:
    """A number that has one gets one ``+``, if the code exists and the length is right; other digits stay digits."""
    assert (expected, is_national) == phones.certain(text)


@rows("text", ["15550100200", "13800000001", "812345613", "85230000001"])
def test_numbers_of_which_no_page_says_anything(text: str) -> None:
    """They stay digits, however much they look like a number of some country; a mark makes them certain."""
    assert (text, True) == phones.uncertain(text)
    assert ("+85230000001", False) == phones.uncertain("+85230000001")


@rows(
    ("number", "code", "expected"),
    [
        ("15550100200", "1", "+15550100200"),
        ("13800001111", "86", "+8613800001111"),
        ("013800001111", "86", "+8613800001111"),
        ("8613800001111", "+86", "+8613800001111"),
        ("+15550100200", "86", "+15550100200"),
        ("55987053821", "55", "+5555987053821"),  # area code 55 in Brazil
        ("85987053821", "55", "+5585987053821"),
        ("5585987053821", "55", "+5585987053821"),
        ("8110000001", "62", "+628110000001"),
        ("0612345678", "39", "+390612345678"),
        ("1001", "86", "1001"),
        ("15550100200", "US", "15550100200"),
        ("4915112345678", "49", "4915112345678"),  # both readings have a right length
    ],
)
def test_a_country_code_of_its_own_makes_the_number_whole(number: str, code: str, expected: str) -> None:
    """A number whose code is in another field becomes whole, with it or without; where both may be, digits stay."""
    found = phones.with_country(number, code)
    assert expected == found.text
    assert found.is_national == (expected[:1] != "+")


def test_a_page_decides_between_two_readings() -> None:
    """Where the page says that numbers have their code, a number that may be read both ways has it."""
    assert "+4915112345678" == phones.with_country("4915112345678", "49", is_stated=True).text


@given(st.from_regex(r"[0-9]{1,16}", fullmatch=True), st.sampled_from(["", "1", "62", "49", "39"]))
def test_a_plus_has_a_country_that_exists(digits: str, country: str) -> None:
    """Whatever digits come, a ``+`` is followed by a country code that exists and a length of that country."""
    for number in (phones.certain(digits, country), phones.uncertain(digits, country)):
        assert number.is_national == (number.text[:1] != "+")
        assert number.is_national or phones.has_country(number.text[1:])
        assert digits.lstrip("0") in number.text or number.text.lstrip("+0") in digits


@rows(
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


@rows("value", ["free", "NaN", "Infinity", "1e999999999", "1e-400", "9" * 100, float("inf"), True, [], {}, "1,5"])
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
    fields.words({"1": "sent"}, MESSAGE_STATUS),
    fields.facts({"1": True}),
    fields.phone("to_national", phones.certain),
]


@rows("converter", CONVERTERS, ids=lambda converter: converter.name)
@given(value=ANY_JSON)
@settings(max_examples=examples(25))
def test_a_converter_gives_json_or_refuses(converter: Converter, value: Any) -> None:
    """Any JSON value becomes something that can be stored, nothing, or one of the refusals a table expects."""
    if value is None or value == "":
        return
    try:
        made = converter.convert(value, Scope(ZoneInfo("Asia/Shanghai")))
    except UnknownValue as odd:
        made = odd.value
    except UNUSABLE:
        return
    orjson.dumps(made)


@rows(
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
        (fields.phone("to_national", phones.certain), 15550100200, "+15550100200"),
        (fields.duration, "12.5", 12.5),
        (fields.number, "121.473701", 121.473701),
        (fields.flag, "true", True),
        (fields.flag, 0, False),
        (fields.flag, "No", False),
        (fields.texts, "a", ["a"]),
        (fields.texts, ["a", None, 5], ["a", "5"]),
        (fields.texts, '["a", "b"]', ["a", "b"]),
        (fields.texts, ["null", "a"], ["a"]),
        (fields.is_time, "0", False),
        (fields.is_time, 0.0, False),
        (fields.is_time, 1735000000, True),
        (fields.is_time, "2024-01-02 03:04:05", True),
        (fields.words({"DELIVRD": "delivered"}, MESSAGE_STATUS), "delivrd ", "delivered"),
        (fields.words({"2": "delivered"}, MESSAGE_STATUS), 2, "delivered"),
        (fields.words({"2": "delivered"}, MESSAGE_STATUS), "02", "delivered"),
        (fields.words({"2": "delivered"}, MESSAGE_STATUS), "2.0", "delivered"),
        (fields.words({"0": "sent"}, MESSAGE_STATUS), "00", "sent"),
        (fields.facts({"2": True, "5": False}), 2, True),
        (fields.facts({"2": True, "5": False}), "05", False),
    ],
)
def test_declared_type_and_wire_type(converter: Converter, value: Any, expected: Any) -> None:
    """A number as text and a text as number are the same (protocol.md, E1)."""
    made = converter.convert(value, Scope(ZoneInfo("Asia/Shanghai")))
    assert (type(expected), expected) == (type(made), made)


@rows(
    "value",
    [-1, "-1", False, "None", "-", "00:00:00", "0000-00-00 00:00:00", "1970-01-01 08:00:00", [], "1_735_000_000"],
)
def test_what_is_no_time_of_an_answer(value: Any) -> None:
    """A value that cannot be the time of an answer does not say that there was one."""
    with pytest.raises(ValueError):  # noqa: PT011 - several reasons, one kind
        fields.is_time.convert(value, Scope(ZoneInfo("Asia/Shanghai")))


@rows("text", ["1_0", "1_000.0", "0x10", "1e3 ", "--1", "", "2_"])
@rows("converter", [fields.integer, fields.number, fields.duration, fields.money])
def test_notations_of_programs(converter: Converter, text: str) -> None:
    """A number has no notation that only a programming language has."""
    try:
        made = converter.convert(text, Scope(ZoneInfo("Asia/Shanghai")))
    except ValueError:
        return
    assert made in (None, 1000, "1000")
    assert "_" not in text


@rows("word", sorted(fields.NULL_WORDS))
@rows("converter", [one for one in CONVERTERS if one is not fields.written])
def test_words_for_nothing(converter: Converter, word: str) -> None:
    """What languages write for a value that they do not have is no id, number, time, flag or code, and no drift."""
    scope = Scope(ZoneInfo("Asia/Shanghai"))
    assert converter.convert(word, scope) is None
    assert [] == scope.drift
    assert word == fields.written.convert(word, scope)


def test_words_are_of_the_vocabulary() -> None:
    """A table cannot have a word that the vocabulary of its name lacks."""
    with pytest.raises(ValueError, match="vocabulary lacks: \\['done'\\]"):
        fields.words({"1": "done"}, MESSAGE_STATUS)


def test_drift_is_bounded() -> None:
    """However much is odd about a callback, its labels are few and short."""
    scope = Scope(ZoneInfo("Asia/Shanghai"))
    for number in range(1000):
        scope.note("field", f"{number}\x00")
        scope.note("field", "x" * number)
    assert fields.MOST_LABELS == len(scope.drift)
    assert all(len(label) < 64 and label.isprintable() for label in scope.drift)


@given(st.from_regex(r"[+ ]?[0-9]{1,16}|\w{1,5}", fullmatch=True), st.sampled_from(["", "62"]))
@pytest.mark.parametrize("read", [phones.certain, phones.uncertain])
def test_a_field_reads_numbers_as_the_module_does(read: phones.Read, text: str, country: str) -> None:
    """The short way for plain digits gives what the whole reading gives, and the flag with it."""
    scope = Scope(ZoneInfo("Asia/Shanghai"), country=country)
    number = read(text, country)
    assert (number.text or None) == fields.phone("to_national", read).convert(text, scope)
    assert number.is_national == (scope.national is not None)
