"""WhatsApp: template, account, number and flow events, app sync, messages sent from the phone app, calling records.

protocol.md, sections 16 to 19 and 33.

Events have the form ``{"field": <event name>, "value": {…}}``; calls have the envelope of messages. If only a part of
a page was available, the event is accepted and ``raw`` has its fields; the members of ``value`` then follow Meta's
reference of the event, because the platform passes these events on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from gateway.callbacks.callback import EventSchema, PostProcess, VendorPage
from gateway.callbacks.field_mapping import Field, coded, objects, phone_number
from gateway.callbacks.fields import (
    Converter,
    Scope,
    code,
    duration,
    flag,
    identifier,
    money,
    number,
    seconds,
    text,
    unchanged,
    words,
)
from gateway.callbacks.hangups import OUTCOME_LINE, hangup, outcome_of, settle
from gateway.callbacks.phones import uncertain
from gateway.callbacks.vocabulary import (
    BAN,
    CHANNEL_EVENT,
    CHANNEL_STATUS,
    CONTACT_ACTION,
    DIRECTION,
    HANGUP_BY,
    PREFERENCE,
    QUALITY,
    TEMPLATE_CATEGORY,
    Vocabulary,
)
from gateway.callbacks.whatsapp import CONTENT, CONTENT_KNOWN, COST_DIRECTION, kind_of_content, sum_of

_TEMPLATE: Final = ("message_template_status_update", "message_template_quality_update", "template_category_update")
_ACCOUNT: Final = (
    "account_update",
    "account_review_update",
    "phone_number_name_update",
    "phone_number_quality_update",
    "user_preferences",
)
_SYNC: Final = ("smb_app_state_sync", "history", "smb_message_echoes")

#: The vendor's names of events are words, and the model uses them.
_EVENTS: Final = unchanged(*_TEMPLATE, *_ACCOUNT, *_SYNC, "flows")

#: ``event`` of a template, an account or a number, and ``decision`` of a review.
_STATUS: Final = {
    **unchanged(
        "approved rejected paused disabled pending pending_deletion deleted flagged in_appeal reinstated archived "
        "unarchived limit_exceeded locked unlocked partner_added partner_removed deferred"
    ),
    "DISABLED_UPDATE": "disabled",
    "ACCOUNT_VIOLATION": "violation",
    "ACCOUNT_RESTRICTION": "restricted",
    "ACCOUNT_DELETED": "deleted",
    "VERIFIED_ACCOUNT": "verified",
}
_QUALITIES: Final = unchanged("green yellow red unknown")
_CATEGORIES: Final = unchanged("marketing utility authentication")
_BANS: Final = {"DISABLE": "disabled", "REINSTATE": "reinstated", "SCHEDULE_FOR_DISABLE": "scheduled"}
_PREFERENCES: Final = unchanged("stop resume")
_ACTIONS: Final = unchanged("add remove")


#: An open list, in lower case as our words are.
_REASON: Final = Converter(
    "reason",
    lambda value, scope: (code.convert(value, scope) or "").lower().replace(" ", "_") or None,
    {"type": "string"},
)


def _words_and_code(name: str, source: str, table: Mapping[str, str], vocabulary: Vocabulary) -> tuple[Field, Field]:
    return coded(name, f"{name}_code", source, words(table, vocabulary))


def _reinstated(data: dict[str, Any], source: Mapping[str, Any], scope: Scope) -> None:
    """Set whether a ban began or ended: ``DISABLED_UPDATE`` means both, and the state of the ban decides."""
    if data.get("status_code") == "DISABLED_UPDATE":
        ban = data.get("ban", {}).get("state")
        data["status"] = ban if ban in CHANNEL_STATUS else "unknown"


_COMMON: Final = (
    *_words_and_code("event", "field", _EVENTS, CHANNEL_EVENT),
    *phone_number(
        "business_phone",
        (
            "value.business_phone",
            "value.merchant_phone",
            "value.display_phone_number",
            "value.metadata.display_phone_number",
        ),
    ),
    Field("waba_id", "value.wabaId", identifier),
    Field("at", ("value.time", "value.timestamp"), seconds, "Or that of the first entry of a list in it"),
)
_COMMON_KNOWN: Final = ("value.messaging_product", "value.metadata.phone_number_id")


def channel_event(
    name: str,
    title: str,
    *fields: Field,
    page: VendorPage,
    key: tuple[str, ...] = (),
    known: tuple[str, ...] = (),
    time: tuple[str, ...] = ("at",),
    post_process: tuple[PostProcess, ...] = (),
) -> EventSchema:
    """Return a schema of ``channel.event``: common fields, then specific ones; arguments as of :class:`EventSchema`."""
    return EventSchema(
        f"nxcloud.whatsapp.{name}",
        "channel.event",
        title,
        page=page,
        required="event",
        key=(*key, "waba_id", "business_phone", "event_code"),
        time=time,
        constants={"channel": "whatsapp", "product": "whatsapp"},
        known=(*_COMMON_KNOWN, *known),
        post_process=post_process,
        fields=(*_COMMON, *fields),
    )


def _time_of_first(entries: str) -> PostProcess:
    """Return a ``post_process`` for an event whose time is in a list of its entries."""

    def post_process(data: dict[str, Any], source: Mapping[str, Any], scope: Scope) -> None:
        at = next((entry["at"] for entry in data.get(entries, ()) if "at" in entry), None)
        if at is not None:
            data.setdefault("at", at)

    return post_process


def _alone(data: dict[str, Any], source: Mapping[str, Any], scope: Scope) -> None:
    """Move the only contact of a list to the place of the flat layout, which is equivalent."""
    contacts = data.get("contacts", ())
    if len(contacts) == 1:
        data.setdefault("contact", {name: value for name, value in contacts[0].items() if name != "at"})


TEMPLATE: Final = channel_event(
    "template",
    "WhatsApp template event",
    Field("template.id", "value.message_template_id", identifier),
    Field("template.name", "value.message_template_name", text),
    Field("template.language", "value.message_template_language", text),
    *_words_and_code("status", "value.event", _STATUS, CHANNEL_STATUS),
    Field("reason", "value.reason", _REASON),
    *_words_and_code("quality.new", "value.new_quality_score", _QUALITIES, QUALITY),
    *_words_and_code("quality.previous", "value.previous_quality_score", _QUALITIES, QUALITY),
    *_words_and_code("category.new", "value.new_category", _CATEGORIES, TEMPLATE_CATEGORY),
    *_words_and_code("category.previous", "value.previous_category", _CATEGORIES, TEMPLATE_CATEGORY),
    page=VendorPage("template webhook", "16"),
    key=("template.id",),
)

ACCOUNT: Final = channel_event(
    "account",
    "WhatsApp account or number event",
    *coded("status", "status_code", ("value.event", "value.decision"), words(_STATUS, CHANNEL_STATUS)),
    *_words_and_code("ban.state", "value.ban_info.waba_ban_state", _BANS, BAN),
    Field("ban.date", "value.ban_info.waba_ban_date", text, "In words"),
    Field(
        "preferences",
        "value.user_preferences",
        objects(
            *phone_number("phone", "wa_id"),
            Field("category", "category", text, "What it is about, such as marketing_messages"),
            Field("value", "value", words(_PREFERENCES, PREFERENCE), "What the customer wants"),
            Field("at", "timestamp", seconds),
            known=("detail", "user_id", "parent_user_id"),
        ),
        "Of customers, on marketing messages",
    ),
    page=VendorPage("phone webhook", "17", "partial"),
    known=tuple(
        f"value.{name}"
        for name in [
            "contacts",
            "current_limit",
            "old_limit",
            "rejection_reason",
            "requested_verified_name",
            "restriction_info",
            "violation_info",
            "waba_info",
        ]
    ),
    post_process=(_time_of_first("preferences"), _reinstated),
)

SYNC: Final = channel_event(
    "sync",
    "WhatsApp Business app sync",
    Field("phone_number_id", ("value.phone_number_id", "value.metadata.phone_number_id"), identifier),
    Field("contact.name", "value.full_name", text, "Absent on removal. Of a list, where it has one contact alone"),
    *phone_number("contact.phone", "value.phone_number", read=uncertain),
    Field("contact.action", "value.action", words(_ACTIONS, CONTACT_ACTION)),
    Field(
        "contacts",
        "value.state_sync",
        objects(
            Field("name", ("contact.full_name", "contact.first_name"), text, "Name of the contact"),
            *phone_number("phone", "contact.phone_number", read=uncertain),
            Field("action", "action", words(_ACTIONS, CONTACT_ACTION), "add (also for edits) or remove"),
            Field("at", ("metadata.timestamp", "timestamp"), seconds),
            known=("type", "contact.user_id", "contact.parent_user_id", "contact.username"),
        ),
        "All of them, where they come in a list",
    ),
    page=VendorPage("SMB", "19", "partial"),
    # Past chats and messages sent from the phone app: they need no reply and are not incoming messages.
    known=("value.contacts", "value.history", "value.message_echoes", "value.messages"),
    post_process=(_time_of_first("contacts"), _alone),
)

OTHER: Final = channel_event(
    "event",
    "Other WhatsApp event",
    page=VendorPage("template webhook", "16", "partial"),
)

#: ``new_status`` of a flow.
_FLOW_STATUS: Final = unchanged("draft published deprecated blocked throttled")
#: An open list, in lower case as our words are.
_LOWER: Final = Converter(
    "word in lower case", lambda value, scope: (code.convert(value, scope) or "").lower() or None, {"type": "string"}
)

FLOW: Final = channel_event(
    "flow",
    "WhatsApp flow event",
    Field("flow_id", "value.flow_id", identifier),
    Field("change", "value.event", _LOWER, "Such as flow_status_change, endpoint_availability"),
    *coded("status", "status_code", "value.new_status", words(_FLOW_STATUS, CHANNEL_STATUS)),
    Field("status_text", "value.message", text),
    Field("new_status", "value.new_status", code),
    Field("old_status", "value.old_status", code),
    Field("alert.state", "value.alert_state", _LOWER, "activated or deactivated"),
    Field("alert.threshold", "value.threshold", number, "Such as 90 (percent)"),
    page=VendorPage("flows webhook", "33", "partial"),
    key=("flow_id",),
    known=tuple(
        f"value.{name}"
        for name in [
            "error_count",
            "error_rate",
            "errors",
            "availability",
            "p50_latency",
            "p90_latency",
            "requests_count",
            "warning",
        ]
    ),
)

#: A message sent from the phone app: it needs no reply and is not an incoming message. In its table the message has
#: the same parent as ``field`` and ``value``.
ECHO: Final = channel_event(
    "echo",
    "WhatsApp message sent from the phone app",
    Field("message_id", "messages.id", identifier),
    *phone_number("from", ("messages.from", "value.business_phone", "value.metadata.display_phone_number")),
    *phone_number("to", ("messages.to", "messages.recipient_id")),
    Field("phone_number_id", ("value.phone_number_id", "value.metadata.phone_number_id"), identifier),
    *CONTENT,
    Field("sent_at", "messages.timestamp", seconds),
    page=VendorPage("SMB", "19", "partial"),
    key=("to", "message_id"),
    known=("value.contacts", *CONTENT_KNOWN),
    time=("sent_at", "at"),
    post_process=(kind_of_content,),
)

#: Name of the event whose messages become separate events, and the names of their list.
ECHOES: Final = "smb_message_echoes"
ECHO_LISTS: Final = ("message_echoes", "messages")

#: Event name → schema. Other names are accepted as OTHER, and are drift.
BY_NAME: Final[Mapping[str, EventSchema]] = {
    **dict.fromkeys(_TEMPLATE, TEMPLATE),
    **dict.fromkeys(_ACCOUNT, ACCOUNT),
    **dict.fromkeys(_SYNC, SYNC),
    "flows": FLOW,
}

_HANGUP_BY: Final = {"0": "caller", "1": "callee", "2": "system", "3": "unknown"}

#: In the costs of a call; the costs of messages number it 1 downlink, 2 uplink.
_DIRECTION: Final = {"0": "inbound", "1": "outbound"}


def _answered(data: dict[str, Any], source: Mapping[str, Any], scope: Scope) -> None:
    """Set ``answered`` for a call with a duration and a normal end; a busy call also rings for some seconds."""
    reason = data.get("hangup", {}).get("reason", "normal")
    if outcome_of(reason) is not None:
        data["answered"] = False
    elif "duration_s" in data and (reason.strip().lower() in _NORMAL or not data["duration_s"]):
        data["answered"] = data["duration_s"] > 0


#: Texts of an end that mean that a conversation took place.
_NORMAL: Final = frozenset({"normal", "normal clearing", "normal_clearing", "ok", "success"})


def _from_costs(data: dict[str, Any], source: Mapping[str, Any], scope: Scope) -> None:
    """Set direction and price of a call from its costs; without costs, the business's side decides the direction."""
    costs = data.get("costs", ())
    directions = {_DIRECTION.get(cost["direction_code"], "unknown") for cost in costs if "direction_code" in cost}
    if directions:
        data["direction"] = directions.pop() if len(directions) == 1 else "unknown"
    price = sum_of(costs) if costs else None
    if price:
        data["price"] = price
    business = data.get("business_phone")
    if "direction" not in data and business is not None and data.get("from") != data.get("to"):
        if business == data.get("from"):
            data["direction"] = "outbound"
        elif business == data.get("to"):
            data["direction"] = "inbound"


CALL: Final = EventSchema(
    "nxcloud.whatsapp.call",
    "call.event",
    "WhatsApp call record",
    page=VendorPage("calls webhook", "18"),
    required="call_id",
    time=("ended_at", "started_at"),
    constants={"channel": "whatsapp", "product": "whatsapp", "state": "ended"},
    known=("channel", "messaging_product", "metadata", "contacts"),
    post_process=(_from_costs, _answered, settle),
    fields=(
        Field("call_id", "calls.call_id", identifier),
        *phone_number("from", "calls.from"),
        *phone_number("to", "calls.to"),
        Field("direction", "", words(_DIRECTION, DIRECTION), "Of its costs, else by which side is the business"),
        *phone_number("business_phone", ("business_phone", "merchant_phone")),
        Field("started_at", "calls.start_time", seconds),
        Field("ended_at", "calls.end_time", seconds),
        Field("duration_s", "calls.call_duration", duration, "Not always the difference of the two times"),
        Field("answered", "", flag, "Whether it lasted and ended normally"),
        *coded("hangup.by", "hangup.by_code", "calls.end_direction", words(_HANGUP_BY, HANGUP_BY)),
        *hangup(reason="calls.end_reason"),
        OUTCOME_LINE,
        Field("recording_url", "calls.record", text),
        Field("billing.seconds", "calls.fee_duration", duration),
        Field("billing.rule", "calls.bill_type", text, "Such as 6+6"),
        Field(
            "costs",
            "calls.costs",
            objects(
                Field("amount", "price", money, "In `currency`, the customer's"),
                Field("currency", "currency", code, "Of `amount`"),
                Field("direction_code", "direction", code, COST_DIRECTION),
            ),
        ),
        Field("price.total", "", money, "Sum of the costs, where they have one currency"),
        Field("price.currency", "", code, "The one currency of the costs"),
        Field("waba_id", "wabaId", identifier),
        Field("app_id", "app_id", identifier),
    ),
)
