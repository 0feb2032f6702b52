"""SMS delivery receipts, and DID SMS: receipts and incoming messages (protocol.md, sections 1 to 3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from gateway.callbacks import money as _money
from gateway.callbacks import phones
from gateway.callbacks.callback import DecodeContext, EventSchema, RawItem, VendorPage
from gateway.callbacks.field_mapping import Field, coded, phone_number
from gateway.callbacks.fields import (
    NULL_WORDS,
    Converter,
    Scope,
    canonical,
    code,
    flag,
    identifier,
    integer,
    local_time,
    money,
    text,
    words,
    written,
)
from gateway.callbacks.messages import DELIVERY_LINES, settle_delivery
from gateway.callbacks.payload import CallbackRequest, Payload
from gateway.callbacks.vocabulary import SMS_STATUS

#: ``status`` of section 1, then the words of ``result`` and ``smsStatus``: some accounts send only these.
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
    parent, _, tail = value.strip().rpartition("-")
    return parent if len(tail) == _MULTI_SEND_DIGITS and tail.isdecimal() and tail.isascii() and parent else None


_parent_id: Final = Converter("id before - and ten digits", _parent, {"type": "string"})


def _add_total(data: dict[str, Any], source: Mapping[str, Any], scope: Scope) -> None:
    """Add the total price; the vendor's price is that of one part."""
    price = data.get("price")
    if price is not None:
        _money.add_total(price, data.get("segments"))


def _settle(data: dict[str, Any], source: Mapping[str, Any], scope: Scope) -> None:
    """Set ``delivered`` and ``final``: a receipt has the final state, and "2 success, all other means fail".

    So 12 (UNKNOWN) and undocumented numbers mean that the SMS was not delivered; other texts leave ``delivered`` unset.
    """
    status = data.get("status")
    if status is not None:
        data["final"] = True
        if status != "unknown" or canonical(data.get("status_code", "")).lstrip("-").isdecimal():
            data["delivered"] = status == "delivered"
    _add_total(data, source, scope)


SMS_DR: Final = EventSchema(
    "nxcloud.sms.dr",
    "sms.dr",
    "SMS delivery receipt",
    page=VendorPage("SMS Delivery Receipt Callback", "1"),
    required="message_id",
    time=("done_at",),
    constants={"channel": "sms", "product": "sms-dr"},
    post_process=(_settle,),
    fields=(
        Field("message_id", "messageid", identifier, "As returned by the send call"),
        Field("parent_message_id", "messageid", _parent_id),
        *phone_number("to", "phone"),
        # `status` decides; `result` is used only if an account sends no status.
        Field("status", ("status", "result"), words(STATUS, SMS_STATUS)),
        Field("status_code", "status", code),
        Field("delivered", "", flag, "By the status"),
        Field("final", "", flag, "A receipt names the final state"),
        Field("result", "result", text),
        Field("segments", "size", integer),
        Field("price.unit", "price", money, "Of one part"),
        Field("price.total", "", money, "Unit price times parts"),
        Field("price.currency", "currency", code),
        Field("price.rate_to_cny", "rate", money),
        Field("sent_at", "sendtime", local_time),
        Field("done_at", "drtime", local_time),
        Field("ext", "ext", text, "Echo of the send call"),
    ),
)

_RECEIPT: Final = (
    *coded("status", "status_code", "smsStatus", words(STATUS, SMS_STATUS)),
    *DELIVERY_LINES,
    Field("result", "smsStatus", text),
)


def _shared(read: phones.Read) -> tuple[Field, ...]:
    return (
        Field("message_id", "messageId", identifier),
        *phone_number("from", "fromPhone", read=read),
        *phone_number("to", "toPhone", read=read),
        Field("segments", "size", integer),
        Field("price.unit", "price", money, "Of one part"),
        Field("price.total", "", money, "Unit price times parts"),
        Field("sent_at", "receiveTime", local_time),
    )


def _receipt(read: phones.Read) -> EventSchema:
    return EventSchema(
        "nxcloud.did.dr",
        "sms.dr",
        "DID SMS delivery receipt",
        page=VendorPage("DID SMS Result Callback", "2, 3"),
        required="message_id",
        constants={"channel": "sms", "product": "did-sms"},
        known=("type", "content"),
        post_process=(settle_delivery, _add_total),
        fields=(*_shared(read), *_RECEIPT),
    )


def _incoming(read: phones.Read) -> EventSchema:
    return EventSchema(
        "nxcloud.did.mo",
        "message.incoming",
        "Incoming SMS on a DID number",
        page=VendorPage("SMS Upstream via DID Number", "2, 3"),
        required="message_id",
        key=("from", "message_id"),
        time=("sent_at",),
        constants={"channel": "sms", "product": "did-sms", "kind": "text"},
        known=("type", "smsStatus"),
        post_process=(_add_total,),
        fields=(*_shared(read), Field("text", "content", written)),
    )


#: In the form, numbers with a country code have a ``+``; in the signed JSON the same numbers have none.
DID_DR: Final = _receipt(phones.uncertain)
DID_MO: Final = _incoming(phones.uncertain)
_IN_JSON: Final = {schema.type: schema for schema in (_receipt(phones.certain), _incoming(phones.certain))}

_BY_ACTION: Final = {"dr": DID_DR, "mo": DID_MO}
_BY_TYPE: Final = {"0": DID_MO, "1": DID_DR}


def classify_did(payload: Payload, request: CallbackRequest, context: DecodeContext, scope: Scope) -> Sequence[RawItem]:
    """Select receipt or incoming message: by the signed ``action``, ``own_numbers``, ``type``, or the content.

    Most of the vendor's examples have no ``type``, and its page of receipts ("SMS Downstream Delivery Receipt
    Callback") has an example with type 0, that of an incoming message. Therefore the configured own numbers have
    priority, if one side only is an own number. The last rule is inferred: a message that was not delivered is an
    outgoing one; any other message is treated as incoming, because its text would otherwise be lost.
    """
    fields = payload.fields
    schema = _BY_ACTION.get(request.headers.get("action", "").lower())
    if schema is None:
        by_type = _BY_TYPE.get(canonical(str(fields.get("type")).strip()))
        if by_type is None:
            scope.note("type", str(fields.get("type") or "missing"))
        schema = _by_numbers(fields, context.own_numbers) or by_type or _by_status(fields)
    if payload.text is not None:
        schema = _IN_JSON[schema.type]
    return ((schema, fields, payload.raw, ""),)


def _by_numbers(fields: Mapping[str, Any], own: frozenset[str]) -> EventSchema | None:
    if not own:
        return None
    numbers = (phones.certain(str(fields.get(name))).text for name in ("fromPhone", "toPhone"))
    sender, receiver = (number.lstrip("+") in own for number in numbers)
    if sender == receiver:
        return None
    return DID_DR if sender else DID_MO


def _by_status(fields: Mapping[str, Any]) -> EventSchema:
    status = str(fields.get("smsStatus") or "").strip()
    return DID_MO if status.upper() in ("", "DELIVRD") or status in NULL_WORDS else DID_DR
