"""Who plays in a scenario: the processes that can be killed, the subscribers, and what no gateway may log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from tests.lossproof.callbacks import TOPICS
from tests.lossproof.process import KINDS, Gateway
from tests.lossproof.receiver import Receiver

Mode = Literal["embedded", "kafka", "split"]

BROKER: Final = "broker"
SUPERVISOR: Final = "supervisor"
#: Of the topics' names.
PREFIX: Final = "lp."
COMMANDS: Final[Mapping[Mode, tuple[str, ...]]] = {
    "embedded": ("run",),
    "kafka": ("run",),
    "split": ("serve", "fanout"),
}
#: Kinds of process below the supervisors: ``run/log``.
CHILDREN: Final[Mapping[Mode, tuple[str, ...]]] = {
    mode: tuple(f"{command}/{kind}" for command in commands for kind in KINDS[command])
    for mode, commands in COMMANDS.items()
}
#: What is killed: each kind of process, the supervisor alone (``run/supervisor``), all processes of a command at once
#: (``run``), and the broker.
ROLES: Final[Mapping[Mode, tuple[str, ...]]] = {
    mode: (
        *CHILDREN[mode],
        *(f"{command}/{SUPERVISOR}" for command in commands),
        *commands,
        *((BROKER,) if mode != "embedded" else ()),
    )
    for mode, commands in COMMANDS.items()
}
#: Of a stack trace, so many are shown.
_TRACE_LINES: Final = 60
#: Lines of the gateway that are a breach wherever they are.
_NEVER: Final = ("delivery.broke", "link.not_understood", "process.crashed", "process.killed")
#: At the end: without a single new arrival for this long, what is missing is lost. A group of Kafka's whose member
#: was killed needs its session's time-out first.
_STILL_S: Final = {"embedded": 15.0, "kafka": 75.0, "split": 75.0}
#: What was broken on purpose is not waited for that long.
_STILL_BROKEN_S: Final = 6.0
#: Retry topics are shared; one subscriber that has them shows as much as three.
NO_TIERS: Final = {"retry": {"attempts": 1000, "first_delay_s": 0.1, "max_delay_s": 1, "tiers": []}}


def still_s(mode: Mode, *, is_broken: bool) -> float:
    """Return the seconds without an arrival after which what is missing is lost."""
    return _STILL_BROKEN_S if is_broken else _STILL_S[mode]


def receivers() -> list[Receiver]:
    """The subscribers of every scenario: one for everything, one for a topic, one with a filter."""
    return [
        Receiver("all", TOPICS),
        Receiver("orders", ("shop.order",), settings=NO_TIERS),
        Receiver("filtered", ("sms.dr", "message.status"), prefix="k1", settings=NO_TIERS),
    ]


def breaches_in_the_log_of(gateway: Gateway) -> list[str]:
    """Return what no gateway may log, whatever the fault: one sentence each."""
    breaches = gateway.strange_ends
    for event in _NEVER:
        if lines := gateway.told(event):
            breaches.append(f"the log of {gateway.command} has {event}: {lines[0]}")
    texts = [str(line.get("text", "")) for line in gateway.told("text")]
    if traces := [number for number, text in enumerate(texts) if "Traceback" in text]:
        trace = "".join(texts[traces[0] : traces[0] + _TRACE_LINES])
        breaches.append(f"the log of {gateway.command} has {len(traces)} stack traces, the first is\n{trace}")
    return breaches
