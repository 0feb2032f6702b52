"""Common parts of the messages of all channels: their outcome, and an id for each incoming message."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

import orjson

from gateway.callbacks.fields import Scope, code, flag, identifier, local_time, text
from gateway.callbacks.plan import Field

#: Status → ``delivered`` and ``final``. A value that a status does not imply is omitted.
_OUTCOMES: Final[Mapping[str, Mapping[str, bool]]] = {
    "sent": {"delivered": False, "final": False},
    "delivered": {"delivered": True, "final": True},
    "read": {"delivered": True, "final": True},
    "failed": {"delivered": False, "final": True},
    "undelivered": {"delivered": False, "final": True},
    "rejected": {"delivered": False, "final": True},
    "expired": {"delivered": False, "final": True},
    "dnd": {"delivered": False, "final": True},
    "invalid_sender": {"delivered": False, "final": True},
    "invalid_recipient": {"delivered": False, "final": True},
    "deleted": {"final": True},
    "journey_acknowledged": {"final": False},
    "journey_timed_out": {"final": True},
}

#: Common lines of the receipts of a send call. "Message send time": all states of a message have the same time, so the
#: time of a state is unknown.
RECEIPT: Final = (
    Field("message_id", "requestId", identifier, "As returned by the send call"),
    Field("result_code", "code", code),
    Field("result", "message", text),
    Field("error.code", "", code, "The result code, where it failed"),
    Field("error.title", "", text, "The result text, where it failed"),
    Field("ext", "ext", text),
    Field("sent_at", "sendTime", local_time),
)
#: Set by :func:`settle_delivery`.
DELIVERY_LINES: Final = (Field("delivered", "", flag, "By the status"), Field("final", "", flag, "By the status"))


def describe_failure(data: dict[str, Any], source: Mapping[str, Any], scope: Scope) -> None:
    """Set ``error`` from code and text of a receipt whose message was not delivered: a ``post_process`` of a schema."""
    if data.get("status") in ("failed", "undelivered", "expired"):
        error = {"code": data.get("result_code"), "title": data.get("result")}
        data["error"] = {name: value for name, value in error.items() if value is not None}


def settle_delivery(data: dict[str, Any], source: Mapping[str, Any], scope: Scope) -> None:
    """Set ``delivered`` and ``final`` by the status: a ``post_process`` of a schema.

    Args:
        data: of the event; changed in place.
        source: the vendor's fields.
        scope: of the callback.
    """
    said = _OUTCOMES.get(data.get("status", ""))
    if said is not None:
        data.update(said)


#: Fields that distinguish incoming messages. A change of this list changes ids.
_CONTENT: Final = ("channel", "from", "to", "sent_at", "kind", "text", "media", "reply_to")


def message_id(data: dict[str, Any], source: Mapping[str, Any], scope: Scope) -> None:
    """Set an id, derived from the content, for an incoming message without one: a ``post_process`` of a schema.

    A repeat of the message has the same id, on any machine. Equal texts of one sender at two times have different ids.

    Args:
        data: of the event; changed in place.
        source: the vendor's fields.
        scope: of the callback.
    """
    if "message_id" not in data:
        content = orjson.dumps([data.get(name) for name in _CONTENT], option=orjson.OPT_SORT_KEYS)
        data["message_id"] = hashlib.blake2b(content, digest_size=16).hexdigest()
