"""Hostile bodies, well framed: JSON, forms and compressed ones that cost much, mean two things, or are nothing."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from typing import Final

from tests.hostile.corpus import ANY_ANSWER, Case, sized

_JSON: Final = b"Content-Type: application/json"
_FORM: Final = b"Content-Type: application/x-www-form-urlencoded"
_MIB: Final = 1024 * 1024
_TYPES: Final = (
    b"",
    b"text/html",
    b"application/json; charset=utf-16",
    b"application/json; charset=rot13",
    b"multipart/form-data",
    b"multipart/form-data; boundary=" + b"x" * 5000,
    b"application/x-www-form-urlencoded; charset=\xff",
    b"/;/;=",
    b"application/json" + b";" * 5000,
)
_STATUS: Final = b'{"statuses":[{"id":"h-2","status":"sent","timestamp":%b,"recipient_id":"15550100200"}]}'


def cases() -> Iterator[Case]:
    """All of them."""
    for name, body in _json().items():
        for path in ("whatsapp", "callbot-task", "messenger"):
            yield _case(f"json-{name}-{path}", body, _JSON, path)
    for name, body in _form().items():
        yield _case(f"form-{name}", body, _FORM, "sms-dr")
    for name, (body, coding) in _compressed().items():
        yield _case(f"compressed-{name}", body, _JSON + b"\r\nContent-Encoding: " + coding, "whatsapp")
    for number, kind in enumerate(_TYPES):
        yield _case(f"type-{number}", b'{"a":"b"}', b"Content-Type: " + kind, "sms-dr")
        yield _case(f"type-{number}-whatsapp", b'{"a":"b"}', b"Content-Type: " + kind, "whatsapp")


def _case(name: str, body: bytes, line: bytes, path: str) -> Case:
    return Case(name, (sized(body, line, target=b"/callbacks/" + path.encode()),), ANY_ANSWER, must_answer=True)


def _json() -> dict[str, bytes]:
    deep, many = 100_000, range(10_000)
    return {
        "deep-lists": b"[" * deep + b"]" * deep,
        "deep-lists-open": b"[" * 500_000,
        "deep-objects": b'{"a":' * deep + b"1" + b"}" * deep,
        "deep-inside": _STATUS % (b"[" * 2000 + b"]" * 2000),
        "huge-integer": _STATUS % (b"9" * 100_000),
        "huge-exponent": _STATUS % b"1e999999999",
        "huge-fraction": _STATUS % (b"0." + b"1" * 200_000),
        "minus-zero": _STATUS % b"-0",
        "nan": _STATUS % b"NaN",
        "infinity": _STATUS % b"-Infinity",
        "far-future": _STATUS % b'"99999999999999999999"',
        "before-time": _STATUS % b"-99999999999",
        "duplicate-keys": b'{"statuses":[],"statuses":[{"id":"a","id":"b","status":"sent","status":"read"}]}',
        "lone-surrogate": b'{"statuses":[{"id":"\\ud800","status":"\\udfff","timestamp":"1"}]}',
        "lone-surrogate-key": b'{"\\ud800":1}',
        "nul": b'{"statuses":[{"id":"a\\u0000b","status":"sent","timestamp":"1"}]}',
        "raw-nul": b'{"statuses":[{"id":"a\x00b"}]}',
        "raw-control": b'{"a":"\x01\x1f\x7f"}',
        "not-utf8": b'{"statuses":[{"id":"\xff\xfe\xc0\xaf","status":"sent"}]}',
        "cut-in-a-letter": '{"id":"好"}'.encode()[:-3],
        "utf16": '{"statuses":[]}'.encode("utf-16"),
        "mark-before": b"\xef\xbb\xbf" + _STATUS % b"1",
        "empty": b"",
        "blank": b" " * 10_000,
        "null": b"null",
        "number": b"1",
        "text": b'"statuses"',
        "wrong-types": b'{"statuses":{"id":[{}]},"messages":5,"contacts":"x","event":[null]}',
        "nulls": b'{"statuses":[null,null],"messages":[[]],"contacts":null}',
        "ten-thousand-items": b'{"statuses":[%b]}' % b",".join(b'{"id":"%d","status":"sent"}' % n for n in many),
        "ten-thousand-keys": json.dumps({f"k{n}": n for n in many}).encode(),
        "long-text": _STATUS % (b'"' + b"x" * 900_000 + b'"'),
        "proto": b'{"__proto__":{"a":1},"__class__":"x","constructor":{"prototype":{}}}',
        "too-large": b'{"a":"' + b"x" * (2 * _MIB) + b'"}',
    }  # fmt: skip


def _form() -> dict[str, bytes]:
    return {
        "many-fields": b"&".join(b"k%d=v" % number for number in range(50_000)),
        "one-field-often": b"messageid=a&" * 50_000,
        "bad-escapes": b"messageid=%zz%&phone=%u0041&status=%",
        "not-utf8": b"messageid=%ff%fe&phone=1&status=2&ext=\xff\xfe\x80",
        "nul": b"messageid=a%00b&phone=1\x00&status=2",
        "lone-surrogate": b"messageid=%ed%a0%80&phone=1&status=2",
        "long-value": b"messageid=a&phone=1&status=2&ext=" + b"x" * 900_000,
        "huge-number": b"messageid=a&phone=" + b"9" * 100_000 + b"&status=" + b"9" * 5000 + b"&rate=1e999999",
        "odd-digits": "messageid=a&phone=٠١٢٣&status=²&rate=½&drtime=٢٠٢٤-01-02 03:04:09".encode(),
        "times": b"messageid=a&phone=1&status=2&drtime=9999-99-99 99:99:99&sendtime=0000-00-00 00:00:00",
        "far-times": b"messageid=a&phone=1&status=2&drtime=9999-12-31 23:59:59&sendtime=0001-01-01 00:00:00",
        "only-equals": b"=" * 100_000,
        "only-ampersands": b"&" * 900_000,
        "plus": b"+" * 900_000,
        "control": b"messageid=a\r\nb&phone=1\x1b[2J&status=2\x7f",
        "too-large": b"messageid=a&ext=" + b"x" * (2 * _MIB),
    }


def _compressed() -> dict[str, tuple[bytes, bytes]]:
    sound = _STATUS % b'"1704164649"'
    bomb = gzip.compress(bytes(64 * _MIB), 9)
    return {
        "bomb-gzip": (bomb, b"gzip"),
        "bomb-deflate": (zlib.compress(bytes(64 * _MIB), 9), b"deflate"),
        "bomb-in-a-bomb": (gzip.compress(bomb), b"gzip, gzip"),
        "bomb-of-members": (gzip.compress(bytes(_MIB)) * 100, b"gzip"),
        "cut": (gzip.compress(sound * 100)[:-20], b"gzip"),
        "garbage": (b"\x1f\x8b" + bytes(range(256)) * 10, b"gzip"),
        "not-compressed": (sound, b"gzip"),
        "garbage-behind": (gzip.compress(sound) + b"garbage" * 100, b"gzip"),
        "unknown": (sound, b"snappy"),
        "identity": (sound, b"identity"),
        "nonsense": (sound, b",,,gzip;q=x,\x01"),
    }
