"""This gateway beside its peers, the same work for all: ``python -m tests.benchmarks peers``.

Distinct receipts (``sms-dr``, form-encoded) come by 64 and 512 connections; a side answers 200 when the event is
durable by its own promise, which the table states. By-hand sides decode the form and produce a JSON event of about the
same shape with the message id as key, ``acks=all`` and idempotence. Figures are processor time of the whole process
tree up to the last event published, for each answer; answers a second; p50 and p99 of an answer. After each round it is
checked that every answer has its record in Kafka.

Nothing is pinned, as users run it: sides, load and broker share the processors. ``--pinned`` gives one processor to the
side and the others to the load. ``--broker-syncs`` starts a broker with ``log.flush.interval.messages=1``, with which
all sides promise the same. ``--against COMMIT`` measures the gateway of another commit beside ours. A side whose tools
are not here is left out with a sentence. Bars: :mod:`tests.benchmarks.peers.bars`.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import uvloop

from gateway.log.kafka import topics
from gateway.log.kafka.options import KafkaOptions
from tests.benchmarks import end_to_end, ingest_requests, latency, report, wrk
from tests.benchmarks.machine import cores
from tests.benchmarks.parts import broker
from tests.benchmarks.peers import RUN, bars, hostile_subscribers, sides, tables
from tests.benchmarks.peers.measure import Driver, Round, SideFailed, Stored
from tests.benchmarks.peers.sides import Place, Running, Side

#: With more connections than this only the sides that are ``is_crowded`` are measured.
CROWD: Final = 1000
SYNCS: Final = {"log.flush.interval.messages": "1"}
_SHARE: Final = 0.7


@dataclass(frozen=True, slots=True)
class Setting:
    """How it is measured; see :func:`run`."""

    rounds: int
    seconds: float
    connections: Sequence[int]
    pinned: bool
    broker_syncs: bool

    def processors(self) -> tuple[set[int], set[int]]:
        """Return those of the sides and those of the load."""
        every = set(os.sched_getaffinity(0))
        return cores() if self.pinned else (every, every)

    def figures(self) -> dict[str, Any]:
        """Return what the tables say about it."""
        commit = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], cwd=sides.ROOT, capture_output=True, text=True, check=False
        )
        return {
            "pinned": self.pinned,
            "broker_syncs": self.broker_syncs,
            "processors": len(os.sched_getaffinity(0)),
            "rounds": self.rounds,
            "seconds": self.seconds,
            "commit": commit.stdout.strip(),
        }


def run(
    *,
    rounds: int = 3,
    seconds: float = 5.0,
    connections: Sequence[int] = (64, 512, 4096),
    chosen: Sequence[str] = (),
    pinned: bool = False,
    broker_syncs: bool = False,
    against: str = "",
    more: bool = True,
) -> dict[str, Any]:
    """Measure, print the tables, return the figures.

    Args:
        rounds: times that the sides take turns.
        seconds: of load, each round and side.
        connections: a case for each.
        chosen: names of sides; none for all.
        pinned: the sides to one processor, the load to the others.
        broker_syncs: the sides with Kafka only, with a broker that syncs before it acknowledges.
        against: commit whose gateway is measured too.
        more: also from callback to webhook, answers at 70 % of capacity, and answers beside hostile subscribers;
            not with a broker that syncs.
    """
    wrk.check()
    setting = Setting(rounds, seconds, connections, pinned, broker_syncs)
    more = more and not broker_syncs
    with tempfile.TemporaryDirectory() as name, broker(SYNCS if broker_syncs else None) as bootstrap:
        place = Place(Path(name), bootstrap, setting.processors()[0])
        asked = {side: how for side, how in sides.SIDES.items() if not chosen or side in chosen}
        asked |= sides.before(against, place.folder) if against else {}
        asked = {side: how for side, how in asked.items() if how.has_kafka or not broker_syncs}
        figures = _compared(setting, place, asked, against, more=more)
    if more:
        _add_more(figures, setting)
    print(f"\n{tables.plain(figures)}", flush=True)
    return figures


def _add_more(figures: dict[str, Any], setting: Setting) -> None:
    """What has no peers: from callback to webhook, and the platform's answers beside hostile subscribers."""
    found = end_to_end.run(rounds=setting.rounds, seconds=setting.seconds, pinned=setting.pinned)
    figures["in and out"] = found
    figures["bars"]["HTTP in, signed HTTP out, of bare aiohttp in and out"] = bars.at_most(
        bars.IN_AND_OUT, found["gateway"]["of_in_and_out"]
    )
    with tempfile.TemporaryDirectory() as name:
        found = hostile_subscribers.run(
            _requests(Path(name)), rounds=setting.rounds, seconds=setting.seconds, processors=setting.processors()
        )
    figures["hostile subscribers"] = found
    figures["bars"]["p99 with 20 hostile subscribers, of without"] = bars.at_most(
        bars.BESIDE_HOSTILE, found["with"]["of_without"]
    )


def _compared(setting: Setting, place: Place, asked: Mapping[str, Side], against: str, *, more: bool) -> dict[str, Any]:
    """Return the figures of the sides that run here."""
    names = {place.topic(side) for side, how in asked.items() if how.has_kafka}
    uvloop.run(topics.create(KafkaOptions((place.bootstrap,)), sorted(names)))
    requests = _requests(place.folder)
    stored = Stored(place.bootstrap)
    driver = Driver(requests, place.folder, setting.processors()[1], stored)
    left_out: dict[str, str] = {}
    try:
        with _started(place, asked, driver, left_out) as ready:
            rounds = _rounds(setting, asked, ready, driver, left_out)
            found = {
                "setting": setting.figures(),
                "promises": {side: asked[side].says(broker_syncs=setting.broker_syncs) for side in ready},
                "left_out": left_out,
                **{f"{connections} connections": _figures(of) for connections, of in rounds.items()},
                "bars": dict(bars.of_rounds(rounds, broker_syncs=setting.broker_syncs, commit=against)),
            }
            if more and RUN in ready:
                p99 = _p99_at_a_share(setting, ready[RUN], requests)
                found["bars"][f"p99 of {RUN}, at {_SHARE:.0%} of capacity, ms"] = bars.at_most(bars.P99_AT_70_MS, p99)
            return found
    finally:
        stored.close()


def _requests(folder: Path) -> Path:
    """Return the file of requests. They accept no gzip: Bento would compress its empty answers, for 600 µs each."""
    path = ingest_requests.write("sms-dr", folder)
    path.write_bytes(path.read_bytes().replace(b"Accept-Encoding: gzip,deflate\r\n", b""))
    return path


@contextlib.contextmanager
def _started(
    place: Place, asked: Mapping[str, Side], driver: Driver, left_out: dict[str, str]
) -> Iterator[dict[str, Running]]:
    """All sides that can run, warm; the others with a sentence in ``left_out``."""
    ready: dict[str, Running] = {}
    started: list[Running] = []
    try:
        for side, how in asked.items():
            try:
                started.append(running := how.start(side, place))
                running.service.wait_ready()
                driver.warm_up(side, running)
            except (sides.NotHere, SideFailed) as exc:
                left_out[side] = str(exc)
                print(f"{side}: left out. {exc}", flush=True)
            else:
                ready[side] = running
        yield ready
    finally:
        for running in started:
            running.service.stop()


def _rounds(
    setting: Setting,
    asked: Mapping[str, Side],
    ready: dict[str, Running],
    driver: Driver,
    left_out: dict[str, str],
) -> dict[int, dict[str, list[Round]]]:
    """Drive all sides in turn; one that fails leaves the comparison with a sentence."""
    found: dict[int, dict[str, list[Round]]] = {}
    for connections in setting.connections:
        taking = [side for side in ready if connections <= CROWD or asked[side].is_crowded]
        found[connections] = {side: [] for side in taking}
        for number in range(setting.rounds):
            # Another one begins each round: who comes after whom is part of the noise.
            for side in taking[number % len(taking) :] + taking[: number % len(taking)]:
                if side in left_out:
                    continue
                try:
                    one = driver.round(side, ready[side], connections=connections, seconds=setting.seconds)
                except SideFailed as exc:
                    left_out[side] = f"With {connections} connections: {exc}"
                    print(f"{side}: left out. {exc}", flush=True)
                else:
                    found[connections][side].append(one)
        found[connections] = {side: of for side, of in found[connections].items() if side not in left_out}
        for side, figures in _figures(found[connections]).items():
            processes = figures.pop("processes")
            print(report.line(f"{connections} connections: {side}", figures), flush=True)
            if len(processes) > 1:
                print(report.line("    µs an event by process", processes), flush=True)
    return found


def _figures(of: Mapping[str, Sequence[Round]]) -> dict[str, dict[str, Any]]:
    """Return side → its figures, of one case."""
    return {
        side: {
            "cpu_us": report.summary([one.cpu_us for one in rounds]),
            "per_s": report.summary([one.load.per_s for one in rounds], 0),
            "p50_ms": report.summary([one.load.p50_s * 1000 for one in rounds]),
            "p99_ms": report.summary([one.load.p99_s * 1000 for one in rounds]),
            "wrk_cpu": report.summary([one.load.cpu_share for one in rounds], 2),
            "processes": {
                kind: report.summary([one.by_kind_us.get(kind, 0.0) for one in rounds])
                for kind in dict.fromkeys(kind for one in rounds for kind in one.by_kind_us)
            },
        }
        for side, rounds in of.items()
    }


def _p99_at_a_share(setting: Setting, running: Running, requests: Path) -> dict[str, Any]:
    """Return p99 of the answers, in ms, at a share of what the side takes from the sender that measures it."""
    messages = requests.read_bytes().split(b"\0")
    with latency.sending_on(setting.processors()[1]):
        capacity = uvloop.run(latency.capacity(running.service.port, messages, setting.seconds))
        found = []
        for _ in range(setting.rounds):
            times, _ = uvloop.run(latency.constant(running.service.port, messages, capacity * _SHARE, setting.seconds))
            found.append(latency.percentile_ms(sorted(times), 0.99))
        return report.summary(found, 2)
