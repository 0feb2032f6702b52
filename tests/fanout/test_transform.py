from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import ConfigError, Poison
from gateway.fanout.transform import REQUIRED, Transform
from tests.rows import rows

EVENT: dict[str, Any] = {
    "specversion": "1.0",
    "id": "e1",
    "source": "/nxcloud/sms-dr",
    "type": "nxcloud.sms.dr",
    "subject": "m-1",
    "data": {"to": "+62812", "price": {"total": "0.02", "currency": "USD"}, "raw": {"to": "62812"}, "list": [1, 2]},
}
HEAD = {name: EVENT[name] for name in ("specversion", "id", "source", "type")}


@rows(
    ("include", "exclude", "left"),
    [
        ([], ["data.raw"], {**EVENT, "data": {k: v for k, v in EVENT["data"].items() if k != "raw"}}),
        ([], ["data", "subject"], HEAD),
        (["data.to"], [], {**HEAD, "data": {"to": "+62812"}}),
        (["data.price.total", "subject"], [], {**HEAD, "subject": "m-1", "data": {"price": {"total": "0.02"}}}),
        (
            ["data"],
            ["data.raw", "data.list", "data.price.currency"],
            {**HEAD, "data": {"to": "+62812", "price": {"total": "0.02"}}},
        ),
        (["data.absent", "data.to.deeper", "data.list.0"], [], HEAD),
        ([], ["data.absent.deeper", "account", "data.list.0"], EVENT),
    ],
)
def test_include_and_exclude(include: list[str], exclude: list[str], left: dict[str, Any]) -> None:
    """Include first, then exclude; what is not there is no error; lists are whole or not at all."""
    assert orjson.loads(Transform(include, exclude).apply(orjson.dumps(EVENT))) == left


paths = st.lists(
    st.sampled_from(["data", "data.to", "data.price", "data.price.total", "data.raw", "subject"]), max_size=4
)


@given(include=paths, exclude=paths)
def test_it_stays_an_event_and_invents_nothing(include: list[str], exclude: list[str]) -> None:
    """Any paths: what CloudEvents requires is there, and every field that is left is one of the event's."""

    def is_part(left: Any, whole: Any) -> bool:
        if isinstance(left, dict):
            return all(name in whole and is_part(value, whole[name]) for name, value in left.items())
        return bool(left == whole)

    left = orjson.loads(Transform(include, exclude).apply(orjson.dumps(EVENT)))
    assert left.keys() >= REQUIRED
    assert is_part(left, EVENT)


def test_all_bad_paths_at_once() -> None:
    """Also those that would make it no event any more."""
    with pytest.raises(ConfigError) as caught:
        Transform(["Data.to", "ok"], ["id", "data..x"])
    assert [problem.split(": ")[0] for problem in caught.value.problems] == [
        "transform.include[0]",
        "transform.exclude[1]",
        "transform.exclude",
    ]


@rows(
    "number",
    ["0.10", "0.0360", "1.0", "-0", "1E5", "12345678901234567890123", "-9223372036854775809", "0.1" + "0" * 30],
)
@rows("blank", ["", " "])
def test_numbers_keep_their_digits(number: str, blank: str) -> None:
    """``data.raw`` is lossless, also for a subscriber that gets only a part of the event."""
    event = '{"specversion":"1.0","id":"x","source":"s","type":"t","data":{"raw":{"price":%s%s,"ids":[1,%s]}%s}}'
    whole = event % (blank, number, number, ',"ext":"x"')
    left = Transform(exclude=["data.ext"]).apply(whole.encode())
    assert event % ("", number, number, "") == left.decode()
    assert left == Transform(include=["data.raw"]).apply(whole.encode())


@rows("value", [b"", b"not json", b"[1]", b'"text"'])
def test_what_is_no_object_is_poison(value: bytes) -> None:
    """It can never be sent to this subscriber."""
    with pytest.raises(Poison):
        Transform(exclude=["data.raw"]).apply(value)


def test_what_is_nested_too_deeply_is_poison() -> None:
    """It can be read and not written again; our own decoders stop before that, other producers may not."""
    with pytest.raises(Poison):
        Transform(exclude=["data.raw"]).apply(b'{"id":"x","data":{"raw":%s1%s}}' % (b"[" * 300, b"]" * 300))
