"""The words of the model: the names in ``data`` with their meanings, and the values that they may have (design.md 6).

A name has one meaning and one vocabulary in all event types.

A table of codes (``words`` in :mod:`gateway.callbacks.fields`) with a word that is not here is refused, so two products
cannot have two words for one meaning. Minor versions may add words, and never rename them.
The table of a type has the source of a name in this type, and notes that are specific to it. A test refuses a table
with a name that :data:`MEANINGS` lacks, and a name there that no table has.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

Vocabulary = frozenset[str]


def _words(text: str) -> Vocabulary:
    return frozenset(text.split())


#: The medium.
CHANNEL: Final = _words("sms whatsapp viber line zalo messenger email voice")

#: Of an SMS.
SMS_STATUS: Final = _words("delivered undelivered rejected expired deleted dnd invalid_sender invalid_recipient")
#: Of a message on any other channel.
MESSAGE_STATUS: Final = _words(
    "sent delivered read failed undelivered expired deleted journey_acknowledged journey_timed_out"
)
EMAIL_STATUS: Final = _words("delivered undelivered")
VERIFY_STATUS: Final = _words("success pending mismatch failure")
TASK_STATUS: Final = _words("waiting running completed failed paused paused_no_balance")
#: Of a template, an account, a number or a flow.
CHANNEL_STATUS: Final = _words(
    "approved rejected paused disabled pending pending_deletion deleted flagged in_appeal reinstated archived "
    "unarchived limit_exceeded locked unlocked violation restricted partner_added partner_removed verified "
    "deferred draft published deprecated blocked throttled"
)
#: Of ``channel.event``: WhatsApp's names of events, which are words, and LINE's in the same spelling.
CHANNEL_EVENT: Final = _words(
    "message_template_status_update message_template_quality_update template_category_update account_update "
    "account_review_update phone_number_name_update phone_number_quality_update user_preferences "
    "smb_app_state_sync history smb_message_echoes flows follow unfollow join leave member_joined member_left "
    "postback unsend video_play_complete beacon account_link things membership"
)
CHECK_STATUS: Final = _words(
    "ok internal_error bad_value backend_error bad_number_format not_mobile not_found not_charged"
)

CALL_STATE: Final = _words("created ringing answered in_call ended agent_waiting agent_ended")
#: The platform's names of the end of a privacy-number call.
CALL_STATUS: Final = _words("ended ended_abnormally")
OUTCOME: Final = _words("answered no_answer busy rejected cancelled failed voicemail")
DIRECTION: Final = _words("inbound outbound")
HANGUP_BY: Final = _words("caller callee agent customer system")
LEG: Final = _words("agent call")
#: The purpose of a voice message.
PURPOSE: Final = _words("broadcast notification verification_or_notification")

#: The type of a message.
KIND: Final = _words(
    "text image video voice audio document file location sticker button interactive reaction order referral contacts"
)
#: The billing category of a message or a conversation.
CATEGORY: Final = _words(
    "message marketing utility authentication service free international_authentication marketing_lite "
    "referral_conversion business_initiated"
)
TEMPLATE_CATEGORY: Final = _words("marketing utility authentication")
QUALITY: Final = _words("green yellow red")
NUMBER_TYPE: Final = _words(
    "other fixed mobile toll_free voip organisation special_private voicemail special_restricted invalid"
)
YES_NO: Final = _words("yes no")
BAN: Final = _words("disabled reinstated scheduled")
CONTACT_ACTION: Final = _words("add remove")
PREFERENCE: Final = _words("stop resume")


_CODE: Final = "The platform's own code"
_NUMBER: Final = "E.164 with + where the country code is certain, else digits, else text"
_NATIONAL: Final = "True where that number is digits whose country is not certain: national, an extension, a short code"

#: Which numbers there are, and what each is.
_NUMBERS: Final = {
    "to": "Who it went to",
    "from": "Who it came from",
    "to_real": "The number that was really dialled",
    "phone": "The number it is about",
    "business_phone": "The business's number",
    "basic.number": "The number in standard form",
    "did": "The privacy number",
    "did_x": "The privacy number that the caller sees",
    "did_y": "The privacy number that the callee sees",
    "contact.phone": "Number of the contact",
    "reply_to.from": "Who sent the message that is answered",
}

_OTHERS: Final = {
    # what it is about
    "message_id": "Id of the message: the platform's, or made of the content of an incoming message that has none",
    "parent_message_id": "The id that a send to several numbers returned",
    "platform_message_id": "Id of the message on its channel",
    "call_id": "Id of the call",
    "order_id": "Id of the order",
    "task_id": "The platform's id of the task",
    "external_task_id": "The customer's id of the task",
    "request_id": "Id of the request",
    "batch_id": "Id of the batch",
    "record_id": "Id of the record",
    "contact_id": "Id of the contact in the task",
    "scene_id": "Id of the script template",
    "business_id": "Id of the business",
    "bind_id": "The platform's id of the binding",
    "external_bind_id": "The customer's id of the binding",
    "binding_type": "Type of the binding",
    "journey_id": "Id of the journey",
    "oa_id": "Id of the Official Account",
    "app_id": "Id of the application",
    "waba_id": "Id of the WhatsApp Business account",
    "phone_number_id": "Id of the business's number",
    "to_user_id": "The channel's id of who it went to",
    "from_user_id": "The channel's id of who it came from",
    "group_id": "The channel's id of the group that it came from",
    "event_id": "The channel's id of the event",
    "flow_id": "Id of the flow",
    "summary_of": "Type of the events whose facts this one repeats; do not add both up",
    # product and medium
    "channel": "The medium",
    "product": "The platform's product, by the name of its callback",
    "kind": "Type of the message",
    "kind_code": _CODE,
    "purpose": "What the voice message was sent for",
    "purpose_code": _CODE,
    "direction": "Of a call: from our side or to it",
    "direction_code": _CODE,
    # what became of it
    "status": "What became of it; the words are those of the topic",
    "status_code": _CODE,
    "status_text": "The platform's text for the status; its wording and language vary",
    "delivered": "Whether the message was delivered",
    "final": "Whether the outcome is settled: no later event turns it",
    "verified": "Whether the verification succeeded",
    "result": "The platform's text for the result",
    "result_code": _CODE,
    "platform_code": "The channel's own code",
    "error.code": "The platform's own code of the error",
    "error.title": "The platform's text for the error",
    "error.platform_code": "The channel's own code of the error",
    "event": "What happened",
    "event_code": _CODE,
    "reason": "Why, in the platform's word, lower case",
    "action": "What was asked for",
    # times
    "at": "When it happened",
    "sent_at": "When the message was sent",
    "done_at": "When the message reached its final status",
    "created_at": "When it was created",
    "updated_at": "When the record was changed last",
    "started_at": "When the call began",
    "ringing_at": "When the phone began to ring",
    "answered_at": "When the call was answered",
    "ended_at": "When the call ended",
    "queued_at": "When the call entered the queue",
    "dequeued_at": "When the call left the queue",
    "platform_sent_at": "When the channel sent it",
    # calls
    "state": "Where the call, or its agent, is in its life",
    "state_code": _CODE,
    "outcome": "How the call ended, derived from answer, cause and reason by one table",
    "answered": "Whether the call was answered",
    "duration_s": "How long the call lasted, seconds",
    "ring_duration_s": "How long it rang, seconds",
    "queue_duration_s": "How long it waited in the queue, seconds",
    "hangup.cause": "Why the call ended: name of a Q.850 cause, or of one of the platform's own",
    "hangup.reason": "Why the call ended: free text of the platform",
    "hangup.q850": "Why the call ended: Q.850 code",
    "hangup.sip": "Why the call ended: SIP status",
    "hangup.vendor_code": "Why the call ended: the platform's own code",
    "hangup.by": "Who ended the call",
    "hangup.by_code": _CODE,
    "recorded": "Whether there is a recording",
    "recording_url": "Address of the recording",
    "voicemail_url": "Address of the voicemail",
    "dtmf": "Keys pressed",
    "intents": "What the called person wants",
    "leg": "Whose event of the call it is",
    "leg_code": _CODE,
    "legs": "The calls that make up the call",
    "info": "The platform's text for the state; its wording varies",
    "queue": "Access number of the queue",
    "line_address": "Address of the line",
    "to_formatted": "The callee's number after formatting",
    "to_name": "Name of who it went to",
    "extension": "Extension",
    "extension_from": "Extension of the caller",
    "extension_to": "Extension of the callee",
    "params": "Parameters of the call",
    "sms": "SMS sent after the call",
    "agent.id": "Id of the agent, a person or an AI agent",
    "agent.name": "Name of the agent",
    "agent.nickname": "Nickname of the agent",
    "agent.sip_id": "Id of the agent's phone",
    "agent.group": "Group of the agent",
    "agent.label": "Label of the agent",
    "agent.status_code": _CODE,
    "agent.elapsed_s": "How long the agent's part lasted, seconds",
    "agent.started_at": "When the agent's part began",
    "agent.answered_at": "When the agent answered",
    "agent.ended_at": "When the agent's part ended",
    "agent.hangup_by_code": "The platform's own code of who ended the agent's part",
    "first_of_contact": "Whether it is the first call to this contact",
    "last_of_contact": "Whether it is the last call to this contact",
    "order_finished": "Whether the order is finished",
    # money
    "segments": "Billed parts",
    "price.unit": "Price of one billed part or cycle",
    "price.total": "Price of all of it",
    "price.currency": "Currency of unit and total",
    "price.rate_to_cny": "Exchange rate to CNY",
    "price.amount_cny": "Price in CNY, if the platform reports it",
    "price.not_connected": "Base charge of a call that was not connected",
    "billing.seconds": "Billed seconds",
    "billing.cycle_s": "Length of a billing cycle, seconds",
    "billing.cycles": "Billed cycles",
    "billing.rule": "Rule of billing",
    "costs": "What was billed, part by part",
    "rate_type": "What rate was billed, such as Transactional",
    # tasks
    "name": "Name of the task",
    "counters.total_orders": "Orders of the task",
    "counters.finished_orders": "Finished orders",
    "counters.answered_orders": "Orders with an answered call",
    "counters.finish_rate": "Finished of all orders, 0 to 1",
    "counters.total_calls": "Calls of the task",
    "counters.answered_calls": "Answered calls",
    "counters.answer_rate": "Answered of all calls, 0 to 1",
    # messages
    "ext": "Echo of what the customer gave with the request",
    "sender_name": "Name of the sender",
    "text": "Text of the message",
    "media.id": "Id of the file; fetch it by the platform's API",
    "media.url": "Address of the file",
    "media.mime_type": "MIME type of the file",
    "media.sha256": "SHA-256 of the file",
    "media.caption": "Caption of the file",
    "media.filename": "Name of the file",
    "media.duration_s": "How long the recording is, seconds",
    "location.latitude": "Degrees north",
    "location.longitude": "Degrees east",
    "location.name": "Name of the place",
    "location.address": "Address of the place",
    "location.url": "Web page of the place",
    "reply.id": "Id of the chosen button or row",
    "reply.title": "Text of the chosen button or row",
    "reply.description": "Description of the chosen row",
    "reply_to.message_id": "Id of the message that is answered",
    "reaction.message_id": "Id of the message reacted to",
    "reaction.emoji": "The reaction",
    "order.catalog_id": "Id of the catalogue",
    "order.text": "Text with the order",
    "order.items": "What was ordered",
    "contacts": "People's names and numbers",
    "form_reply.name": "Name of the form",
    "form_reply.text": "Text of the message that carries the answers",
    "form_reply.token": "What the business gave with the form",
    "form_reply.response": "The answers by the names of the form's fields",
    "reply_token": "Gives the right to answer, for a short time",
    "mode": "Whether this system is the one to answer",
    "redelivered": "Whether the channel marks the event as delivered again",
    "tag": "Name of the tag",
    "pricing.billable": "Whether it is charged",
    "pricing.model": "How it is charged",
    "pricing.type": "Why it is charged or free",
    "pricing.category": "What it is billed as",
    "pricing.category_code": _CODE,
    "conversation.id": "Id of the conversation",
    "conversation.category": "What the conversation is billed as",
    "conversation.category_code": _CODE,
    "conversation.expires_at": "When the conversation expires",
    # channel events
    "change": "What kind of change it is, in the platform's word, lower case",
    "new_status": "The platform's own code of the status from now on",
    "old_status": "The platform's own code of the status until now",
    "alert.state": "Whether the alert began or ended, in the platform's word, lower case",
    "alert.threshold": "The bound that the alert is about",
    "template.id": "Id of the template",
    "template.name": "Name of the template",
    "template.language": "Language of the template",
    "quality.new": "Quality from now on",
    "quality.new_code": _CODE,
    "quality.previous": "Quality until now",
    "quality.previous_code": _CODE,
    "category.new": "Category from now on",
    "category.new_code": _CODE,
    "category.previous": "Category until now",
    "category.previous_code": _CODE,
    "ban.state": "Whether the account is banned",
    "ban.state_code": _CODE,
    "ban.date": "Date of the ban, in words",
    "preferences": "What customers want to be sent",
    "contact.name": "Name of the contact",
    "contact.action": "Whether the contact was added (or edited) or removed",
    # numbers
    "basic.valid": "Whether it can be a number",
    "basic.region": "Country code, two characters",
    "basic.country_code": "Country code",
    "basic.national_number": "The number without its country code",
    "basic.number_type": "Type of the number",
    "basic.number_type_code": _CODE,
    "basic.carrier": "Carrier",
    "live.valid": "Whether the number is in use",
    "live.reachable": "Whether the phone can be reached",
    "live.roaming": "Whether the phone is abroad",
    "live.active": "Whether the number is active",
    "live.ported": "Whether the number was ported to another carrier",
    "live.mcc": "Mobile country code",
    "live.mnc": "Mobile network code",
    "dial.early": "Whether it rang",
    "dial.answered": "Whether it was answered",
    "dial.response": "What was heard, such as bell, busy, power_off, voicemail",
    "raw": "The platform's fields as received",
}

#: Name in ``data`` (``a.b`` is member ``b`` of object ``a``) to its meaning.
MEANINGS: Final[Mapping[str, str]] = MappingProxyType(
    {
        **{name: f"{meaning}. {_NUMBER}" for name, meaning in _NUMBERS.items()},
        **{f"{name}_national": _NATIONAL for name in _NUMBERS},
        **_OTHERS,
    }
)
