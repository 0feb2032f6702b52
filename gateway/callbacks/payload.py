"""A request's bytes to named fields, whatever the content type says.

Senders name a wrong type or none (protocol.md, E5), put form fields into the query, the body or both
(sections 1 and 4), and send JSON where a form is documented and the reverse. The bytes decide: what begins
with ``{`` is JSON, anything else is a form.
"""

from __future__ import annotations

from typing import Any, Final, Literal, NamedTuple
from urllib.parse import unquote_to_bytes

import orjson

from gateway.callbacks import form, jsontext
from gateway.callbacks.fields import NULL_WORDS
from gateway.callbacks.request import CallbackRequest
from gateway.errors import CallbackRejected

Layout = Literal["form", "json"]

#: Values that say as little as an absent field. A tuple made once, as every callback of two shapes asks.
_NOTHING: Final[tuple[Any, ...]] = (None, "", {}, [], *NULL_WORDS)
_ESCAPED_BRACE: Final = frozenset({b"%7B", b"%7b"})
_BOUNDARY: Final = b"--"
_LINE_ENDS: Final = b"\r\n\t"


class Payload(NamedTuple):
    """What one request says. (A tuple: made for each request, and a frozen dataclass costs three times as much.)

    Args:
        fields: parsed, for the converters.
        raw: the fields as received, for ``data.raw`` of a callback with one event.
        canonical: equal for equal fields, for the event's id.
        text: the JSON object's bytes; None for a form.
        duplicates: names that one JSON object has more than once; the last one counts. (Of a form's fields with one
            name the first that is not empty counts, and ``raw`` has all of them.)
    """

    fields: dict[str, Any]
    raw: Any
    canonical: bytes
    text: bytes | None
    duplicates: tuple[str, ...] = ()

    def lossless(self) -> dict[str, Any]:
        """The fields for taking them apart and writing parts again."""
        return self.fields if self.text is None else jsontext.lossless(self.text)

    def has(self, name: str) -> bool:
        """Whether the field has a value: absent, null and empty say the same (protocol.md, E6)."""
        return self.fields.get(name) not in _NOTHING


def read(request: CallbackRequest, layout: Layout, credential_fields: frozenset[str]) -> Payload:
    """Read query and body.

    Args:
        request: the request.
        layout: what the vendor documents; with ``json`` the query counts only when the body holds a form or nothing.
        credential_fields: names of query and form fields that are the gateway's own token: skipped.

    Raises:
        CallbackRejected: the declared format does not parse.
    """
    body = request.body
    parsed = jsontext.parse(body) if body[:1] in jsontext.BEFORE_OBJECT and jsontext.is_object(body) else None
    if parsed is None and body[:3] in _ESCAPED_BRACE:
        parsed = _escaped_object(body)
    if parsed is not None:
        if layout == "json" or not request.query:
            return Payload(
                parsed.fields, orjson.Fragment(parsed.text), parsed.canonical, parsed.text, parsed.duplicates
            )
        return _with_query(parsed, request.query, credential_fields)
    if body and (layout == "json" or (body.lstrip()[:1] == b"[" and not request.query)):
        _refuse_other_json(body, layout)
    query, body = request.query, body.strip(_LINE_ENDS)
    if not (query and body) and body[:2] != _BOUNDARY and not form.is_listing(body):
        single = form.mapping(query or body)
        if single and credential_fields.isdisjoint(single):
            return Payload(single, single, orjson.dumps(single, option=orjson.OPT_SORT_KEYS), None)
    return _of_pairs(form.pairs(query) + _body_pairs(body), credential_fields)


def _refuse_other_json(body: bytes, layout: Layout) -> None:
    """What is JSON but no object is called what it is; what is neither JSON nor a form is no JSON."""
    kind = jsontext.kind(body)
    if kind is not None:
        raise CallbackRejected(f"a JSON {kind}, where an object is expected")
    if layout == "json" and b"=" not in body:
        raise CallbackRejected("not JSON")


def _body_pairs(body: bytes) -> list[tuple[str, str]]:
    if body[:2] == _BOUNDARY:
        return form.multipart(body)
    if form.is_listing(body):
        return form.listing(body)
    fields = form.pairs(body)
    if len(fields) == 1 and not fields[0][1] and ":" in fields[0][0]:
        return form.listing(body)
    return fields


def _escaped_object(body: bytes) -> jsontext.JsonText | None:
    """JSON that was percent-encoded as a whole; None for a form whose first name only begins like that."""
    try:
        return jsontext.parse(unquote_to_bytes(body.replace(b"+", b" ")))
    except CallbackRejected:
        return None


def _of_pairs(fields: list[tuple[str, str]], credential_fields: frozenset[str]) -> Payload:
    single = dict(fields)
    if credential_fields and not credential_fields.isdisjoint(single):
        fields = [pair for pair in fields if pair[0] not in credential_fields]
        single = dict(fields)
    if len(single) == len(fields):
        return Payload(single, single, orjson.dumps(single, option=orjson.OPT_SORT_KEYS), None)
    repeated: dict[str, list[str]] = {}
    for name, value in fields:
        repeated.setdefault(name, []).append(value)
    raw = {name: values[0] if len(values) == 1 else values for name, values in repeated.items()}
    first = {name: next(filter(None, values), "") for name, values in repeated.items()}
    return Payload(first, raw, orjson.dumps(sorted(fields)), None)


def _with_query(parsed: jsontext.JsonText, query: bytes, credential_fields: frozenset[str]) -> Payload:
    """A JSON body on a form callback: fields of the query count where the body lacks them."""
    more = {name: value for name, value in form.pairs(query) if name not in credential_fields}
    if not more:
        return Payload(parsed.fields, orjson.Fragment(parsed.text), parsed.canonical, parsed.text, parsed.duplicates)
    text = orjson.dumps({**more, **jsontext.lossless(parsed.text)})
    canonical = parsed.canonical + orjson.dumps(sorted(more.items()))
    return Payload({**more, **parsed.fields}, orjson.Fragment(text), canonical, text, parsed.duplicates)
