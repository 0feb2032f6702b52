"""The platform, played: what ``gateway send`` pushes, and the subscriber behind ``gateway listen``.

``GENERATORS`` has one endless generator of requests for each callback, in every layout that protocol.md describes;
all that is random comes from the caller, so a seed plays the same traffic again. ``credentials`` signs requests for a
path, ``client`` puts them on the wire byte for byte, ``load`` drives many and counts the answers. ``receiver`` is the
other end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from random import Random
from typing import Final

from gateway.traffic import callbot, calls, messaging, texting, whatsapp
from gateway.traffic.draw import Draw
from gateway.traffic.request import TrafficRequest

__all__ = ["GENERATORS", "TrafficRequest", "mixed", "requests"]

GENERATORS: Final[Mapping[str, Callable[[Draw], Iterator[TrafficRequest]]]] = {
    "sms-dr": texting.sms_dr,
    "did-sms": texting.did_sms,
    "voice-dr": texting.voice_dr,
    "webcall-cdr": calls.webcall_cdr,
    "predictive-dial": calls.predictive_dial,
    "call-status": calls.call_status,
    "nxlink-call": calls.nxlink_call,
    "ai-agent-call": calls.ai_agent_call,
    "ai-agent-task": calls.ai_agent_task,
    "callbot-call": callbot.callbot_call,
    "callbot-order": callbot.callbot_order,
    "callbot-task": callbot.callbot_task,
    "whatsapp": whatsapp.whatsapp,
    "viber": messaging.viber,
    "zalo": messaging.zalo,
    "messenger": messaging.messenger,
    "line": messaging.line,
    "super-message": messaging.super_message,
    "number-check": messaging.number_check,
    "pns": calls.pns,
    "ota": texting.ota,
    "email-dr": texting.email_dr,
}


def requests(callback: str, rng: Random, clock: Callable[[], datetime]) -> Iterator[TrafficRequest]:
    """An endless row of requests of one callback, no two of them equal.

    Raises:
        KeyError: no such callback.
    """
    return GENERATORS[callback](Draw(rng, clock))


def mixed(names: list[str], rng: Random, clock: Callable[[], datetime]) -> Iterator[TrafficRequest]:
    """Requests of several callbacks in a random order, each as often as the others."""
    rows = [requests(name, rng, clock) for name in names]
    while True:
        yield next(rows[int(rng.random() * len(rows))])
