"""Vendor callbacks, decoded, verified and answered: pure functions from request bytes to events.

``CALLBACKS`` lists them all: one line for each path of design.md, section 5.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from gateway.callbacks import (
    ai_agent,
    call_centre,
    callbot,
    channels,
    email,
    line,
    numbers,
    sms,
    voice,
    whatsapp,
    whatsapp_events,
    whatsapp_flows,
    whatsapp_items,
)
from gateway.callbacks.answers import CALLBOT_ANSWERS, CODE_ANSWERS, EMAIL_ANSWERS, TEXT_ANSWERS, Answer, Answers
from gateway.callbacks.callback import Callback, DecodeContext, Decoded, only
from gateway.callbacks.event_schema import EventSchema
from gateway.callbacks.request import CallbackRequest

__all__ = [
    "CALLBACKS",
    "EVENT_SCHEMAS",
    "Answer",
    "Answers",
    "Callback",
    "CallbackRequest",
    "DecodeContext",
    "Decoded",
    "EventSchema",
]

_TABLE: Final = (
    Callback("sms-dr", "SMS delivery receipt", "form", TEXT_ANSWERS, None, (sms.SMS_DR,), only(sms.SMS_DR)),
    Callback(
        "did-sms",
        "DID SMS: receipt and incoming message",
        "form",
        TEXT_ANSWERS,
        "general",
        (
            sms.DID_DR,
            sms.DID_MO,
        ),
        sms.classify_did,
    ),
    Callback("voice-dr", "Voice receipt", "form", TEXT_ANSWERS, None, (voice.VOICE_DR,), only(voice.VOICE_DR)),
    Callback(
        "webcall-cdr",
        "WebCall call detail record",
        "json",
        CODE_ANSWERS,
        None,
        (call_centre.WEBCALL_CDR,),
        only(call_centre.WEBCALL_CDR),
    ),
    Callback(
        "predictive-dial",
        "Predictive dial event",
        "json",
        CODE_ANSWERS,
        None,
        (call_centre.PREDICTIVE,),
        only(call_centre.PREDICTIVE),
    ),
    Callback(
        "call-status",
        "Call status push V1.0",
        "json",
        CODE_ANSWERS,
        None,
        (call_centre.CALL_STATUS,),
        only(call_centre.CALL_STATUS),
    ),
    Callback(
        "nxlink-call",
        "NXLink call record",
        "json",
        CODE_ANSWERS,
        None,
        (call_centre.NXLINK_CALL,),
        only(call_centre.NXLINK_CALL),
    ),
    Callback(
        "ai-agent-call",
        "AI Agent call record",
        "json",
        CODE_ANSWERS,
        "general",
        (
            ai_agent.CALL,
            ai_agent.TASK,
        ),
        ai_agent.classify_by_content(ai_agent.CALL),
    ),
    Callback(
        "ai-agent-task",
        "AI Agent task status",
        "json",
        CODE_ANSWERS,
        "general",
        (
            ai_agent.TASK,
            ai_agent.CALL,
        ),
        ai_agent.classify_by_content(ai_agent.TASK),
    ),
    Callback(
        "callbot-call",
        "Callbot by call",
        "json",
        CALLBOT_ANSWERS,
        "callbot",
        (
            callbot.CALL,
            callbot.TASK,
        ),
        callbot.classify_by_content(callbot.CALL),
    ),
    Callback(
        "callbot-order",
        "Callbot by order",
        "json",
        CALLBOT_ANSWERS,
        "callbot",
        (
            callbot.ORDER,
            callbot.TASK,
        ),
        callbot.classify_by_content(callbot.ORDER),
    ),
    Callback(
        "callbot-task",
        "Callbot task status",
        "json",
        CALLBOT_ANSWERS,
        "callbot",
        (
            callbot.TASK,
            callbot.CALL,
        ),
        callbot.classify_by_content(callbot.TASK),
    ),
    Callback(
        "whatsapp",
        "WhatsApp: messages, statuses, events, calls",
        "json",
        CODE_ANSWERS,
        "general",
        (
            whatsapp.STATUS_SCHEMA,
            whatsapp.MESSAGE_SCHEMA,
            whatsapp_events.TEMPLATE,
            whatsapp_events.ACCOUNT,
            whatsapp_events.SYNC,
            whatsapp_flows.FLOW,
            whatsapp_flows.ECHO,
            whatsapp_events.OTHER,
            whatsapp_events.CALL,
        ),
        whatsapp_items.classify,
    ),
    Callback(
        "viber",
        "Viber: receipt and reply",
        "json",
        CODE_ANSWERS,
        None,
        (
            channels.VIBER_STATUS_SCHEMA,
            channels.VIBER_MESSAGE,
        ),
        channels.classify_viber,
    ),
    Callback(
        "zalo",
        "Zalo ZNS receipt",
        "json",
        CODE_ANSWERS,
        None,
        (channels.ZALO_STATUS_SCHEMA,),
        only(channels.ZALO_STATUS_SCHEMA),
    ),
    Callback(
        "messenger",
        "Messenger: reply and receipt",
        "json",
        CODE_ANSWERS,
        None,
        (
            channels.MESSENGER_MESSAGE,
            channels.MESSENGER_STATUS_SCHEMA,
        ),
        channels.classify_messenger,
    ),
    Callback(
        "line",
        "LINE: incoming message, event, receipt",
        "json",
        CODE_ANSWERS,
        None,
        (
            line.MESSAGE,
            line.EVENT,
            line.STATUS_SCHEMA,
        ),
        line.classify,
        line.identity,
    ),
    Callback(
        "super-message",
        "Super Message receipt",
        "json",
        CODE_ANSWERS,
        None,
        (channels.SUPER_STATUS_SCHEMA,),
        only(channels.SUPER_STATUS_SCHEMA),
    ),
    Callback(
        "number-check",
        "Number check result",
        "json",
        CODE_ANSWERS,
        None,
        (numbers.NUMBER_CHECK,),
        only(numbers.NUMBER_CHECK),
    ),
    Callback(
        "pns",
        "Privacy number: call record and error",
        "json",
        CODE_ANSWERS,
        None,
        (
            numbers.PNS_CALL,
            numbers.PNS_ERROR,
        ),
        numbers.classify_pns,
    ),
    Callback("ota", "OTA one-click login verification", "form", TEXT_ANSWERS, None, (numbers.OTA,), only(numbers.OTA)),
    Callback(
        "email-dr",
        "Email verification code receipt",
        "json",
        EMAIL_ANSWERS,
        None,
        (email.EMAIL_DR,),
        only(email.EMAIL_DR),
    ),
)

#: The built-in callbacks by name.
CALLBACKS: Final[Mapping[str, Callback]] = MappingProxyType({callback.name: callback for callback in _TABLE})

#: Every schema by its event type, for documents.
EVENT_SCHEMAS: Final[Mapping[str, EventSchema]] = MappingProxyType(
    {schema.type: schema for callback in _TABLE for schema in callback.schemas}
)
