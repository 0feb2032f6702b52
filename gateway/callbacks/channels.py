"""Viber, Zalo, Messenger, Super Message: receipts and replies (protocol.md, sections 21 to 24)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from gateway.callbacks.callback import DecodeContext, RawItem
from gateway.callbacks.event_schema import EventSchema, PostProcess, in_turn
from gateway.callbacks.fields import Scope, code, echo, identifier, local_time, millis, money, text, words
from gateway.callbacks.messages import DELIVERY_LINES, message_id, settle_delivery
from gateway.callbacks.payload import Payload
from gateway.callbacks.phones import uncertain
from gateway.callbacks.plan import Field, coded, phone_number
from gateway.callbacks.request import CallbackRequest
from gateway.callbacks.vocabulary import CHANNEL, KIND, MESSAGE_STATUS


def _failure(*statuses: str) -> PostProcess:
    """Return a finish that sets ``error`` from code and message for some statuses."""

    def post_process(data: dict[str, Any], source: Mapping[str, Any], scope: Scope) -> None:
        if data.get("status") in statuses:
            error = {"code": data.get("result_code"), "title": data.get("result")}
            data["error"] = {name: value for name, value in error.items() if value is not None}

    return post_process


def _kind(data: dict[str, Any], source: Mapping[str, Any], scope: Scope) -> None:
    """Set the kind of a reply from its content, because the page documents no kind."""
    if "kind" not in data:
        data["kind"] = "file" if "media" in data else "text"


_RECEIPT: Final = (
    Field("message_id", "requestId", identifier, "As returned by the send call"),
    Field("result_code", "code", code),
    Field("result", "message", text),
    Field("error.code", "", code, "The result code, where it failed"),
    Field("error.title", "", text, "The result text, where it failed"),
    Field("ext", "ext", echo),
)
#: "Message send time": all states of a message have the same time, so the time of a state is unknown.
_SENT_AT: Final = Field("sent_at", "sendTime", local_time)
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
    page="Viber webhook",
    section="21",
    certainty="confirmed",
    required="message_id",
    key=("message_id",),
    constants={"channel": "viber", "product": "viber"},
    known=("appkey", "phone"),
    post_process=in_turn(_failure("failed", "expired"), settle_delivery),
    fields=(
        *_RECEIPT,
        _SENT_AT,
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
    page="Viber webhook",
    section="21",
    certainty="confirmed",
    required="from",
    key=("from",),
    time=("sent_at",),
    constants={"channel": "viber", "product": "viber"},
    known=("appkey",),
    post_process=in_turn(_kind, message_id),
    fields=(
        Field("message_id", "", identifier, "Made of the content"),
        *phone_number("from", "phone"),
        Field("kind", "", words({}, KIND), "By what is in it"),
        Field("text", ("message.text", "message"), text),
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
    page="Zalo webhook",
    section="22",
    certainty="confirmed",
    # An expired journey has no message in the page's example.
    required=("message_id", "journey_id"),
    key=("message_id", "journey_id"),
    time=("at",),
    constants={"channel": "zalo", "product": "zalo"},
    known=(
        "phone",
        *(f"zaloRes.{name}" for name in ("sysMsg", "cusMsg", "message", "data.sending_mode", "data.quota")),
    ),
    post_process=in_turn(_failure("failed"), settle_delivery),
    fields=(
        *_RECEIPT,
        _SENT_AT,
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

MESSENGER_STATUS: Final = {
    "success": "sent",
    "sent": "sent",
    "delivered": "delivered",
    "read": "read",
    "failed": "failed",
}

MESSENGER_STATUS_SCHEMA: Final = EventSchema(
    "nxcloud.messenger.status",
    "message.status",
    "Messenger receipt",
    page="Messenger webhook",
    section="23",
    certainty="confirmed",
    required="message_id",
    key=("message_id",),
    constants={"channel": "messenger", "product": "messenger"},
    known=("appkey",),
    post_process=in_turn(_failure("failed"), settle_delivery),
    fields=(
        *_RECEIPT,
        _SENT_AT,
        Field("status", "status", words(MESSENGER_STATUS, MESSAGE_STATUS)),
        *DELIVERY_LINES,
        Field("status_code", "status", code),
    ),
)

MESSENGER_MESSAGE: Final = EventSchema(
    "nxcloud.messenger.message",
    "message.incoming",
    "Messenger reply",
    page="Messenger webhook",
    section="23",
    certainty="confirmed",
    required="from",
    key=("from",),
    time=("sent_at",),
    constants={"channel": "messenger", "product": "messenger"},
    known=("appkey",),
    post_process=in_turn(_kind, message_id),
    fields=(
        Field("message_id", "", identifier, "Made of the content"),
        # Ids of people within one page; they are digits, but not phone numbers.
        Field("from", "sender.id", identifier),
        Field("to", "recipient.id", identifier),
        *coded("kind", "kind_code", "message.type", words({kind: kind for kind in KIND}, KIND)),
        Field("text", ("message.text", "message"), text),
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
    page="Super Message API webhook",
    section="24",
    certainty="confirmed",
    required="message_id",
    key=("message_id",),
    constants={"product": "super-message"},
    known=("appkey",),
    post_process=in_turn(_failure("failed", "undelivered", "expired"), settle_delivery),
    fields=(
        *_RECEIPT,
        _SENT_AT,
        Field("channel", "channel", words({"SMS": "sms", "VIBER": "viber"}, CHANNEL)),
        *phone_number("to", "phone"),
        Field("status", "code", words(SUPER_STATUS, MESSAGE_STATUS)),
        *DELIVERY_LINES,
        Field("status_code", "code", code),
        *_PRICE,
        _PRICE_IN_CNY,
    ),
)


def classify_viber(
    payload: Payload, request: CallbackRequest, context: DecodeContext, scope: Scope
) -> Sequence[RawItem]:
    """Select receipt or reply: a receipt has a ``requestId``; a reply has a ``phone`` and no ``requestId``."""
    is_reply = payload.has("phone") and not payload.has("requestId")
    return ((VIBER_MESSAGE if is_reply else VIBER_STATUS_SCHEMA, payload.fields, payload.raw, ""),)


def classify_messenger(
    payload: Payload, request: CallbackRequest, context: DecodeContext, scope: Scope
) -> Sequence[RawItem]:
    """Select reply or receipt: a reply has a ``sender``, a receipt a ``requestId``."""
    schema = MESSENGER_MESSAGE if payload.has("sender") else MESSENGER_STATUS_SCHEMA
    return ((schema, payload.fields, payload.raw, ""),)
