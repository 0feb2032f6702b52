"""JSON is read without losing a digit."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.callbacks import jsontext
from gateway.errors import CallbackRejected
from tests.rows import rows

OBJECTS = st.dictionaries(
    st.text(max_size=5),
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(max_size=9),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
        max_leaves=6,
    ),
    max_size=5,
)


@given(OBJECTS, st.sampled_from([None, 2]))
def test_the_text_says_what_was_sent(value: dict[str, Any], indent: int | None) -> None:
    """Pretty-printed or not, with a BOM or not, the kept text holds the same values on one line."""
    body = json.dumps(value, indent=indent).encode()
    parsed = jsontext.parse(b"\xef\xbb\xbf" + body + b"\r\n")
    assert b"\n" not in parsed.text
    assert json.loads(body) == json.loads(parsed.text)


@given(OBJECTS)
def test_taking_apart_and_writing_again_loses_nothing(value: dict[str, Any]) -> None:
    """What is written again after a lossless parse has the numbers of the original, digit by digit."""
    text = jsontext.parse(json.dumps(value).encode()).text
    again = orjson.dumps(jsontext.lossless(text))
    assert json.loads(text, parse_float=str, parse_int=str) == json.loads(again, parse_float=str, parse_int=str)


@given(OBJECTS, st.randoms())
def test_the_canonical_form_ignores_order(value: dict[str, Any], random: Any) -> None:
    """Two objects with the same members have one canonical form where doubles hold their numbers."""
    items = list(value.items())
    random.shuffle(items)
    one, other = (jsontext.parse(json.dumps(dict(order)).encode()) for order in (value.items(), items))
    exact = isinstance(one.fields, dict) and one.fields == value
    assert not exact or one.canonical == other.canonical or one.canonical == one.text


@rows(
    ("number", "expected"),
    [
        ("1.0", 1.0),
        ("0.0360", 0.036),
        ("123456789012345", 123456789012345),
        ("18446744073709551615", "18446744073709551615"),
        ("18446744073709551616", "18446744073709551616"),
        ("-12345678901234567890", "-12345678901234567890"),
        ("0.12345678901234567", "0.12345678901234567"),
        ("1234567890.1234567", "1234567890.1234567"),
    ],
)
def test_numbers_that_a_double_cannot_hold_are_text(number: str, expected: object) -> None:
    """A number with more digits than a double keeps comes as the text it was written as, anywhere in the body."""
    for body in ('{"a":%s}', '{ "a" : %s }', '{"b":[0,%s]}', '{"b":["12345678901234567890 in text", %s]}'):
        (found,) = jsontext.parse((body % number).encode()).fields.values()
        value = found[1] if isinstance(found, list) else found
        assert (type(expected), expected) == (type(value), value)


def test_half_a_pair_is_kept_as_its_text() -> None:
    """A lone surrogate becomes the six letters it was written as; whole pairs and escaped backslashes stay."""
    body = rb'{"a":"\ud83d x \ud83d\ude00 \\ud83d \ude00\ud83d","b":1}'
    parsed = jsontext.parse(body)
    assert "\\ud83d x 😀 \\ud83d \\ude00\\ud83d" == parsed.fields["a"]
    assert parsed.fields == orjson.loads(parsed.text)


@rows(
    ("body", "kind"),
    [
        (b'[{"a":1}]', "array"),
        (b"\xef\xbb\xbf [] \r\n", "array"),
        (b'"{}"', "string"),
        (b"1.5", "number"),
        (b"1", "number"),
        (b"true", "boolean"),
        (b"null", "null"),
        (b"{}", "object"),
        (b"", None),
        (b"[1", None),
        (b"a=1", None),
        (b"[" * 2000, None),
    ],
)
def test_a_body_is_called_what_it_is(body: bytes, kind: str | None) -> None:
    """By the standard's word (RFC 8259, section 3); what is not JSON has none."""
    assert kind == jsontext.kind(body)


@rows(
    "body",
    [b"", b"x", b"[]", b"1", b'"a"', b'{"a":1}x', b'{"a":NaN}', b'{"a":Infinity}', b'{"a":1e400}', b'{"a":"\xff"}',
     b"{'a':1}", b'{"a":01}', b'{"a":"\n"}', b"{" * 2000, b'{"a":' * 251 + b"1" + b"}" * 251],
)  # fmt: skip
def test_what_is_no_object_is_refused(body: bytes) -> None:
    """What is not a JSON object, or nested deeper than an event may be, is refused with a reason."""
    with pytest.raises(CallbackRejected) as refusal:
        jsontext.parse(body)
    assert refusal.value.reason


NAMES = st.sampled_from(["a", "b", "id", 'q"', "u\\", "é", "\U0001f600"])
SCALARS = st.sampled_from(
    [1, 1.5, "x", 'say "x"', "\\", '\\"', "", None, True, "\n", "é", 1e-7, 12345678901234567890123]
)


class Pairs(list[tuple[str, Any]]):
    """An object by its members, whose names may repeat."""


DOCUMENTS = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.lists(st.tuples(NAMES, inner), max_size=4).map(Pairs),
    max_leaves=8,
)


def written(value: Any, comma: str, colon: str, *, is_ascii: bool) -> str:
    """The JSON of a document, its repeated names included."""
    if isinstance(value, Pairs):
        members = (
            json.dumps(name, ensure_ascii=is_ascii) + colon + written(one, comma, colon, is_ascii=is_ascii)
            for name, one in value
        )
        return "{" + comma.join(members) + "}"
    if isinstance(value, list):
        return "[" + comma.join(written(one, comma, colon, is_ascii=is_ascii) for one in value) + "]"
    return json.dumps(value, ensure_ascii=is_ascii)


def repeated(value: Any) -> set[str]:
    """The names that some object of a document has more than once."""
    if not isinstance(value, list):
        return set()
    names = [name for name, _ in value] if isinstance(value, Pairs) else []
    inner = [one for _, one in value] if isinstance(value, Pairs) else value
    return {name for name in names if names.count(name) > 1}.union(*map(repeated, inner))


@given(
    st.lists(st.tuples(NAMES, DOCUMENTS), max_size=4).map(Pairs),
    st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", "\t:")]),
    st.booleans(),
)
def test_names_that_an_object_has_twice_are_found(document: Pairs, between: tuple[str, str], is_ascii: bool) -> None:
    """At any depth, however the text is set; and none is found that is not there twice."""
    parsed = jsontext.parse(written(document, *between, is_ascii=is_ascii).encode())
    assert repeated(document) == set(parsed.duplicates)
    if document:
        text, name = written(document, *between, is_ascii=is_ascii), document[-1][0]
        as_text = json.loads(text, parse_int=str, parse_float=str)
        assert parsed.fields[name] in (json.loads(text)[name], as_text[name]), "the last one counts"


@rows(
    ("body", "names"),
    [
        (b'{"id":"first","id":"second","amount":1,"amount":999}', ("id", "amount")),
        (b'{"a":1,"\\u0061":2}', ("a",)),
        (b'{"a":"\\u0022\\u0022","b":1,"b":"\\u0022\\u0022"}', ("b",)),
        (b'{"a":"\\u0022\\u0022","b":1}', ()),
        (b'{"x":[{"a":1},{"a":1}],"a":1}', ()),
        (b'{"x":[[{"a":1,"a":1}]]}', ("a",)),
        (b'{"a":1e5,"b":[],"b":[]}', ("b",)),
        (b'\xef\xbb\xbf { "n" : 12345678901234567890123 , "n" : 1 }', ("n",)),
        (b'{"t":"\\ud83d","t":"\\ud83d"}', ("t",)),
        (b'{"":1,"":2}', ("",)),
    ],
)
def test_duplicate_names(body: bytes, names: tuple[str, ...]) -> None:
    """Escaped names are names, escaped quotes are none; long numbers and half pairs change nothing."""
    assert names == jsontext.parse(body).duplicates


def test_many_duplicates_are_bounded() -> None:
    """Sixteen names are enough; of a long body only the fact is known."""
    body = ",".join(f'"n{number % 40}":1' for number in range(80)).join("{}").encode()
    assert tuple(f"n{number}" for number in range(16)) == jsontext.parse(body).duplicates
    assert ("?",) == jsontext.parse(b'{"a":"' + b"x" * 70_000 + b'","a":1}').duplicates


@given(OBJECTS, st.sampled_from([None, 2]))
def test_an_ordinary_object_has_no_duplicates(value: dict[str, Any], indent: int | None) -> None:
    """Whatever its values, compact or not."""
    assert () == jsontext.parse(json.dumps(value, indent=indent).encode()).duplicates
