"""Store an authentic request that cannot be decoded as an event of ``callbacks.rejected``.

After a fix the request is decoded again from this event, by the same rule: if a signature was checked,
``signed_headers`` has the headers that it covers, and only these and the body are decoded
(:mod:`gateway.callbacks.signature`). The other parts are for the reader.

All credentials are removed, so that readers of the event cannot send the request: tokens in every place, because a
proxy may repeat the whole address in its own headers, and headers with signatures, configured or not. Bytes that are
not UTF-8 are stored in base64.

The id is derived from the decoded parts and all headers, since a decoder may read any of them: two requests have the
same id only if every decoder treats them in the same way.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any, Final
from urllib.parse import unquote_to_bytes

import orjson

from gateway.callbacks import CALLBACKS, form, times
from gateway.callbacks.credentials import Credentials
from gateway.callbacks.masking import MARK
from gateway.callbacks.request import CallbackRequest, signed_part
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
