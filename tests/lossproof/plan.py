"""What a run plays, in which order, and which faults it must have injected at its end."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from tests.lossproof.roles import Mode
from tests.lossproof.scenarios import SCENARIOS

#: Where every kind of process is killed ``--kills`` times; ``gateway run`` with a broker has the same kinds.
_KILLED_OFTEN: Final[tuple[Mode, ...]] = ("split", "embedded")

#: Scenarios of :func:`short`. None needs Kafka, Java or a C compiler; together they take about two minutes.
_SHORT: Final = ("kill", "reconnect", "backlog", "subscribers")


@dataclass(frozen=True, slots=True)
class Play:
    """One scenario in one mode.

    Args:
        cycles: how many; 0: as many as fit into ``minutes``, or the scenario's own number.
        is_whole: all of the scenario's faults must have been injected at its end.
    """

    scenario: str
    mode: Mode
    cycles: int = 0
    minutes: float = 0.0
    is_whole: bool = False

    @property
    def faults(self) -> frozenset[str]:
        """That it must have injected."""
        return frozenset(SCENARIOS[self.scenario].faults(self.mode)) if self.is_whole else frozenset()


def record(kills: int) -> list[Play]:
    """Everything in every mode, each kind of process killed so often. The longest first: two at a time end together."""
    often = [Play("kill", mode, kills, is_whole=True) for mode in _KILLED_OFTEN]
    rest = [
        Play(name, mode, scenario.cycles, is_whole=True)
        for mode in ("split", "kafka", "embedded")
        for name, scenario in SCENARIOS.items()
        if mode in scenario.modes and not (name == "kill" and mode in _KILLED_OFTEN)
    ]
    return often + rest


def short() -> list[Play]:
    """Return what a reader plays to see the proof: kills and bad subscribers, with the embedded log."""
    return [Play(name, "embedded", SCENARIOS[name].cycles, is_whole=True) for name in _SHORT]


def chosen(names: Collection[str], modes: Collection[str], cycles: int, minutes: float) -> list[Play]:
    """What the command line asks for; nothing is everything once."""
    plays = [
        (name, mode) for name in names or SCENARIOS for mode in SCENARIOS[name].modes if not modes or mode in modes
    ]
    return [Play(name, mode, cycles, minutes / len(plays), not cycles and not minutes) for name, mode in plays]
