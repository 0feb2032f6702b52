"""What all messages have in common, whichever channel they come by: their outcome, and an id for each that came in."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

import orjson

from gateway.callbacks.fields import Scope, facts
from gateway.callbacks.plan import Field

#: Status to whether the message was delivered, and whether that is final. A word that is not here says neither.
_DELIVERED: Final[Mapping[str, bool]] = {
    "sent": False,
    "delivered": True,
    "read": True,
    "failed": False,
    "undelivered": False,
    "expired": False,
}
_FINAL: Final[Mapping[str, bool]] = {
    "sent": False,
    "delivered": True,
    "read": True,
    "failed": True,
    "undelivered": True,
    "expired": True,
    "deleted": True,
    "journey_acknowledged": False,
    "journey_timed_out": True,
}
#: What tells one incoming message from another. Changing this changes ids.
_CONTENT: Final = ("channel", "from", "to", "sent_at", "kind", "text", "media", "reply_to")


def delivery(source: str | tuple[str, ...], words: Mapping[str, str]) -> tuple[Field, Field]:
    """Return the lines of ``delivered`` and ``final``.

    Args:
        source: the vendor's name of the field with the status, or several.
        words: its codes and our words for them, as for ``status``.
    """
    delivered = {code: _DELIVERED[word] for code, word in words.items() if word in _DELIVERED}
    final = {code: _FINAL[word] for code, word in words.items() if word in _FINAL}
    return Field("delivered", source, facts(delivered)), Field("final", source, facts(final))


def message_id(data: dict[str, Any], source: Mapping[str, Any], scope: Scope) -> None:
    """Give an incoming message to which the vendor gives no id one that is made of its content: a finish.

    The same message again has the same id, on any machine; two equal texts of one sender at two times have two.
    """
    if "message_id" not in data:
        content = orjson.dumps([data.get(name) for name in _CONTENT], option=orjson.OPT_SORT_KEYS)
        data["message_id"] = hashlib.blake2b(content, digest_size=16).hexdigest()
