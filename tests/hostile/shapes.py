"""Bodies that cost the most for their size, at any size: many of something, deep, long, repeated, or cut off."""

from __future__ import annotations

from typing import Final

SIZES: Final = (1024, 16 * 1024, 64 * 1024, 1024 * 1024)

_STATUS: Final = b'{"id":"%d","status":"sent"},'


def shapes(size: int) -> dict[str, bytes]:
    """Name and body of each shape; none is larger than ``size``."""
    return {name: body[:size] for name, body in {**json_shapes(size), **form_shapes(size)}.items()}


def _filled(head: bytes, unit: bytes, tail: bytes, size: int) -> bytes:
    """As many units as fit between head and tail; the comma behind the last goes."""
    count = max(1, (size - len(head) - len(tail)) // len(unit))
    return head + (unit * count).rstrip(b",") + tail


def _numbered(head: bytes, unit: bytes, tail: bytes, size: int) -> bytes:
    """As :func:`_filled`, with the number of the unit in each."""
    count = max(1, (size - len(head) - len(tail)) // (len(unit) + 4))
    return head + b"".join(unit % number for number in range(count)).rstrip(b",") + tail


def json_shapes(size: int) -> dict[str, bytes]:
    """JSON objects, most of them as a WhatsApp callback has them."""
    half = size // 2
    envelope = b'{"app_id":"%b","business_phone":"15550100200","statuses":[' % (b"a" * 900)
    metadata = _numbered(b'{"metadata":{', b'"k%d":1,', b"},", half)
    metadata_text = _numbered(b'{"metadata":"{', b'\\"k%d\\":1,', b'}",', half).replace(b',}"', b'}"')
    contact = _numbered(b'{"contacts":[{"wa_id":"1",', b'"k%d":1,', b"}],", half)
    return {
        "items": _numbered(b'{"statuses":[', _STATUS, b"]}", size),
        "empty items": _filled(b'{"statuses":[', b"{},", b"]}", size),
        "list items": _filled(b'{"messages":[', b"[],", b"]}", size),
        "null items": _filled(b'{"calls":[', b"null,", b"]}", size),
        "items in a text": _filled(b'{"statuses":"[', b"{},", b']"}', size),
        "items with an envelope": _numbered(envelope, _STATUS, b"]}", size),
        "items and a long text": _numbered(
            b'{"wabaId":"%b","statuses":[' % (b" " * half), b'{"id":"%d"},', b"]}", size
        ),
        "items and metadata": metadata + _numbered(b'"statuses":[', _STATUS, b"]}", min(half, 28_000)),
        "items and metadata in a text": metadata_text + _numbered(b'"statuses":[', _STATUS, b"]}", min(half, 28_000)),
        "items and one contact": contact + _numbered(b'"statuses":[', _STATUS, b"]}", min(half, 28_000)),
        "items of three lists": _numbered(b'{"statuses":[', _STATUS, b"],", size // 3)
        + _numbered(b'"messages":[', b'{"id":"%d","from":"1"},', b"],", size // 3)
        + _numbered(b'"calls":[', b'{"call_id":"%d"},', b"]}", size // 3),
        "values": _filled(b'{"field":"account_update","value":[', b'{"a":1},', b"]}", size),
        "empty values": _filled(b'{"field":"history","value":[', b"{},", b"]}", size),
        "values of items": _filled(b'{"field":"x","value":[', b'{"statuses":[{"id":"1"},{"id":"2"}]},', b"]}", size),
        "costs": _filled(b'{"statuses":[{"id":"1","status":"sent","costs":[', b'{"price":1},', b"]}]}", size),
        "empty costs": _filled(b'{"statuses":[{"id":"1","status":"sent","costs":[', b"{},", b"]}]}", size),
        "contacts": _filled(b'{"messages":[{"id":"1","from":"1","contacts":[', b'{"phones":[{},{}]},', b"]}]}", size),
        "products": _filled(b'{"messages":[{"id":"1","order":{"product_items":[', b'{"a":1},', b"]}}]}", size),
        "people": _numbered(b'{"contacts":[', b'{"wa_id":"%d"},', b'],"statuses":[{"id":"1"},{"id":"2"}]}', size),
        "keys": _numbered(b"{", b'"k%d":1,', b"}", size),
        "one key often": _filled(b'{"id":"1","status":"x",', b'"id":1,', b"}", size).replace(b",}", b"}"),
        "deep lists": b'{"a":' + b"[" * (half - 3) + b"]" * (half - 3) + b"}",
        "deep objects": b'{"a":' * (size // 6 - 3) + b"1" + b"}" * (size // 6 - 3),
        "open lists": b'{"a":' + b"[" * (size - 5),
        "lists": _filled(b'{"a":[', b"[],", b"]}", size),
        "objects": _filled(b'{"a":[', b'{"a":1},', b"]}", size),
        "numbers": _filled(b'{"a":[', b"1,", b"]}", size),
        "fractions": _filled(b'{"statuses":[{"id":"1"},{"id":"2"}],"a":[1.5,', b"1,", b"]}", size),
        "long numbers": _filled(b'{"a":[', b"1234567890123456789012345,", b"]}", size),
        "digits": b'{"statuses":[{"id":' + b"9" * (size - 21) + b"}]}",
        "a fraction of digits": b'{"statuses":[{"id":0.' + b"9" * (size - 23) + b"}]}",
        "colons and digits": b'{"a":"' + b":1" * (half - 5) + b'","b":1.5}',
        "commas and spaces": b'{"a":1,' + b" " * (size - 20) + b'"b":1.5}',
        "escapes": b'{"a":"' + b"\\n" * (half - 5) + b'"',
        "half surrogates": b'{"a":"' + b"\\ud800" * (size // 6 - 3) + b'"}',
        "whole surrogates": b'{"a":"' + b"\\ud83d\\ude00" * (size // 12 - 3) + b'"',
        "quotes": b'{"a":"' + b'\\"' * (half - 5) + b'"}',
        "unbalanced quotes": b"{" + b'"' * (size - 1),
        "line ends": b"{" + b"\r\n" * (half - 2) + b"}",
        "a long text": b'{"id":"1","status":"sent","from":"' + b"x" * (size - 40) + b'"}',
        "a text of control characters": b'{"id":"1","from":"1","text":"' + b"\\u0001" * (size // 6 - 10) + b'"}',
        "long key": b'{"' + b"k" * (size - 8) + b'":1}',
    }


def form_shapes(size: int) -> dict[str, bytes]:
    """Forms, multipart forms and listings."""
    half = size // 2
    third = size // 3
    return {
        "names": b"&".join(b"k%d=v" % number for number in range(size // 10)),
        "parts": b"a&" * half,
        "one name often": b"messageid=a&" * (size // 12),
        "ampersands": b"&" * size,
        "equals": b"=" * size,
        "plus": b"messageid=" + b"+" * (size - 10),
        "percents": b"messageid=" + b"%" * (size - 10),
        "escaped": b"messageid=" + b"%41" * (third - 5),
        "escaped ampersands": b"%26&" * (size // 4),
        "escaped line ends": b"messageId:" + b"%0a" * (third - 5) + b"x",
        "not utf-8": b"messageid=" + b"\xff" * (size - 10),
        "fields that are not utf-8": b"a=\xff&" * (size // 4),
        "fields in gbk": b"a=\xc4\xe3\xba\xc3&" * (size // 7),
        "separators in html": b"messageid=1" + b"&amp;a=1" * (size // 8 - 2),
        "half characters": b"messageid=" + b"\xe4\xbd" * (half - 5),
        "control characters": b"messageid=a&ext=" + b"\x01" * (size - 16),
        "listing of line ends": b"messageId:" + b"\n" * (size - 11) + b"x",
        "listing of spaces and line ends": b"messageId:" + b" \n" * (half - 6) + b"x",
        "listing of carriage returns": b"messageId:" + b"\r" * (size - 11) + b":",
        "listing of commas": b"messageId:" + b"," * (size - 10),
        "listing of commas and spaces": b"messageId:" + b", " * (half - 5),
        "listing of names": b"messageId:" + b",a:" * (third - 5),
        "listing of words": b"messageId:" + b",a" * (half - 6) + b":",
        "listing of one word": b"messageId:," + b"a" * (size - 11),
        "listing of a text": b"messageId:1,content:" + b",a:" * (third - 10),
        "listing of addresses": b"messageId:" + b",http://" * (size // 8 - 2),
        "boundaries": b"--\n" + b"--" * (half - 2),
        "boundaries and names": b"--b\n" + b'--b\nname="a"\n\nv\n' * (size // 17 - 1),
        "open names": b"--b\n" + b'name="' * (size // 6 - 1),
        "names without quotes": b"--b\n" + b"name=" * (size // 5 - 1),
        "line ends in parts": b"--b\n" + b"\r\n" * (half - 2),
        "white space": b" \t\r\n" * (size // 4),
        "nul": b"\0" * size,
        "braces": b"{" * size,
        "escaped braces": b"%7B" * third,
        "escaped object": b"%7B%22a%22%3A" + b"%5B" * (third - 10),
    }
