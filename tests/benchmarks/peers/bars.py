"""What this gateway should come to beside its peers (issue 14), as ratios of one run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tests.benchmarks import peers, report
from tests.benchmarks.peers.measure import Round

#: Connections → side → its rounds.
Rounds = Mapping[int, Mapping[str, Sequence[Round]]]


@dataclass(frozen=True, slots=True)
class CpuBar:
    """Processor time of an event of one side, as a ratio of another's.

    Args:
        label: how the bar is called.
        side: ours.
        kinds: only these kinds of its processes; none for all of them.
        base: the other side.
        at_most: connections → the highest ratio that is good enough.
    """

    label: str
    side: str
    kinds: tuple[str, ...]
    base: str
    at_most: Mapping[int, float]


CPU: Final = (
    CpuBar("ingest and log, of bare aiohttp", peers.RUN, ("ingest", "log"), peers.BARE, {64: 1.4, 512: 1.0, 4096: 1.0}),
    CpuBar("ingest alone, of bare aiohttp", peers.RUN, ("ingest",), peers.BARE, {64: 1.1}),
    CpuBar("`run` embedded, of bare aiohttp", peers.RUN, (), peers.BARE, {64: 1.7, 512: 1.25}),
    CpuBar("`serve`, of aiohttp + aiokafka", peers.SERVE, (), peers.AIOHTTP, {64: 0.85, 512: 0.85}),
    CpuBar("`serve`, of granian + confluent-kafka", peers.SERVE, (), peers.GRANIAN_CONFLUENT, {64: 0.95, 512: 0.95}),
    CpuBar("`serve`, of Bento without a buffer", peers.SERVE, (), peers.BENTO, {64: 1.0, 512: 1.0}),
    CpuBar("`serve`, of Vector with its disk buffer", peers.SERVE, (), peers.VECTOR_DISK, {64: 1.0, 512: 1.0}),
)
#: With a broker that syncs before it acknowledges.
CPU_SYNCED: Final = (CpuBar("`serve`, of aiohttp + aiokafka", peers.SERVE, (), peers.AIOHTTP, {64: 0.65, 512: 0.65}),)
#: The slowest p99 of any round with 512 connections.
SLOWEST_P99_MS: Final = 100.0
#: Answers a second, of the commit that is compared with.
OF_BEFORE: Final = 1.6
IN_AND_OUT: Final = 1.5
#: p99 of answers at a constant rate, with hostile subscribers.
BESIDE_HOSTILE: Final = 1.2
P99_AT_70_MS: Final = 8.0


def of_rounds(rounds: Rounds, *, broker_syncs: bool, commit: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the bars of the rounds, each with its figure; one that could not be measured has none.

    Args:
        rounds: of all sides that ran.
        broker_syncs: which bars.
        commit: compared with; empty for none.
    """
    for bar in CPU_SYNCED if broker_syncs else CPU:
        for connections, limit in bar.at_most.items():
            if connections in rounds and bar.base in rounds[connections] and bar.side in rounds[connections]:
                yield f"{bar.label}, {connections} connections", at_most(limit, _ratio(bar, rounds[connections]))
    for side in (peers.RUN, peers.SERVE):
        crowded = rounds.get(512, {}).get(side)
        if crowded:
            slowest = max(one.load.p99_s for one in crowded) * 1000
            yield f"slowest p99 of {side}, 512 connections, ms", at_most(SLOWEST_P99_MS, round(slowest, 1))
        for connections, found in rounds.items():
            before = found.get(f"{side}, at {commit}")
            if before and side in found:
                times = report.ratio([one.load.per_s for one in found[side]], [one.load.per_s for one in before])
                yield f"answers a second of {side}, of {commit}, {connections} connections", at_least(OF_BEFORE, times)


def at_most(limit: float, figure: Any) -> dict[str, Any]:
    """Return a bar with its figure; ``met`` is None without one."""
    return {"figure": figure, "at_most": limit, "met": None if figure is None else _median(figure) <= limit}


def at_least(limit: float, figure: Any) -> dict[str, Any]:
    """Return a bar with its figure."""
    return {"figure": figure, "at_least": limit, "met": _median(figure) >= limit}


def _ratio(bar: CpuBar, found: Mapping[str, Sequence[Round]]) -> Any:
    ours = found[bar.side]
    if any(kind not in one.by_kind_us for one in ours for kind in bar.kinds):
        return None  # one process does everything
    spent = [sum(one.by_kind_us[kind] for kind in bar.kinds) if bar.kinds else one.cpu_us for one in ours]
    return report.ratio(spent, [one.cpu_us for one in found[bar.base]])


def _median(figure: Any) -> float:
    return float(figure["median"] if isinstance(figure, Mapping) else figure)
