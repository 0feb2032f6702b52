"""Vendor callbacks, decoded, verified and answered: pure functions from request bytes to events.

``CALLBACKS`` is the whole of it: one line for each path of design.md, section 5.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from gateway.callbacks import call_centre, callbot, sms, whatsapp, whatsapp_items
from gateway.callbacks.answers import CALLBOT_ANSWERS, CODE_ANSWERS, TEXT_ANSWERS, Answer, Answers
from gateway.callbacks.callback import Callback, DecodeContext, Decoded, only
from gateway.callbacks.request import CallbackRequest

__all__ = [
    "CALLBACKS",
    "Answer",
    "Answers",
    "Callback",
    "CallbackRequest",
    "DecodeContext",
    "Decoded",
]

_TABLE: Final = (
    Callback("sms-dr", "SMS delivery receipt", "form", TEXT_ANSWERS, None, (sms.SMS_DR,), only(sms.SMS_DR)),
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
        "callbot-task",
        "Callbot task status",
        "json",
        CALLBOT_ANSWERS,
        "callbot",
        (callbot.TASK, callbot.CALL),
        callbot.split_by_content(callbot.TASK),
    ),
    Callback(
        "whatsapp",
        "WhatsApp",
        "json",
        CODE_ANSWERS,
        "general",
        (whatsapp.STATUS_SHAPE, whatsapp.MESSAGE_SHAPE),
        whatsapp_items.split,
    ),
)

#: The built-in callbacks by name.
CALLBACKS: Final[Mapping[str, Callback]] = MappingProxyType({callback.name: callback for callback in _TABLE})
