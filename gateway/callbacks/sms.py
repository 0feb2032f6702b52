"""SMS delivery receipts, and DID SMS: receipts and incoming messages (protocol.md, sections 1 to 3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from gateway.callbacks.callback import DecodeContext, Item
from gateway.callbacks.fields import (
    Converter,
    Scope,
    identifier,
    integer,
    is_one_of,
    local_time,
    money,
    phone,
    text,
    words,
)
from gateway.callbacks.payload import Payload
from gateway.callbacks.plan import Field, coded
from gateway.callbacks.request import CallbackRequest
from gateway.callbacks.shape import Shape

#: ``status`` of section 1, then the words of ``result`` and of ``smsStatus``: some accounts send only those.
STATUS: Final[Mapping[str, str]] = {
    "2": "delivered",
    "5": "undelivered",
    "6": "rejected",
    "7": "expired",
    "8": "deleted",
    "9": "dnd",
    "10": "invalid_recipient",
    "11": "invalid_sender",
    "12": "unknown",
    "DELIVRD": "delivered",
    "UNDELIV": "undelivered",
    "UNDELIVR": "undelivered",
    "REJECTD": "rejected",
    "EXPIRED": "expired",
    "DELETED": "deleted",
    "DND": "dnd",
    "ESME_RINVDSTADR": "invalid_recipient",
    "ESME_RINVSRCADR": "invalid_sender",
    "UNKNOWN": "unknown",
}

_MULTI_SEND_DIGITS: Final = 10


def _parent(value: Any, scope: Scope) -> str | None:
    if type(value) is not str:
        return None
    parent, _, tail = value.rpartition("-")
    return parent if len(tail) == _MULTI_SEND_DIGITS and tail.isdecimal() and tail.isascii() and parent else None


_parent_id: Final = Converter("id before - and ten digits", _parent, {"type": "string"})

SMS_DR: Final = Shape(
    "nxcloud.sms.dr",
    "sms.dr",
    "SMS delivery receipt",
    page="SMS Delivery Receipt Callback",
    section="1",
    certainty="confirmed",
    required="message_id",
    key=("message_id",),
    time=("done_at", "sent_at"),
    constants={"channel": "sms"},
    fields=(
        Field("message_id", "messageid", identifier, "As returned by the send call"),
        Field("parent_message_id", "messageid", _parent_id, "The id that a send to several numbers returned"),
        Field("to", "phone", phone),
        # `status` decides; `result` speaks only where an account sends no status.
        Field("status", ("status", "result"), words(STATUS)),
        Field("status_code", "status", text, "The vendor's own code"),
        Field("delivered", ("status", "result"), is_one_of("2", "DELIVRD")),
        Field("result", "result", text),
        Field("segments", "size", integer, "Billed parts"),
        Field("price.amount", "price", money),
        Field("price.currency", "currency", text),
        Field("price.rate_to_cny", "rate", money),
        Field("sent_at", "sendtime", local_time),
        Field("done_at", "drtime", local_time),
        Field("ext", "ext", text, "Echo of the send call"),
    ),
)

_DID_FIELDS: Final = (
    Field("message_id", "messageId", identifier),
    Field("from", "fromPhone", phone),
    Field("to", "toPhone", phone),
    Field("segments", "size", integer, "Billed parts"),
    Field("price.amount", "price", money),
    Field("sent_at", "receiveTime", local_time),
)

DID_DR: Final = Shape(
    "nxcloud.did.dr",
    "sms.dr",
    "DID SMS delivery receipt",
    page="DID SMS Result Callback",
    section="2, 3",
    certainty="confirmed",
    required="message_id",
    key=("message_id",),
    time=("sent_at",),
    constants={"channel": "did"},
    known=("type", "content"),
    fields=(
        *_DID_FIELDS,
        *coded("status", "status_code", "smsStatus", words(STATUS), text),
        Field("delivered", "smsStatus", is_one_of("DELIVRD")),
        Field("result", "smsStatus", text),
    ),
)

DID_MO: Final = Shape(
    "nxcloud.did.mo",
    "message.incoming",
    "Incoming SMS on a DID number",
    page="SMS Upstream via DID Number",
    section="2, 3",
    certainty="confirmed",
    required="message_id",
    key=("from", "message_id"),
    time=("sent_at",),
    constants={"channel": "sms", "kind": "text"},
    known=("type", "smsStatus"),
    fields=(*_DID_FIELDS, Field("text", "content", text)),
)

_BY_ACTION: Final = {"dr": DID_DR, "mo": DID_MO}
_BY_TYPE: Final = {"0": DID_MO, "1": DID_DR}


def split_did(payload: Payload, request: CallbackRequest, context: DecodeContext, scope: Scope) -> Sequence[Item]:
    """Receipt or incoming message: by the signed ``action``, by our own numbers, by ``type``, by what is said.

    Most of the vendor's examples lack ``type``, and its page of receipts ("SMS Downstream Delivery Receipt Callback")
    has one of type 0, which is that of an incoming message; so our own numbers count for more, where they are
    configured and one side alone is ours. The last resort is inferred: a message that was not delivered can only be
    one of ours; anything else is taken for incoming, whose text nobody else would tell us.
    """
    fields = payload.fields
    by_type = _BY_TYPE.get(str(fields.get("type")).strip())
    shape = _BY_ACTION.get(request.headers.get("action", "").lower())
    if shape is None:
        if by_type is None:
            scope.note("type", str(fields.get("type") or "missing"))
        shape = _by_numbers(fields, context.own_numbers) or by_type or _by_status(fields)
    return ((shape, fields, payload.raw, ""),)


def _by_numbers(fields: Mapping[str, Any], own: frozenset[str]) -> Shape | None:
    if not own:
        return None
    sender, receiver = (str(fields.get(name)).strip().lstrip("+") in own for name in ("fromPhone", "toPhone"))
    if sender == receiver:
        return None
    return DID_DR if sender else DID_MO


def _by_status(fields: Mapping[str, Any]) -> Shape:
    status = str(fields.get("smsStatus") or "DELIVRD").strip().upper()
    return DID_MO if status == "DELIVRD" else DID_DR
