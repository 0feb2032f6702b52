"""Authentic requests that cannot be decoded: explain why, and store them as events of ``callbacks.rejected``.

After a fix the request is decoded again from this event, by the same rule: if a signature was checked,
``signed_headers`` has the headers that it covers, and only these and the body are decoded
(:mod:`gateway.callbacks.signature`). The other parts are for the reader.

All credentials are removed, so that readers of the event cannot send the request: tokens in every place, because a
proxy may repeat the whole address in its own headers, and headers with signatures, configured or not. Bytes that are
not UTF-8 are stored in base64.

The id is derived from the decoded parts and all headers, since a decoder may read any of them: two requests have the
same id only if every decoder treats them in the same way.

The reason names the callback that the request was probably meant for (:func:`explained`). The guess changes only the
text, and uses only the authentic part of the request.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any, Final
from urllib.parse import unquote_to_bytes

import orjson

from gateway.callbacks import CALLBACKS, Callback, DecodeContext, form, times
from gateway.callbacks.credentials import MARK, Credentials
from gateway.callbacks.fields import Scope
from gateway.callbacks.payload import CallbackRequest, Payload, enclosed, read
from gateway.callbacks.signature import signed_part
from gateway.errors import CallbackRejected
from gateway.event import Event, NotAnEvent, event_id, schema_url, schema_urn

TOPIC: Final = "callbacks.rejected"
TYPE: Final = "nxcloud.callback.rejected"
#: Callback name of a stored request to an unknown path.
UNKNOWN_PATH: Final = "unknown-path"

#: Parts of names of headers with secrets, the gateway's or others'.
_SECRET_PARTS: Final = frozenset({"auth", "authorization", "cookie", "token", "secret", "password", "apikey"})
#: Names of headers with a signature: ``sign``, ``x-hub-signature-256``, ``webhook-signature``, ``x-hmac``, …
_SIGNATURE_NAME: Final = re.compile(r"signature|hmac|(?<!de)(?<!as)sign(?:\d|[-_]|\Z)|(?:\A|[-_])sig(?:\d|[-_]|\Z)")
#: The part of such a header that is searched in other parts: shorter texts occur by chance.
_SIGNATURE_TEXT: Final = re.compile(r"[0-9A-Za-z+/_\-]{16,}")
#: Such parts of one request. Senders have four at most (two signatures while a secret is rotated, in two headers).
_MOST_TEXTS: Final = 16
#: Headers of one transmission of a request: a proxy creates new ones for each.
_OF_THE_TRANSFER: Final = frozenset({"traceparent", "tracestate"})

#: JSON Schema of ``data``.
SCHEMA: Final[dict[str, Any]] = {
    "title": "Callback not understood",
    "description": "The whole request and why it was rejected. Decode it again with `gateway replay --rejected`.",
    "type": "object",
    "properties": {
        "callback": {"type": "string", "description": f"Of a request to an unknown path: {UNKNOWN_PATH}"},
        "reason": {"type": "string"},
        "field": {"type": "string", "description": "Path of the field at fault, in the vendor's names"},
        "method": {"type": "string"},
        "path": {"type": "string"},
        "query": {"type": "string"},
        "query_base64": {"type": "string", "description": "In place of query where it is not UTF-8"},
        "headers": {
            "type": "object",
            "description": "Names in lower case; without those that hold a token or a signature",
            "additionalProperties": {"type": "string"},
        },
        "signed_headers": {
            "type": "array",
            "items": {"type": "string"},
            "description": "Only where a signature was checked: the headers that it covers. They and the body are "
            "authentic; method, path, query and the other headers are not",
        },
        "body": {"type": "string"},
        "body_base64": {"type": "string", "description": "In place of body where it is not UTF-8"},
        "authenticated": {
            "type": "boolean",
            "description": "Only of a request to an unknown path, where it is false: nothing was checked",
        },
        "authentic_for": {
            "type": "array",
            "items": {"type": "string"},
            "description": "The same: paths whose token, address or signature it has shown",
        },
        "nearest": {"type": "string", "description": "The same: the known path that was probably meant"},
        "peer": {"type": "string"},
        "received_at": {"type": "string", "format": "date-time"},
    },
    "required": ["callback", "reason", "method", "path", "headers", "received_at"],
}


def rejected_event(
    callback: str,
    account: str | None,
    request: CallbackRequest,
    error: CallbackRejected,
    credentials: Credentials | None = None,
    schema_base_url: str = "",
) -> Event:
    """Return an event with the whole request and the reason. A repeat of the request gets the same id.

    Args:
        callback: name of the callback.
        account: account of the path.
        request: as received.
        error: reason of the rejection.
        credentials: of the path. Its tokens are removed from path, query, headers and body, and its signature from all
            parts except the body; the event has the names of the signed headers.
        schema_base_url: see :class:`~gateway.callbacks.callback.DecodeContext`.
    """
    signature = credentials.signature if credentials is not None else None
    request = _without_signatures(request, signature.signature_header if signature is not None else "")
    if credentials is not None and credentials.tokens:
        request = _without_tokens(request, credentials)
    arrival = times.recorded(request.received_at)
    data: dict[str, Any] = {
        "callback": callback,
        "reason": error.reason,
        "field": error.field,
        "method": request.method,
        "path": _clean(request.path),
        **_text_or_base64("query", request.query),
        "headers": {_clean(name): _clean(value) for name, value in request.headers.items()},
        **_text_or_base64("body", request.body),
        "peer": request.peer,
        "received_at": arrival,
    }
    decoded = request
    if signature is not None:
        data["signed_headers"] = list(signature.signed_headers)
        decoded = signed_part(request, signature.signed_headers)
    return Event(
        id=event_id(callback, account, 0, _canonical(decoded)),
        source=f"/nxcloud/{callback}" if callback in CALLBACKS else f"/callbacks/{callback}",
        type=TYPE,
        topic=TOPIC,
        subject=callback,
        partitionkey=callback,
        time=arrival,
        recordedtime=arrival,
        data=data,
        account=account,
        dataschema=schema_url(schema_base_url, TOPIC) if schema_base_url else schema_urn(TYPE),
    )


def unknown_path_event(
    request: CallbackRequest,
    secrets: Credentials,
    *,
    nearest: str,
    authentic_for: Sequence[str],
    schema_base_url: str = "",
) -> Event:
    """Return an event with an unauthenticated request to an unknown path.

    Args:
        request: as received.
        secrets: the tokens of all paths, which are removed.
        nearest: the most similar known path; may be empty.
        authentic_for: paths whose checks the request would have passed.
        schema_base_url: see :class:`~gateway.callbacks.callback.DecodeContext`.
    """
    event = rejected_event(UNKNOWN_PATH, None, request, CallbackRejected("unknown path"), secrets, schema_base_url)
    event.data.update(authenticated=False, authentic_for=list(authentic_for))
    if nearest:
        event.data["nearest"] = nearest
    return event


def request_from(event: Event) -> CallbackRequest:
    """Return the decoded part of the stored request, to decode it again.

    Raises:
        NotAnEvent: the event was not created by this module.
    """
    data = event.data
    try:
        request = CallbackRequest(
            method=data["method"],
            path=data["path"],
            query=_bytes_of(data, "query"),
            headers=dict(data["headers"]),
            body=_bytes_of(data, "body"),
            received_at=datetime.fromisoformat(data["received_at"]),
            peer=data.get("peer", ""),
        )
        return signed_part(request, data["signed_headers"]) if "signed_headers" in data else request
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        raise NotAnEvent("not a rejected callback") from exc


def _without_tokens(request: CallbackRequest, credentials: Credentials) -> CallbackRequest:
    """Return the request without fields and segments with a token, and with a mark in place of other tokens."""
    path = b"/".join(
        b"" if credentials.is_token(unquote_to_bytes(segment)) else segment
        for segment in request.path.encode("utf-8", "surrogateescape").split(b"/")
    )
    is_json = request.body[:1] in (b"{", b"[")
    return request._replace(
        path=credentials.without_tokens(path).decode("utf-8", "surrogateescape"),
        query=credentials.without_tokens(form.without(request.query, credentials.fields)),
        headers={
            name: credentials.without_tokens(value.encode("utf-8", "surrogateescape")).decode(
                "utf-8", "surrogateescape"
            )
            for name, value in request.headers.items()
        },
        body=credentials.without_tokens(
            request.body if is_json else form.without(request.body, credentials.fields), is_text=is_json
        ),
    )


def _without_signatures(request: CallbackRequest, configured: str) -> CallbackRequest:
    """Return the request without headers of secrets or signatures, and with a mark in place of repeated ones.

    Args:
        request: as received.
        configured: name of the header with the path's signature, in lower case; may be empty.
    """
    signatures = {name for name in request.headers if name == configured or _SIGNATURE_NAME.search(name)}
    headers = {
        name: value for name, value in request.headers.items() if name not in signatures and not _is_secret(name)
    }
    texts = [text for name in signatures for text in _SIGNATURE_TEXT.findall(request.headers[name])][:_MOST_TEXTS]
    kept = "\n".join((request.path, request.query.decode("latin-1"), *headers.values())).lower()
    kept = kept.replace("%2b", "+").replace("%2f", "/")
    repeated = {text for text in texts if text.lower() in kept}
    if not repeated:
        return request._replace(headers=headers)
    pattern = re.compile("|".join(map(_in_address, repeated)), re.IGNORECASE)
    mark = MARK.decode()
    return request._replace(
        path=pattern.sub(mark, request.path),
        query=pattern.sub(mark, request.query.decode("latin-1")).encode("latin-1"),
        headers={name: pattern.sub(mark, value) for name, value in headers.items()},
    )


def _in_address(signature: str) -> str:
    """Return a pattern of a signature in hex or base64, with raw or percent-encoded characters."""
    return re.escape(signature).replace(r"\+", r"(?:\+|%2B)").replace("/", "(?:/|%2F)")


def _is_secret(name: str) -> bool:
    parts = name.replace("_", "-").split("-")
    return (
        not _SECRET_PARTS.isdisjoint(parts)
        or ("api", "key") in pairwise(parts)
        or (name.startswith("x-") and "token" in name)
    )


def _canonical(request: CallbackRequest) -> bytes:
    """Return bytes that are equal for requests that every decoder treats in the same way."""
    headers = sorted((_clean(name), _clean(value)) for name, value in request.headers.items())
    kept = [pair for pair in headers if pair[0] not in _OF_THE_TRANSFER]
    head = orjson.dumps([request.method, _clean(request.path), kept])
    return b"rejected\0" + head + b"\0" + request.query + b"\0" + request.body


def _text_or_base64(name: str, value: bytes) -> dict[str, str]:
    try:
        return {name: value.decode("utf-8")}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(value).decode()}


def _bytes_of(data: dict[str, Any], name: str) -> bytes:
    encoded = data.get(f"{name}_base64")
    return base64.b64decode(encoded, validate=True) if encoded is not None else data[name].encode()


def _clean(text: str) -> str:
    """Return a text without surrogate escapes of header bytes that are not UTF-8, which JSON cannot represent."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


#: Largest request, in bytes, that is tried as other callbacks. Each try may cost as much as decoding: at worst 10 ms.
#: Callbacks have some hundred bytes, rarely two thousand.
_MOST_BYTES: Final = 4096
#: Fields that another callback has to find, so that a coincidence is not reported.
_LEAST_FIELDS: Final = 3
#: Reported callbacks, if several fit equally well: Viber's and Messenger's receipts are similar.
_MOST_NAMED: Final = 3


def explained(
    error: CallbackRejected, callback: object, request: CallbackRequest, context: DecodeContext
) -> CallbackRejected:
    """Return a rejection whose reason names the callbacks that fit better, if there are any.

    Args:
        error: raised by the callback's decoder.
        callback: the path's callback; there is no guess for a callback that is not built in.
        request: the authentic part of the request.
        context: configuration of the path.
    """
    if not isinstance(callback, Callback) or len(request.body) + len(request.query) > _MOST_BYTES:
        return error
    hints = [*_hints(callback, request, context)]
    if not hints:
        return error
    return CallbackRejected("; ".join((error.reason, *hints)), error.field, logged="; ".join((error.logged, *hints)))


def _hints(callback: Callback, request: CallbackRequest, context: DecodeContext) -> Iterator[str]:
    try:
        payload = read(request, "form", context.credential_fields)
    except (CallbackRejected, RecursionError):
        return
    if not payload.fields:
        yield "the request holds no fields"
        return
    names = likely(callback, payload, request, context)
    if names:
        yield f"it looks like the callback {_either(names)}: is this address entered for the wrong callback?"
    elif callback.layout == "json" and payload.text is None and any(payload.fields.values()):
        yield f"the body looks like a form, but this callback takes JSON with {_either(_identifying(callback))}"


def likely(callback: Callback, payload: Payload, request: CallbackRequest, context: DecodeContext) -> list[str]:
    """Return the names of the other callbacks that decode most of a payload.

    Args:
        callback: the path's callback.
        payload: the fields of the request.
        request: the authentic part of the request.
        context: configuration of the path.
    """
    readings = [one for one in (payload, enclosed(payload)) if one is not None]
    scores = {
        other.name: max(_score(other, one, request, context) for one in readings)
        for other in CALLBACKS.values()
        if other.name != callback.name
    }
    best = max(scores.values())
    names = [name for name, score in scores.items() if score == best]
    if best < _LEAST_FIELDS or len(names) > _MOST_NAMED:
        return []
    own = max(_known(callback, one) for one in readings)
    return [] if own >= max(_known(CALLBACKS[name], one) for name in names for one in readings) else names


def _known(callback: Callback, payload: Payload) -> int:
    """Return how many fields of a payload a callback knows. The most is the likeliest, even with a missing field."""
    return max(len(schema.mapping.known.intersection(payload.fields)) for schema in callback.schemas)


def _score(callback: Callback, payload: Payload, request: CallbackRequest, context: DecodeContext) -> int:
    """Return the decoded fields of a payload minus its unknown fields; 0 if the callback rejects it."""
    scope = Scope(context.zone, max_items=context.max_items, country=context.country)
    try:
        items = callback.items(payload, request, context, scope)
        if not items:
            return 0
        schema, fields, _, _ = items[0]
        data = schema.normalise(fields, scope)
    except (CallbackRejected, RecursionError):
        return 0
    unknown = sum(label.startswith("field:") for label in scope.drift)
    return _leaves(data) - len(schema.constants) - unknown


def _leaves(value: Any) -> int:
    return sum(map(_leaves, value.values())) if type(value) is dict else 1


def _either(names: Sequence[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last


def _identifying(callback: Callback) -> tuple[str, ...]:
    """Return the vendor's names of the required fields at the top of the body: ``statuses``, ``messageid``."""
    return tuple(dict.fromkeys(schema.vendor_name().partition(".")[0] for schema in callback.schemas))
