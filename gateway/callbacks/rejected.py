"""An authentic callback that was not understood, kept whole as an event of ``callbacks.rejected``.

After a fix the same request is decoded again from it. What opens the gateway (tokens) is cut out, wherever it stands:
a proxy in front of us may repeat the whole address in headers of its own. Signatures stay, they are no secrets. Bytes
that are not UTF-8 are kept in base64.
"""

from __future__ import annotations

import base64
from datetime import datetime
from itertools import pairwise
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from gateway.callbacks import CALLBACKS, form, times
from gateway.callbacks.credentials import Credentials
from gateway.callbacks.request import CallbackRequest
from gateway.errors import CallbackRejected
from gateway.event import Event, NotAnEvent, event_id, schema_url, schema_urn

TOPIC: Final = "callbacks.rejected"
TYPE: Final = "nxcloud.callback.rejected"

#: Parts of names of headers that hold secrets, ours or others'.
_SECRET_PARTS: Final = frozenset({"auth", "authorization", "cookie", "token", "secret", "password", "apikey"})

#: JSON Schema of ``data``.
SCHEMA: Final[dict[str, Any]] = {
    "title": "Callback not understood",
    "description": "The whole request and why it was rejected. Decode it again with `gateway replay --rejected`.",
    "type": "object",
    "properties": {
        "callback": {"type": "string"},
        "reason": {"type": "string"},
        "field": {"type": "string", "description": "Path of the field at fault, in the vendor's names"},
        "method": {"type": "string"},
        "path": {"type": "string"},
        "query": {"type": "string"},
        "query_base64": {"type": "string", "description": "In place of query where it is not UTF-8"},
        "headers": {"type": "object", "additionalProperties": {"type": "string"}},
        "body": {"type": "string"},
        "body_base64": {"type": "string", "description": "In place of body where it is not UTF-8"},
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
    """The whole request with the reason. The same request again gives the same id.

    Args:
        callback: name of the callback.
        account: the account of the path.
        request: as it came.
        error: why it was rejected.
        credentials: of the path: its tokens are cut out of path, query, headers and body.
        schema_base_url: see :class:`~gateway.callbacks.callback.DecodeContext`.
    """
    if credentials is not None and credentials.tokens:
        request = _without_tokens(request, credentials)
    query, body = request.query, request.body
    arrival = times.recorded(request.received_at)
    data: dict[str, Any] = {
        "callback": callback,
        "reason": error.reason,
        "field": error.field,
        "method": request.method,
        "path": _clean(request.path),
        **_text_or_base64("query", query),
        "headers": {_clean(name): _clean(value) for name, value in request.headers.items() if not _is_secret(name)},
        **_text_or_base64("body", body),
        "peer": request.peer,
        "received_at": arrival,
    }
    return Event(
        id=event_id(callback, account, 0, b"rejected\0" + query + b"\0" + body),
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


def request_from(event: Event) -> CallbackRequest:
    """The request again, to decode it once more.

    Raises:
        NotAnEvent: not an event made by :func:`rejected_event`.
    """
    data = event.data
    try:
        return CallbackRequest(
            method=data["method"],
            path=data["path"],
            query=_bytes_of(data, "query"),
            headers=dict(data["headers"]),
            body=_bytes_of(data, "body"),
            received_at=datetime.fromisoformat(data["received_at"]),
            peer=data.get("peer", ""),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        raise NotAnEvent("not a rejected callback") from exc


def _without_tokens(request: CallbackRequest, credentials: Credentials) -> CallbackRequest:
    """The request without the fields and segments that held a token, and with a mark where else one stood."""
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


def _is_secret(name: str) -> bool:
    parts = name.replace("_", "-").split("-")
    return (
        not _SECRET_PARTS.isdisjoint(parts)
        or ("api", "key") in pairwise(parts)
        or (name.startswith("x-") and "token" in name)
    )


def _text_or_base64(name: str, value: bytes) -> dict[str, str]:
    try:
        return {name: value.decode("utf-8")}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(value).decode()}


def _bytes_of(data: dict[str, Any], name: str) -> bytes:
    encoded = data.get(f"{name}_base64")
    return base64.b64decode(encoded, validate=True) if encoded is not None else data[name].encode()


def _clean(text: str) -> str:
    """Header bytes that are not UTF-8 arrive as surrogate escapes, which JSON cannot hold."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
