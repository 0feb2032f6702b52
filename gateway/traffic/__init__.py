"""Simulation of the platform for ``gateway send``, and the subscriber of ``gateway listen``.

``GENERATORS`` has one endless generator of requests for each callback, in every layout that protocol.md describes. The
caller provides the source of randomness, so a seed reproduces the traffic. ``credentials`` signs requests for a path,
``client`` sends them byte for byte, ``load`` sends many and counts the answers. ``receiver`` is a subscriber.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from random import Random
from typing import Final

from gateway.traffic import callbot, calls, messaging, texting, whatsapp
from gateway.traffic.random_values import Draw
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
    """Return an endless sequence of different requests of one callback.

    Args:
        callback: name of the callback.
        rng: source of randomness.
        clock: returns the current time, timezone-aware.

    Raises:
        KeyError: the callback does not exist.
    """
    return GENERATORS[callback](Draw(rng, clock))


def mixed(names: list[str], rng: Random, clock: Callable[[], datetime]) -> Iterator[TrafficRequest]:
    """Return requests of several callbacks in random order, all with the same frequency.

    Args:
        names: names of the callbacks.
        rng: source of randomness.
        clock: returns the current time, timezone-aware.
    """
    rows = [requests(name, rng, clock) for name in names]
    while True:
        yield next(rows[int(rng.random() * len(rows))])
