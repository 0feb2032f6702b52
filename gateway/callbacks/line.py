"""LINE by NXLink SaaS: incoming messages, other events, receipts (protocol.md, section 32).

One body has any number of events; each becomes a separate event. In the tables an event replaces its list:
``events.timestamp`` is ``events[].timestamp``.

After a failure the channel delivers an event again with ``deliveryContext.isRedelivery``, which is the only difference.
An event's id is therefore derived from the event without this object, independent of the other parts of the body: a
redelivery is a repeat.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from gateway.callbacks.callback import DecodeContext, EventSchema, RawItem, VendorPage
from gateway.callbacks.field_mapping import Field, as_list, as_object, coded, phone_number
from gateway.callbacks.fields import (
    Converter,
    Scope,
    code,
    duration,
    flag,
    identifier,
    millis,
    money,
    number,
    text,
    unchanged,
    words,
    written,
)
from gateway.callbacks.messages import DELIVERY_LINES, RECEIPT, describe_failure, message_id, settle_delivery
from gateway.callbacks.payload import CallbackRequest, Payload, bodies_of_items
from gateway.callbacks.vocabulary import CHANNEL_EVENT, KIND, MESSAGE_STATUS
from gateway.errors import CallbackRejected

KINDS: Final = unchanged("text image video audio file location sticker")
#: Kinds whose file is fetched by the message's id.
_MEDIA: Final = frozenset({"image", "video", "audio", "file"})
#: Of an event that is no message: the channel's own words, in lower case with underscores.
_EVENTS: Final = {
    **unchanged("follow unfollow join leave postback unsend beacon things membership"),
    "memberJoined": "member_joined",
    "memberLeft": "member_left",
    "videoPlayComplete": "video_play_complete",
    "accountLink": "account_link",
}


def _seconds_of(value: Any, scope: Scope) -> Any:
    thousands = duration.convert(value, scope)
    if thousands is None:
        return None
    return thousands // 1000 if not thousands % 1000 else thousands / 1000


_MILLISECONDS: Final = Converter("duration in milliseconds", _seconds_of, duration.schema)

#: What all events have around their own part.
_COMMON: Final = (
    Field("from", ("events.source.userId", "events.source.groupId", "events.source.roomId"), identifier),
    Field("from_user_id", "events.source.userId", identifier),
    Field("group_id", ("events.source.groupId", "events.source.roomId"), identifier, "Group or room"),
    Field("to", "destination", identifier, "Id of the business channel"),
    Field("event_id", "events.webhookEventId", identifier),
    Field("reply_token", "events.replyToken", text),
    Field("mode", "events.mode", text, "`active`, or `standby`: another system answers"),
    Field("redelivered", "events.deliveryContext.isRedelivery", flag),
)
_KNOWN: Final = ("events.type", "events.source.type")


def _media_id(data: dict[str, Any], source: Mapping[str, Any], scope: Scope) -> None:
    """Set the id of a file, which is the id of its message."""
    if data.get("kind") in _MEDIA and "message_id" in data:
        data.setdefault("media", {}).setdefault("id", data["message_id"])


MESSAGE: Final = EventSchema(
    "nxcloud.line.message",
    "message.incoming",
    "Incoming LINE message",
    page=VendorPage("SAAS Line API webhook", "32"),
    required=("message_id", "from"),
    key=("from", "message_id"),
    time=("sent_at",),
    constants={"channel": "line", "product": "line"},
    known=(
        *_KNOWN,
        "events.message.quoteToken",
        "events.message.contentProvider.type",
        "events.message.contentProvider.previewImageUrl",
        "events.message.emojis",
        "events.message.mention",
        "events.message.imageSet",
        "events.message.packageId",
        "events.message.stickerId",
        "events.message.stickerResourceType",
        "events.message.keywords",
        "events.message.fileSize",
        "events.message.markAsReadToken",
    ),
    post_process=(message_id, _media_id),
    fields=(
        Field("message_id", "events.message.id", identifier),
        *_COMMON,
        *coded("kind", "kind_code", "events.message.type", words(KINDS, KIND)),
        Field("text", "events.message.text", written),
        Field("media.id", "", identifier, "The message's"),
        Field("media.url", "events.message.contentProvider.originalContentUrl", text),
        Field("media.filename", "events.message.fileName", text),
        Field("media.duration_s", "events.message.duration", _MILLISECONDS, "In milliseconds there"),
        Field("location.latitude", "events.message.latitude", number),
        Field("location.longitude", "events.message.longitude", number),
        Field("location.name", "events.message.title", text),
        Field("location.address", "events.message.address", text),
        Field("reply_to.message_id", "events.message.quotedMessageId", identifier),
        Field("sent_at", "events.timestamp", millis),
    ),
)

EVENT: Final = EventSchema(
    "nxcloud.line.event",
    "channel.event",
    "LINE event that is no message",
    page=VendorPage("SAAS Line API webhook", "32", "partial"),
    required="event",
    key=("from", "to", "event_code"),
    time=("at",),
    constants={"channel": "line", "product": "line"},
    known=(*_KNOWN, "events.postback.params", *(f"events.{name}" for name in _EVENTS)),
    fields=(
        *coded("event", "event_code", "events.type", words(_EVENTS, CHANNEL_EVENT)),
        *_COMMON,
        Field("reply.id", "events.postback.data", text),
        Field("message_id", "events.unsend.messageId", identifier, "Of a message that was taken back"),
        Field("at", "events.timestamp", millis),
    ),
)

#: The words of the Viber page, from which the older revision took them.
STATUS: Final = {"success": "sent", "failed": "failed", "delivered": "delivered", "seen": "read", "expired": "expired"}


STATUS_SCHEMA: Final = EventSchema(
    "nxcloud.line.status",
    "message.status",
    "LINE receipt",
    page=VendorPage("SAAS Line API webhook", "32", "partial"),
    required="message_id",
    constants={"channel": "line", "product": "line"},
    known=("appkey", "destination"),
    post_process=(describe_failure, settle_delivery),
    fields=(
        *RECEIPT,
        *phone_number("to", "phone"),
        *coded("status", "status_code", "status", words(STATUS, MESSAGE_STATUS)),
        *DELIVERY_LINES,
        Field("price.total", "cost.originalPrice", money),
        Field("price.currency", "cost.currency", code),
        Field("price.amount_cny", "cost.localPrice", money),
    ),
)


def classify(payload: Payload, request: CallbackRequest, context: DecodeContext, scope: Scope) -> Sequence[RawItem]:
    """Split a body into its events, in the order sent; a receipt has a ``requestId`` in place of events."""
    fields = payload.fields
    found = as_list(fields.get("events"))
    context.check_items(len(found))
    if not found:
        if payload.has("requestId"):
            return ((STATUS_SCHEMA, fields, payload.raw, ""),)
        if fields.get("source") and fields.get("type"):  # an event without its envelope
            return ((_schema_of(fields), {"events": fields}, payload.raw, ""),)
        return ()
    around = {name: value for name, value in fields.items() if name != "events"}
    raws: list[Any] = [payload.raw]
    if len(found) > 1:
        around = _documented(around, scope)
        context.check_bytes(len(orjson.dumps(around)) * len(found))
        whole = dict(payload.lossless())
        bodies = bodies_of_items(whole, [("events", as_list(whole.pop("events")))])
        raws = [orjson.Fragment(orjson.dumps(body)) for body in bodies]
    items: list[RawItem] = []
    for index, (event, raw) in enumerate(zip(found, raws, strict=True)):
        if type(event) is not dict:
            raise CallbackRejected("an object is expected", f"events[{index}]")
        items.append((_schema_of(event), {**around, "events": event}, raw, f"events[{index}]"))
    return items


def identity(item: RawItem) -> bytes:
    """Return the bytes that an event's id is derived from: its fields without those of a redelivery."""
    _, fields, _, _ = item
    event = fields.get("events")
    if type(event) is not dict:
        return orjson.dumps(fields, option=orjson.OPT_SORT_KEYS)
    lasting = {name: value for name, value in event.items() if name != "deliveryContext"}
    return orjson.dumps([fields.get("destination"), lasting], option=orjson.OPT_SORT_KEYS)


def _schema_of(event: Mapping[str, Any]) -> EventSchema:
    return MESSAGE if event.get("type") == "message" or as_object(event.get("message")) is not None else EVENT


def _documented(around: dict[str, Any], scope: Scope) -> dict[str, Any]:
    """Return the documented fields around the events, which are copied to each event."""
    for name in around:
        if name not in MESSAGE.mapping.known:
            scope.note("field", name)
    return {name: value for name, value in around.items() if name == "destination" and type(value) is str}
