"""Vendor callbacks, decoded, verified and answered: pure functions from request bytes to events.

``CALLBACKS`` lists them all: one line for each path of design.md, section 5.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

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
from gateway.callbacks.callback import Callback, DecodeContext, Decoded, one_item
from gateway.callbacks.event_schema import EventSchema
from gateway.callbacks.request import CallbackRequest

__all__ = [
    "CALLBACKS",
    "Answer",
    "Answers",
    "Callback",
    "CallbackRequest",
    "DecodeContext",
    "Decoded",
    "EventSchema",
]


def _form(name: str, title: str, *schemas: EventSchema, **more: Any) -> Callback:
    return Callback(name, title, "form", TEXT_ANSWERS, schemas, **more)


def _json(name: str, title: str, *schemas: EventSchema, answers: Answers = CODE_ANSWERS, **more: Any) -> Callback:
    return Callback(name, title, "json", answers, schemas, **more)


def _callbot(name: str, title: str, own: EventSchema, other: EventSchema) -> Callback:
    classify = callbot.classify_by_content(own)
    return _json(name, title, own, other, answers=CALLBOT_ANSWERS, classify=classify, signature="callbot")


def _ai_agent(name: str, title: str, own: EventSchema, other: EventSchema) -> Callback:
    return _json(name, title, own, other, classify=ai_agent.classify_by_content(own), signature="general")


_TABLE: Final = (
    _form("sms-dr", "SMS delivery receipt", sms.SMS_DR),
    _form(
        "did-sms",
        "DID SMS: receipt and incoming message",
        sms.DID_DR,
        sms.DID_MO,
        classify=sms.classify_did,
        signature="general",
    ),
    _form("voice-dr", "Voice receipt", voice.VOICE_DR),
    _json("webcall-cdr", "WebCall call detail record", call_centre.WEBCALL_CDR),
    _json("predictive-dial", "Predictive dial event", call_centre.PREDICTIVE),
    _json("call-status", "Call status push V1.0", call_centre.CALL_STATUS),
    _json("nxlink-call", "NXLink call record", call_centre.NXLINK_CALL),
    _ai_agent("ai-agent-call", "AI Agent call record", ai_agent.CALL, ai_agent.TASK),
    _ai_agent("ai-agent-task", "AI Agent task status", ai_agent.TASK, ai_agent.CALL),
    _callbot("callbot-call", "Callbot by call", callbot.CALL, callbot.TASK),
    _callbot("callbot-order", "Callbot by order", callbot.ORDER, callbot.TASK),
    _callbot("callbot-task", "Callbot task status", callbot.TASK, callbot.CALL),
    _json(
        "whatsapp",
        "WhatsApp: messages, statuses, events, calls",
        whatsapp.STATUS_SCHEMA,
        whatsapp.MESSAGE_SCHEMA,
        whatsapp_events.TEMPLATE,
        whatsapp_events.ACCOUNT,
        whatsapp_events.SYNC,
        whatsapp_flows.FLOW,
        whatsapp_flows.ECHO,
        whatsapp_events.OTHER,
        whatsapp_events.CALL,
        classify=whatsapp_items.classify,
        signature="general",
    ),
    _json(
        "viber",
        "Viber: receipt and reply",
        channels.VIBER_STATUS_SCHEMA,
        channels.VIBER_MESSAGE,
        classify=one_item(channels.viber_schema),
    ),
    _json("zalo", "Zalo ZNS receipt", channels.ZALO_STATUS_SCHEMA),
    _json(
        "messenger",
        "Messenger: reply and receipt",
        channels.MESSENGER_MESSAGE,
        channels.MESSENGER_STATUS_SCHEMA,
        classify=one_item(channels.messenger_schema),
    ),
    _json(
        "line",
        "LINE: incoming message, event, receipt",
        line.MESSAGE,
        line.EVENT,
        line.STATUS_SCHEMA,
        classify=line.classify,
        identity=line.identity,
    ),
    _json("super-message", "Super Message receipt", channels.SUPER_STATUS_SCHEMA),
    _json("number-check", "Number check result", numbers.NUMBER_CHECK),
    _json(
        "pns",
        "Privacy number: call record and error",
        numbers.PNS_CALL,
        numbers.PNS_ERROR,
        classify=one_item(numbers.pns_schema),
    ),
    _form("ota", "OTA one-click login verification", numbers.OTA),
    _json("email-dr", "Email verification code receipt", email.EMAIL_DR, answers=EMAIL_ANSWERS),
)

#: The built-in callbacks by name.
CALLBACKS: Final[Mapping[str, Callback]] = MappingProxyType({callback.name: callback for callback in _TABLE})
