"""What all messages have in common, whichever channel they come by: their outcome, and an id for each that came in."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

import orjson

from gateway.callbacks.fields import Scope, flag
from gateway.callbacks.plan import Field

#: Status to whether the message was delivered and whether that is settled. Left out is what a status does not say.
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

#: Set by :func:`settle_delivery`.
DELIVERY_LINES: Final = (Field("delivered", "", flag, "By the status"), Field("final", "", flag, "By the status"))


def settle_delivery(data: dict[str, Any], source: Mapping[str, Any], scope: Scope) -> None:
    """Say whether the message was delivered and whether that is settled, by its status: a finish of its shape."""
    said = _OUTCOMES.get(data.get("status", ""))
    if said is not None:
        data.update(said)


#: What distinguishes one incoming message from another. Changing this changes ids.
_CONTENT: Final = ("channel", "from", "to", "sent_at", "kind", "text", "media", "reply_to")


def message_id(data: dict[str, Any], source: Mapping[str, Any], scope: Scope) -> None:
    """Give an incoming message to which the vendor gives no id one that is made of its content: a finish.

    The same message again has the same id, on any machine; two equal texts of one sender at two times have two.
    """
    if "message_id" not in data:
        content = orjson.dumps([data.get(name) for name in _CONTENT], option=orjson.OPT_SORT_KEYS)
        data["message_id"] = hashlib.blake2b(content, digest_size=16).hexdigest()
