"""One request as received, and its bytes parsed to named fields, independent of HTTP library and content type.

Senders declare a wrong type or none (protocol.md, E5), put form fields into the query, the body or both
(sections 1 and 4), and send JSON in place of a documented form and the reverse. The bytes decide: a body that begins
with ``{`` is JSON, any other body is a form. Undocumented additional layers are removed: JSON in a JSON string, JSON in
a field of a form, a form whose ``&`` was escaped for HTML. Each is drift, and so is an undeclared character set.

A field in both query and body has the value of the body: the query is configured once, with the address, and the body
is created for the callback. A difference is drift.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Literal, NamedTuple

import orjson

from gateway.callbacks import form, jsontext
from gateway.callbacks.charset import UTF_8_MARK, Decoding, NotUtf8, declared, unescaped_bytes
from gateway.callbacks.fields import MOST_LABELS, NULL_WORDS
from gateway.errors import CallbackRejected

Layout = Literal["form", "json"]

#: Values that are equivalent to an absent field. Created once, as every callback with two schemas uses it.
_NOTHING: Final[tuple[Any, ...]] = (None, {}, [])
_NO_WORDS: Final = frozenset({"", *NULL_WORDS})
_ESCAPED_BRACE: Final = frozenset({b"%7B", b"%7b"})
_BOUNDARY: Final = b"--"
_LINE_ENDS: Final = b"\r\n\t"
#: First bytes of a body that is neither a plain form nor a JSON object: escaped JSON, JSON in a string, an array, a
#: byte order mark of UTF-16. For other bodies the test of one byte replaces all these checks.
_UNUSUAL: Final = frozenset({b"%", b'"', b"[", b"\0", b"\xfe", b"\xff"})
#: A field separator that was escaped for HTML. A correctly encoded form contains no such text.
_ESCAPED_SEPARATOR: Final = re.compile(rb"&amp;(?=[A-Za-z_][\w.-]*+=)")
#: Levels of JSON texts inside JSON strings.
_MOST_STRINGS: Final = 3
#: Total bytes of the fields around the items that the bodies of one callback may repeat.
ENVELOPES_BYTES: Final = 1_048_576
#: Names of fields in which senders put the whole callback.
_ENCLOSING: Final = ("data", "payload", "json", "body", "params", "request", "callback", "jsonData", "jsonStr")


class CallbackRequest(NamedTuple):
    """The input of a decoder: bytes and time of arrival, nothing that blocks.

    It is a tuple, because one is created for each request: a frozen dataclass takes three times as long.

    Args:
        method: ``POST`` or ``GET``.
        path: path as received, without the query.
        query: raw bytes after ``?``, percent-encoded; spaces and non-ASCII bytes may be raw.
        headers: names in lower case; the values of a repeated header are joined with ``, ``.
        body: decompressed bytes of the body, at most ``ingest.max_body_bytes``.
        received_at: time of arrival, timezone-aware UTC.
        peer: the caller's address behind trusted proxies, such as ``203.0.113.7``; empty if not known.
    """

    method: str
    path: str
    query: bytes
    headers: Mapping[str, str]
    body: bytes
    received_at: datetime
    peer: str = ""


class Payload(NamedTuple):
    """The fields of one request. (A tuple, as one is created for each request: a dataclass costs three times as much.)

    Args:
        fields: parsed, for the converters.
        raw: the fields as received, for ``data.raw`` of a callback with one event.
        canonical: equal for equal fields; the event's id is derived from it.
        text: bytes of the JSON object; None for a form.
        duplicates: repeated names in one JSON object; the last value is used. (Of a form's fields with one name the
            first non-empty value is used, and ``raw`` has all values.)
    """

    fields: dict[str, Any]
    raw: Any
    canonical: bytes
    text: bytes | None
    duplicates: tuple[str, ...] = ()
    notes: tuple[tuple[str, str], ...] = ()

    def lossless(self) -> dict[str, Any]:
        """Return the fields for splitting and serialising parts of them, with numbers as written."""
        return self.fields if self.text is None else jsontext.lossless(self.text)

    def has(self, name: str) -> bool:
        """Return whether a field has a value: absent, null and empty are equivalent (protocol.md, E6)."""
        value = self.fields.get(name)
        return value not in _NO_WORDS if type(value) is str else value not in _NOTHING


def read(request: CallbackRequest, layout: Layout, credential_fields: frozenset[str]) -> Payload:
    """Parse query and body.

    Args:
        request: the request.
        layout: the documented layout; with ``json`` the query is used only if the body is a form or empty.
        credential_fields: names of query and form fields with the gateway's own token, which are skipped.

    Raises:
        CallbackRejected: the body cannot be parsed.
    """
    body, query = request.body, request.query
    codecs = declared(request.headers.get("content-type", ""))
    first = body[:1]
    if codecs is None and first not in _UNUSUAL and body[1:2] != b"\0":  # nearly all: plain UTF-8
        if first in jsontext.BEFORE_OBJECT:
            if (layout == "json" or not query) and (first == b"{" or jsontext.is_object(body)):
                try:
                    parsed = jsontext.parse(body)
                    return Payload(
                        parsed.fields, orjson.Fragment(parsed.text), parsed.canonical, parsed.text, parsed.duplicates
                    )
                except NotUtf8:
                    pass
        elif layout == "form" and not (query and body) and first != b"-" and not form.is_listing(body):
            body = query or body.strip(_LINE_ENDS)
            single = form.mapping(body)
            if single and credential_fields.isdisjoint(single):
                return Payload(single, single, orjson.dumps(single, option=orjson.OPT_SORT_KEYS), None)
    decoding = Decoding(codecs)
    notes: list[tuple[str, str]] = []
    payload = _read(request, layout, credential_fields, decoding, notes)
    notes += [("charset", name) for name in decoding.found]
    return payload._replace(notes=tuple(notes)) if notes else payload


def _read(
    request: CallbackRequest,
    layout: Layout,
    credential_fields: frozenset[str],
    decoding: Decoding,
    notes: list[tuple[str, str]],
) -> Payload:
    """Parse a body of any layout and character set."""
    query = request.query
    body = _out_of_strings(decoding.body(request.body), decoding, notes)
    parsed = None
    if jsontext.is_object(body):
        parsed = _parsed(body, decoding)
    elif body[:3] in _ESCAPED_BRACE:
        parsed = _escaped_object(body, decoding)
    if parsed is not None:
        if layout == "json" or not query:
            return _of_object(parsed)
        more = [pair for pair in _query_pairs(query, decoding) if pair[0] not in credential_fields]
        return _with_query(parsed, more, notes)
    if body and (layout == "json" or (body.lstrip()[:1] == b"[" and not query)):
        _refuse_other_json(body, layout)
    body = body.removeprefix(UTF_8_MARK).strip(_LINE_ENDS)
    if body[:2] != _BOUNDARY and not form.is_listing(body):
        body = _separated(body, notes)
    query = _separated(query, notes)
    return _of_pairs(_body_pairs(body, decoding), _query_pairs(query, decoding), credential_fields, notes)


def _separated(data: bytes, notes: list[tuple[str, str]]) -> bytes:
    """Return a form with ``&`` between its fields, if its separators were escaped for HTML."""
    if b"&amp;" not in data:
        return data
    separated = _ESCAPED_SEPARATOR.sub(b"&", data)
    if separated != data and ("layout", "escaped-form") not in notes:
        notes.append(("layout", "escaped-form"))
    return separated


def _refuse_other_json(body: bytes, layout: Layout) -> None:
    """Reject JSON that is not an object, with its kind, and a body that is neither JSON nor a form."""
    kind = jsontext.kind(body)
    if kind is not None:
        raise CallbackRejected(f"a JSON {kind}, where an object is expected")
    if layout == "json" and b"=" not in body:
        raise CallbackRejected("not JSON")


def _out_of_strings(body: bytes, decoding: Decoding, notes: list[tuple[str, str]]) -> bytes:
    """Return the text of a body that is a JSON string: a callback that was serialised twice."""
    for _ in range(_MOST_STRINGS):
        text = body.removeprefix(UTF_8_MARK).strip()
        if text[:1] != b'"':
            break
        try:
            inner = orjson.loads(decoding.json(text))
        except orjson.JSONDecodeError:
            break
        body, decoding.codecs = inner.encode(), None
        notes.append(("layout", "json-in-a-string"))
    return body


def _parsed(body: bytes, decoding: Decoding) -> jsontext.JsonText:
    if decoding.codecs is None:
        try:
            return jsontext.parse(body)
        except NotUtf8:
            pass
    return jsontext.parse(decoding.json(body))


def _escaped_object(body: bytes, decoding: Decoding) -> jsontext.JsonText | None:
    """Return a JSON object that was percent-encoded as a whole; None for a form whose first name begins like one."""
    try:
        return _parsed(unescaped_bytes(body.replace(b"+", b" ")), decoding)
    except CallbackRejected:
        return None


def _body_pairs(body: bytes, decoding: Decoding) -> list[tuple[str, str]]:
    if body[:2] == _BOUNDARY:
        return form.multipart(body, decoding)
    if form.is_listing(body):
        return form.listing(body, decoding)
    fields = form.pairs(body, decoding)
    if len(fields) == 1 and not fields[0][1] and ":" in fields[0][0]:
        return form.listing(body, decoding)
    return fields


def _query_pairs(query: bytes, decoding: Decoding) -> list[tuple[str, str]]:
    """Return the fields of a query, in UTF-8 if possible, because the content type describes the body only."""
    if not query:
        return []
    try:
        unescaped_bytes(query).decode()
    except UnicodeDecodeError:
        return form.pairs(query, decoding)
    return form.pairs(query)


def _of_object(parsed: jsontext.JsonText) -> Payload:
    return Payload(parsed.fields, orjson.Fragment(parsed.text), parsed.canonical, parsed.text, parsed.duplicates)


def _of_pairs(
    body: list[tuple[str, str]],
    query: list[tuple[str, str]],
    credential_fields: frozenset[str],
    notes: list[tuple[str, str]],
) -> Payload:
    """Merge the fields of body and query. The body's value of a field is used if it is not empty."""
    fields = body + query
    single = dict(fields)
    if credential_fields and not credential_fields.isdisjoint(single):
        body, query = ([pair for pair in pairs if pair[0] not in credential_fields] for pairs in (body, query))
        fields = body + query
        single = dict(fields)
    if len(single) == len(fields):
        return Payload(single, single, orjson.dumps(single, option=orjson.OPT_SORT_KEYS), None)
    repeated: dict[str, list[str]] = {}
    for name, value in fields:
        repeated.setdefault(name, []).append(value)
    raw = {name: values[0] if len(values) == 1 else values for name, values in repeated.items()}
    first = {name: next(filter(None, values), "") for name, values in repeated.items()}
    if body and query:
        of_body = dict(body)
        notes += _differences([pair for pair in query if of_body.get(pair[0])], first)
    return Payload(first, raw, orjson.dumps(sorted(fields)), None)


def _with_query(parsed: jsontext.JsonText, query: list[tuple[str, str]], notes: list[tuple[str, str]]) -> Payload:
    """Merge a JSON body on a form callback with its query: the query's fields are used if the body has no value."""
    sent = dict(query)
    if not sent:
        return _of_object(parsed)
    of_body = {name for name in sent if parsed.fields.get(name) not in (None, "")}
    notes += _differences([pair for pair in sent.items() if pair[0] in of_body], parsed.fields)
    more = {name: value for name, value in sent.items() if name not in of_body}
    text = orjson.dumps({**jsontext.lossless(parsed.text), **more})
    canonical = parsed.canonical + orjson.dumps(sorted(sent.items()))
    return Payload({**parsed.fields, **more}, orjson.Fragment(text), canonical, text, parsed.duplicates)


def _differences(query: list[tuple[str, str]], fields: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return a drift note for each name whose value in the query differs from the used one."""
    notes = {}
    for name, value in query:
        counts = fields[name]
        if value and value != (str(counts).lower() if type(counts) is bool else str(counts)):
            notes[name] = ("query", name)
            if len(notes) == MOST_LABELS:
                break
    return list(notes.values())


def enclosed(payload: Payload) -> Payload | None:
    """Return the callback inside one field of another object or form, such as ``data={…}``; None if there is none.

    It is called for a payload that yields no event by itself. The other fields are kept; for a name in both, the inner
    value is used.
    """
    fields = payload.fields
    names = list(fields) if len(fields) == 1 else [name for name in _ENCLOSING if name in fields]
    if not any(type(fields[name]) in (dict, str) for name in names):
        return None
    whole = payload.lossless()
    for name in names:
        inner = _inner(whole[name])
        if inner is None:
            continue
        text = inner.text
        if len(fields) > 1:
            beside = {key: value for key, value in whole.items() if key != name}
            text = orjson.dumps({**beside, **jsontext.lossless(inner.text)})
        return _of_object(jsontext.parse(text))._replace(
            duplicates=payload.duplicates or inner.duplicates,
            notes=(*payload.notes, ("layout", "json-in-a-field")),
        )
    return None


def _inner(value: object) -> jsontext.JsonText | None:
    """Return the JSON object of a field, or in its text, which may have been serialised twice."""
    try:
        if type(value) is dict:
            return jsontext.parse(orjson.dumps(value))
        for _ in range(_MOST_STRINGS):
            if type(value) is not str or value.lstrip()[:1] not in ("{", '"'):
                return None
            if value.lstrip()[:1] == "{":
                return jsontext.parse(value.encode())
            value = orjson.loads(value)
    except (CallbackRejected, ValueError):
        pass
    return None


def bodies_of_items(around: Mapping[str, Any], lists: Iterable[tuple[str, Sequence[Any]]]) -> Iterator[dict[str, Any]]:
    """Yield the body of each item, for ``data.raw``: the fields around the lists, and a list with this item only.

    Args:
        around: fields around the lists, as received. Real ones have some hundred bytes. Above
            :data:`ENVELOPES_BYTES` in total only the first body has them; a hostile callback would otherwise grow
            quadratically.
        lists: name and items of each list, as received.
    """
    lists = list(lists)
    if len(orjson.dumps(around)) * sum(len(items) for _, items in lists) <= ENVELOPES_BYTES:
        yield from ({**around, name: [item]} for name, items in lists for item in items)
        return
    for name, items in lists:
        for item in items:
            yield {**around, name: [item]}
            around = {}
