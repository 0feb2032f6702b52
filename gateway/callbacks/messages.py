"""Messages of channels: what all have in common, and the channels that need only a table.

In common are the outcome of a message, and an id for each incoming one. The tables are those of Viber, Zalo, Messenger,
Super Message (protocol.md, sections 21 to 24) and email verification codes (section 29).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

import orjson

from gateway.callbacks.callback import EventSchema, VendorPage
from gateway.callbacks.field_mapping import Field, coded, phone_number
from gateway.callbacks.fields import (
    Scope,
    code,
    flag,
    identifier,
    local_time,
    millis,
    money,
    text,
    texts,
    unchanged,
    words,
    written,
)
from gateway.callbacks.payload import Payload
from gateway.callbacks.phones import uncertain
from gateway.callbacks.vocabulary import CHANNEL, EMAIL_STATUS, KIND, MESSAGE_STATUS

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


def _kind(data: dict[str, Any], source: Mapping[str, Any], scope: Scope) -> None:
    """Set the kind of a reply from its content, because the page documents no kind."""
    if "kind" not in data:
        data["kind"] = "file" if "media" in data else "text"


_PRICE: Final = (
    Field("price.total", "cost.originalPrice", money),
    Field("price.currency", "cost.currency", code),
)
#: Pages "Super Message API webhook" and "SAAS Viber API webhook": the local price is in CNY.
_PRICE_IN_CNY: Final = Field("price.amount_cny", "cost.localPrice", money)

#: ``status`` of section 21 and, newer on the same page, ``success``; then the equivalent codes.
VIBER_STATUS: Final = {
    "success": "sent",
    "failed": "failed",
    "delivered": "delivered",
    "seen": "read",
    "expired": "expired",
    "0": "sent",
    "11000": "failed",
    "11001": "delivered",
    "11002": "read",
    "11003": "expired",
}

VIBER_STATUS_SCHEMA: Final = EventSchema(
    "nxcloud.viber.status",
    "message.status",
    "Viber receipt",
    page=VendorPage("Viber webhook", "21"),
    required="message_id",
    constants={"channel": "viber", "product": "viber"},
    known=("appkey", "phone"),
    post_process=(describe_failure, settle_delivery),
    fields=(
        *RECEIPT,
        *phone_number("to", "phone"),
        Field("status", ("status", "code"), words(VIBER_STATUS, MESSAGE_STATUS)),
        *DELIVERY_LINES,
        Field("status_code", "status", code),
        *_PRICE,
        _PRICE_IN_CNY,
        Field("rate_type", "cost.rateType", text, "Such as Transactional"),
    ),
)

VIBER_MESSAGE: Final = EventSchema(
    "nxcloud.viber.message",
    "message.incoming",
    "Viber reply",
    page=VendorPage("Viber webhook", "21"),
    required="from",
    time=("sent_at",),
    constants={"channel": "viber", "product": "viber"},
    known=("appkey",),
    post_process=(_kind, message_id),
    fields=(
        Field("message_id", "", identifier, "Made of the content"),
        *phone_number("from", "phone"),
        Field("kind", "", words({}, KIND), "By what is in it"),
        Field("text", ("message.text", "message"), written),
        Field("media.url", "message.media", text),
        Field("media.filename", "message.fileName", text),
        Field("reply_to.message_id", "traceRequestId", identifier),
        Field("sent_at", "sendTime", local_time),
    ),
)

#: ``status``; then the equivalent codes.
ZALO_STATUS: Final = {
    "success": "sent",
    "failed": "failed",
    "delivered": "delivered",
    "journey_acknowledged": "journey_acknowledged",
    "journey_time_out": "journey_timed_out",
    "0": "sent",
    "17003": "delivered",
    "17004": "failed",
    "17006": "journey_acknowledged",
    "17007": "journey_timed_out",
}

ZALO_STATUS_SCHEMA: Final = EventSchema(
    "nxcloud.zalo.status",
    "message.status",
    "Zalo ZNS receipt",
    page=VendorPage("Zalo webhook", "22"),
    # An expired journey has no message in the page's example.
    required=("message_id", "journey_id"),
    time=("at",),
    constants={"channel": "zalo", "product": "zalo"},
    known=(
        "phone",
        *(f"zaloRes.{name}" for name in ("sysMsg", "cusMsg", "message", "data.sending_mode", "data.quota")),
    ),
    post_process=(describe_failure, settle_delivery),
    fields=(
        *RECEIPT,
        Field("at", "timestamp", millis, "Of an event of a journey"),
        Field("journey_id", "journeyId", identifier),
        Field("oa_id", "oaId", identifier, "Zalo Official Account"),
        Field("app_id", "appId", identifier, "Zalo app"),
        Field("platform_message_id", "zaloRes.data.msg_id", identifier, "Zalo's id"),
        *phone_number("to", "phone", read=uncertain),
        Field("status", ("status", "code"), words(ZALO_STATUS, MESSAGE_STATUS)),
        *DELIVERY_LINES,
        Field("status_code", "status", code),
        Field("platform_code", "zaloRes.error", code, "Zalo's; 0 is no error"),
        *_PRICE,
        Field("platform_sent_at", "zaloRes.data.sent_time", millis),
    ),
)

MESSENGER_STATUS: Final = {"success": "sent", **unchanged("sent delivered read failed")}

MESSENGER_STATUS_SCHEMA: Final = EventSchema(
    "nxcloud.messenger.status",
    "message.status",
    "Messenger receipt",
    page=VendorPage("Messenger webhook", "23"),
    required="message_id",
    constants={"channel": "messenger", "product": "messenger"},
    known=("appkey",),
    post_process=(describe_failure, settle_delivery),
    fields=(
        *RECEIPT,
        Field("status", "status", words(MESSENGER_STATUS, MESSAGE_STATUS)),
        *DELIVERY_LINES,
        Field("status_code", "status", code),
    ),
)

MESSENGER_MESSAGE: Final = EventSchema(
    "nxcloud.messenger.message",
    "message.incoming",
    "Messenger reply",
    page=VendorPage("Messenger webhook", "23"),
    required="from",
    time=("sent_at",),
    constants={"channel": "messenger", "product": "messenger"},
    known=("appkey",),
    post_process=(_kind, message_id),
    fields=(
        Field("message_id", "", identifier, "Made of the content"),
        # Ids of people within one page; they are digits, but not phone numbers.
        Field("from", "sender.id", identifier),
        Field("to", "recipient.id", identifier),
        *coded("kind", "kind_code", "message.type", words(unchanged(*KIND), KIND)),
        Field("text", ("message.text", "message"), written),
        Field("media.url", "message.url", text),
        Field("sent_at", "sendTime", millis),
    ),
)

#: ``code`` of section 24, which sends no status word.
SUPER_STATUS: Final = {"14003": "failed", "14004": "delivered", "14005": "undelivered", "14006": "expired"}

SUPER_STATUS_SCHEMA: Final = EventSchema(
    "nxcloud.super-message.status",
    "message.status",
    "Super Message receipt",
    page=VendorPage("Super Message API webhook", "24"),
    required="message_id",
    constants={"product": "super-message"},
    known=("appkey",),
    post_process=(describe_failure, settle_delivery),
    fields=(
        *RECEIPT,
        Field("channel", "channel", words({"SMS": "sms", "VIBER": "viber"}, CHANNEL)),
        *phone_number("to", "phone"),
        Field("status", "code", words(SUPER_STATUS, MESSAGE_STATUS)),
        *DELIVERY_LINES,
        Field("status_code", "code", code),
        *_PRICE,
        _PRICE_IN_CNY,
    ),
)


def viber_schema(payload: Payload) -> EventSchema:
    """Select receipt or reply: a reply names the message that it answers, or has a ``phone`` and no ``requestId``."""
    is_reply = payload.has("phone") and (payload.has("traceRequestId") or not payload.has("requestId"))
    return VIBER_MESSAGE if is_reply else VIBER_STATUS_SCHEMA


def messenger_schema(payload: Payload) -> EventSchema:
    """Select reply or receipt: a reply has a ``sender``, a receipt a ``requestId``."""
    return MESSENGER_MESSAGE if payload.has("sender") else MESSENGER_STATUS_SCHEMA


EMAIL_STATUSES: Final = {"DELIVRD": "delivered", "UNDELIV": "undelivered", "UNDELIVR": "undelivered"}

EMAIL_DR: Final = EventSchema(
    "nxcloud.email.dr",
    "email.dr",
    "Email verification code receipt",
    page=VendorPage("Email Verification Code Receipt Callback", "29"),
    required="message_id",
    post_process=(settle_delivery,),
    constants={"channel": "email", "product": "email-dr"},
    fields=(
        Field("message_id", "messageId", identifier),
        Field("from", "sender", text),
        Field("to", "receiver", texts, "A list: one receipt may cover several addresses"),
        *coded("status", "status_code", "result", words(EMAIL_STATUSES, EMAIL_STATUS)),
        *DELIVERY_LINES,
        Field("result", "result", text),
        Field("price.unit", "price", money, "Of one message; the page names no currency"),
        Field("sent_at", "sendTime", local_time),
    ),
)
