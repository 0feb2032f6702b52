"""WhatsApp: template, account and number events, app sync, calling records (protocol.md, sections 16 to 19).

Events come as ``{"field": <event name>, "value": {…}}``, calls in the envelope of messages. Where a page was not
read to its end the event is accepted all the same and its fields are in ``raw``; what is nested in ``value`` then
follows Meta's own reference of the same event, as the platform passes these events on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from gateway.callbacks.fields import Scope, duration, flag, identifier, integer, money, phone, seconds, text, words
from gateway.callbacks.plan import Field, coded, objects
from gateway.callbacks.shape import Certainty, Finish, Shape, in_turn

_TEMPLATE: Final = ("message_template_status_update", "message_template_quality_update", "template_category_update")
_ACCOUNT: Final = (
    "account_update",
    "account_review_update",
    "phone_number_name_update",
    "phone_number_quality_update",
    "user_preferences",
)
_SYNC: Final = ("smb_app_state_sync", "history", "smb_message_echoes")

_COMMON: Final = (
    Field("event", "field", text, "The vendor's name of the event"),
    Field(
        "business_phone",
        (
            "value.business_phone",
            "value.merchant_phone",
            "value.display_phone_number",
            "value.metadata.display_phone_number",
        ),
        phone,
    ),
    Field("waba_id", "value.wabaId", identifier, "WhatsApp Business account"),
    Field("at", ("value.time", "value.timestamp"), seconds, "Or that of the first entry of a list in it"),
)
_COMMON_KNOWN: Final = ("value.messaging_product", "value.metadata.phone_number_id")


def _shape(
    name: str,
    title: str,
    *fields: Field,
    page: str,
    section: str,
    certainty: Certainty,
    key: tuple[str, ...],
    known: tuple[str, ...] = (),
    finish: Finish | None = None,
) -> Shape:
    """A shape of ``channel.event``: its own fields after the common ones."""
    return Shape(
        f"nxcloud.whatsapp.{name}",
        "channel.event",
        title,
        page=page,
        section=section,
        certainty=certainty,
        required="event",
        key=(*key, "waba_id", "business_phone", "event"),
        time=("at",),
        constants={"channel": "whatsapp"},
        known=(*_COMMON_KNOWN, *known),
        finish=finish,
        fields=(*_COMMON, *fields),
    )


def _time_of_first(entries: str) -> Finish:
    """A finish for an event whose time stands in its list of these."""

    def finish(data: dict[str, Any], source: Mapping[str, Any], scope: Scope) -> None:
        at = next((entry["at"] for entry in data.get(entries, ()) if "at" in entry), None)
        if at is not None:
            data.setdefault("at", at)

    return finish


def _alone(data: dict[str, Any], source: Mapping[str, Any], scope: Scope) -> None:
    """A list of one contact says what the flat layout says, so it is told in the same place."""
    contacts = data.get("contacts", ())
    if len(contacts) == 1:
        data.setdefault("contact", {name: value for name, value in contacts[0].items() if name != "at"})


TEMPLATE: Final = _shape(
    "template",
    "WhatsApp template event",
    Field("template.id", "value.message_template_id", identifier),
    Field("template.name", "value.message_template_name", text),
    Field("template.language", "value.message_template_language", text),
    Field("status", "value.event", text, "Such as APPROVED, REJECTED, PAUSED, PENDING_DELETION"),
    Field("reason", "value.reason", text),
    Field("quality.new", "value.new_quality_score", text),
    Field("quality.previous", "value.previous_quality_score", text),
    Field("category.new", "value.new_category", text),
    Field("category.previous", "value.previous_category", text),
    page="template webhook",
    section="16",
    certainty="confirmed",
    key=("template.id",),
)

ACCOUNT: Final = _shape(
    "account",
    "WhatsApp account or number event",
    Field("status", ("value.event", "value.decision"), text, "Such as DISABLED_UPDATE, ACCOUNT_DELETED, APPROVED"),
    Field("ban.state", "value.ban_info.waba_ban_state", text),
    Field("ban.date", "value.ban_info.waba_ban_date", text, "In words"),
    Field(
        "preferences",
        "value.user_preferences",
        objects(
            (
                Field("phone", "wa_id", phone),
                Field("category", "category", text, "Such as marketing_messages"),
                Field("value", "value", text, "Such as stop, resume"),
                Field("at", "timestamp", seconds),
            ),
            known=("detail", "user_id", "parent_user_id"),
        ),
        "Of customers, on marketing messages",
    ),
    page="phone webhook",
    section="17",
    certainty="partial",
    key=(),
    known=tuple(
        f"value.{name}"
        for name in (
            "contacts",
            "current_limit",
            "old_limit",
            "rejection_reason",
            "requested_verified_name",
            "restriction_info",
            "violation_info",
            "waba_info",
        )
    ),
    finish=_time_of_first("preferences"),
)

SYNC: Final = _shape(
    "sync",
    "WhatsApp Business app sync",
    Field("phone_number_id", ("value.phone_number_id", "value.metadata.phone_number_id"), identifier),
    Field("contact.name", "value.full_name", text, "Absent on removal. Of a list, where it has one contact alone"),
    Field("contact.phone", "value.phone_number", phone),
    Field("contact.action", "value.action", text, "add (also for edits) or remove"),
    Field(
        "contacts",
        "value.state_sync",
        objects(
            (
                Field("name", ("contact.full_name", "contact.first_name"), text, "Absent on removal"),
                Field("phone", "contact.phone_number", phone),
                Field("action", "action", text, "add (also for edits) or remove"),
                Field("at", ("metadata.timestamp", "timestamp"), seconds),
            ),
            known=("type", "contact.user_id", "contact.parent_user_id", "contact.username"),
        ),
        "All of them, where they come in a list",
    ),
    page="SMB",
    section="19",
    certainty="partial",
    key=(),
    # Past chats and what was sent from the phone app: nothing to answer, so they are no incoming messages.
    known=("value.contacts", "value.history", "value.message_echoes", "value.messages"),
    finish=in_turn(_time_of_first("contacts"), _alone),
)

OTHER: Final = _shape(
    "event",
    "Other WhatsApp event",
    page="template webhook",
    section="16",
    certainty="partial",
    key=(),
)

#: Event name to shape. A name that is not here is accepted as OTHER, and drift.
BY_NAME: Final[Mapping[str, Shape]] = {
    **dict.fromkeys(_TEMPLATE, TEMPLATE),
    **dict.fromkeys(_ACCOUNT, ACCOUNT),
    **dict.fromkeys(_SYNC, SYNC),
}

_HANGUP_BY: Final = {"0": "caller", "1": "callee", "2": "server", "3": "unknown"}


#: In the costs of a call; the costs of messages number it 1 downlink, 2 uplink.
_DIRECTION: Final = {"0": "inbound", "1": "outbound"}


def _from_costs(data: dict[str, Any], source: Mapping[str, Any], scope: Scope) -> None:
    """A call that lasted was answered; its first cost tells direction and price."""
    if "duration_s" in data:
        data["answered"] = data["duration_s"] > 0
    for cost in data.get("costs", ())[:1]:
        if "direction_code" in cost:
            data["direction"] = _DIRECTION.get(str(cost["direction_code"]), "unknown")
        data["price"] = {name: cost[name] for name in ("amount", "currency") if name in cost}


CALL: Final = Shape(
    "nxcloud.whatsapp.call",
    "call.event",
    "WhatsApp call record",
    page="calls webhook",
    section="18",
    certainty="confirmed",
    required="call_id",
    key=("call_id",),
    time=("ended_at", "started_at"),
    constants={"product": "whatsapp", "state": "ended"},
    known=("channel", "messaging_product", "metadata", "contacts"),
    finish=_from_costs,
    fields=(
        Field("call_id", "calls.call_id", identifier),
        Field("from", "calls.from", phone),
        Field("to", "calls.to", phone),
        Field("direction", "", words(_DIRECTION), "Of its first cost; the call itself names none"),
        Field("business_phone", ("business_phone", "merchant_phone"), phone),
        Field("started_at", "calls.start_time", seconds),
        Field("ended_at", "calls.end_time", seconds),
        Field("duration_s", "calls.call_duration", duration, "Not always the difference of the two times"),
        Field("answered", "", flag, "Whether it lasted"),
        *coded("hangup.by", "hangup.by_code", "calls.end_direction", words(_HANGUP_BY), integer),
        Field("hangup.cause", "calls.end_reason", text),
        Field("recording_url", "calls.record", text),
        Field("billing.seconds", "calls.fee_duration", duration),
        Field("billing.rule", "calls.bill_type", text, "Such as 6+6"),
        Field(
            "costs",
            "calls.costs",
            objects(
                (
                    Field("amount", "price", money),
                    Field("currency", "currency", text),
                    Field("direction_code", "direction", integer, "1 out, 0 in"),
                )
            ),
        ),
        Field("price.amount", "", money, "Of the first cost"),
        Field("price.currency", "", text, "Of the first cost"),
        Field("waba_id", "wabaId", identifier, "WhatsApp Business account"),
        Field("app_id", "app_id", identifier),
    ),
)
