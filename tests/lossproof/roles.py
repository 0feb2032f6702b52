"""Who takes part in a scenario: the processes of each mode, by the names that schedules use, and the subscribers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

from tests.lossproof.callbacks import SHOP, TOPICS
from tests.lossproof.process import KINDS
from tests.lossproof.receiver import Receiver
from tests.ports import free_port

Mode = Literal["embedded", "kafka", "split"]

BROKER: Final = "broker"
#: Of the topics' names.
PREFIX: Final = "lp."
SUPERVISOR: Final = "supervisor"
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

#: Retry topics are shared; one subscriber that has them shows as much as three.
NO_TIERS: Final = {"retry": {"attempts": 1000, "first_delay_s": 0.1, "max_delay_s": 1, "tiers": []}}


def ingest_config() -> dict[str, Any]:
    """Section ``ingest``. Two processes share the port: repeats and keys meet both."""
    return {"port": free_port(), "callbacks": {"shop": SHOP}, "workers": 2}


def receivers() -> list[Receiver]:
    """The subscribers of every scenario: one for everything, one for a topic, one with a filter."""
    return [
        Receiver("all", TOPICS),
        Receiver("orders", ("shop.order",), settings=NO_TIERS),
        Receiver("filtered", ("sms.dr", "message.status"), prefix="k1", settings=NO_TIERS),
    ]
