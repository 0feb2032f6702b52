"""Vendor callbacks, decoded, verified and answered: pure functions from request bytes to events.

``CALLBACKS`` lists them all: one line for each path of design.md, section 5.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from gateway.callbacks import (
    automatic_calls,
    calls,
    line,
    messages,
    numbers,
    sms,
    whatsapp,
    whatsapp_events,
    whatsapp_items,
)
from gateway.callbacks.answers import CALLBOT_ANSWERS, CODE_ANSWERS, EMAIL_ANSWERS, TEXT_ANSWERS, Answer, Answers
from gateway.callbacks.callback import Callback, DecodeContext, Decoded, EventSchema, one_item
from gateway.callbacks.payload import CallbackRequest

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
    classify = automatic_calls.classify_callbot(own)
    return _json(name, title, own, other, answers=CALLBOT_ANSWERS, classify=classify, signature="callbot")


def _ai_agent(name: str, title: str, own: EventSchema, other: EventSchema) -> Callback:
    return _json(name, title, own, other, classify=automatic_calls.classify_ai_agent(own), signature="general")


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
    _form("voice-dr", "Voice receipt", calls.VOICE_DR),
    _json("webcall-cdr", "WebCall call detail record", calls.WEBCALL_CDR),
    _json("predictive-dial", "Predictive dial event", calls.PREDICTIVE),
    _json("call-status", "Call status push V1.0", calls.CALL_STATUS),
    _json("nxlink-call", "NXLink call record", calls.NXLINK_CALL),
    _ai_agent("ai-agent-call", "AI Agent call record", automatic_calls.AI_AGENT_CALL, automatic_calls.AI_AGENT_TASK),
    _ai_agent("ai-agent-task", "AI Agent task status", automatic_calls.AI_AGENT_TASK, automatic_calls.AI_AGENT_CALL),
    _callbot("callbot-call", "Callbot by call", automatic_calls.CALLBOT_CALL, automatic_calls.CALLBOT_TASK),
    _callbot("callbot-order", "Callbot by order", automatic_calls.CALLBOT_ORDER, automatic_calls.CALLBOT_TASK),
    _callbot("callbot-task", "Callbot task status", automatic_calls.CALLBOT_TASK, automatic_calls.CALLBOT_CALL),
    _json(
        "whatsapp",
        "WhatsApp: messages, statuses, events, calls",
        whatsapp.STATUS_SCHEMA,
        whatsapp.MESSAGE_SCHEMA,
        whatsapp_events.TEMPLATE,
        whatsapp_events.ACCOUNT,
        whatsapp_events.SYNC,
        whatsapp_events.FLOW,
        whatsapp_events.ECHO,
        whatsapp_events.OTHER,
        whatsapp_events.CALL,
        classify=whatsapp_items.classify,
        signature="general",
    ),
    _json(
        "viber",
        "Viber: receipt and reply",
        messages.VIBER_STATUS_SCHEMA,
        messages.VIBER_MESSAGE,
        classify=one_item(messages.viber_schema),
    ),
    _json("zalo", "Zalo ZNS receipt", messages.ZALO_STATUS_SCHEMA),
    _json(
        "messenger",
        "Messenger: reply and receipt",
        messages.MESSENGER_MESSAGE,
        messages.MESSENGER_STATUS_SCHEMA,
        classify=one_item(messages.messenger_schema),
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
    _json("super-message", "Super Message receipt", messages.SUPER_STATUS_SCHEMA),
    _json("number-check", "Number check result", numbers.NUMBER_CHECK),
    _json(
        "pns",
        "Privacy number: call record and error",
        numbers.PNS_CALL,
        numbers.PNS_ERROR,
        classify=one_item(numbers.pns_schema),
    ),
    _form("ota", "OTA one-click login verification", numbers.OTA),
    _json("email-dr", "Email verification code receipt", messages.EMAIL_DR, answers=EMAIL_ANSWERS),
)

#: The built-in callbacks by name.
CALLBACKS: Final[Mapping[str, Callback]] = MappingProxyType({callback.name: callback for callback in _TABLE})
