"""The faults, one scenario each. Every draw is made before the fault, so that a seed gives the same schedule."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from tests.lossproof import disk, ends, folder, machine, network, newcomers, peers, topics
from tests.lossproof.roles import BROKER, ROLES, Mode
from tests.lossproof.world import World

EMBEDDED: Final[tuple[Mode, ...]] = ("embedded",)
WITH_BROKER: Final[tuple[Mode, ...]] = ("kafka", "split")
APART: Final[tuple[Mode, ...]] = ("embedded", "split")
ALL: Final[tuple[Mode, ...]] = ("embedded", "kafka", "split")


@dataclass(frozen=True, slots=True)
class Scenario:
    """One kind of fault.

    Args:
        what: one line for people.
        modes: where it makes sense.
        play: makes faults while ``world.cycle`` says so.
        cycles: of a run without ``--minutes``; enough for each of ``faults``.
        faults: by mode, what must have been injected when it was played whole; names as in ``World.injected``.
        prepare: before anything starts.
        with_shim, with_proxy: what it needs beside the gateway.
        stores_once: no event may be twice in the journal. Where a disk fails, a commit may be there that failed.
    """

    what: str
    modes: tuple[Mode, ...]
    play: Callable[[World], Awaitable[None]]
    cycles: int
    faults: Callable[[Mode], Iterable[str]]
    prepare: Callable[[World], None] = lambda world: None
    with_shim: bool = False
    with_proxy: bool = False
    stores_once: bool = True


def _each(form: str, kinds: Iterable[str]) -> Callable[[Mode], Iterable[str]]:
    """The same in every mode: ``form`` with each kind in it."""
    names = [form.format(kind) for kind in kinds]
    return lambda mode: names


def _roles(form: str, of: Callable[[Mode], Iterable[str]]) -> Callable[[Mode], Iterable[str]]:
    """``form`` with each role in it."""
    return lambda mode: [form.format(role) for role in of(mode)]


def _points(mode: Mode) -> Iterable[str]:
    of = ends.POINTS[mode].items()
    return (f"SIG{how} {role} {point}" for role, points in of for point in points for how in ends.SIGNALS)


def _recreated(mode: Mode) -> Iterable[str]:
    fanouts = topics.WHILE[mode]
    names = {f"topic recreated, {change} partitions, fanout {when.partition(',')[0]}" for when in fanouts
             for change in topics.CHANGES}  # fmt: skip
    return names | {f"topic recreated, fanout {when}" for when in fanouts}


SCENARIOS: Final[Mapping[str, Scenario]] = {
    "kill": Scenario("SIGKILL of every kind of process at random, while starting, too", ALL, ends.kill, 8,
                     _roles("SIGKILL {}", lambda mode: ROLES[mode])),
    "reconnect": Scenario("the log process dies around a commit, and the others reconnect", APART, ends.reconnect, 5,
                          _each("log dies {}", ends.RECONNECTS)),
    "points": Scenario("ends at chosen points of commit, publishing and delivery", ALL, ends.points, 22, _points),
    "backlog": Scenario("SIGKILL while subscribers lag behind", ALL, ends.backlog, 4,
                        _each("{}", ["SIGKILL with a backlog"])),
    "term": Scenario("SIGTERM at random, and a new process at once", ALL, ends.term, 6,
                     _roles("SIGTERM {}", ends.terminated)),
    "freeze": Scenario("SIGSTOP: connections stay, nothing answers", ALL, ends.freeze, 7,
                       _roles("SIGSTOP 30 s {}", ends.frozen)),
    "torn": Scenario("a page of the WAL half written", APART, disk.torn, 4, _each("torn: {}", disk.TORN),
                     with_shim=True),
    "flip": Scenario("a bit flipped in WAL or file", APART, disk.flip, 4, _each("bit flipped in the {}", disk.FLIPPED)),
    "disk-full": Scenario("no space left", APART, disk.full, 2, _each("{}", ["disk full"]), disk.small_disk,
                          with_shim=True, stores_once=False),
    "fsync": Scenario("writes and syncs fail, or take long", APART, disk.refuses, 6, _each("{}", disk.FAILURES),
                      with_shim=True, stores_once=False),
    "clock": Scenario("the clock jumps an hour both ways, and two ahead", ALL, machine.clock, 4,
                      _each("clock {} h", ["+1", "-1", "+2"]), with_shim=True),
    "files": Scenario("out of file descriptors", ALL, machine.files, 2, _each("{}", ["out of file descriptors"])),
    "subscribers": Scenario("subscribers fail in every way at once", ALL, peers.fail, 3,
                            _each("{}", [peers.ALL_FAIL]), peers.bad_company),
    "reload": Scenario("subscribers come and go by configuration", ALL, peers.reload, 6,
                       _each("reload: {}", peers.RELOADS)),
    "broker": Scenario("the broker is killed, stopped, suspended", WITH_BROKER, network.broker, 3,
                       _each(f"{{}} {BROKER}", network.ENDS)),
    "outage": Scenario("SIGKILL while the broker is away", WITH_BROKER, network.outage, 2,
                       _each("{}", ["SIGKILL while the broker is away"])),
    "network": Scenario("the network to the broker is cut, swallows, is slow", WITH_BROKER, network.network, 3,
                        _each("network {}", network.TROUBLES), with_proxy=True),
    "journal-full": Scenario("the broker is away until the journal is full", WITH_BROKER, network.journal_full, 1,
                             _each("{}", ["journal full"]), network.small_journal),
    "folder": Scenario("the journal's files are removed, moved, replaced, cut", APART, folder.gone, 6,
                       _each("journal: {}", folder.WAYS)),
    "recreated": Scenario("topics are deleted and created again", WITH_BROKER, topics.recreated, 3, _recreated),
    "expired": Scenario("records are deleted past a stopped fanout", ("split",), topics.expired, 2,
                        _each("{} past a stopped fanout", topics.EXPIRED), topics.short_rounds),
    "newcomers": Scenario("subscribers are added when Kafka is away", WITH_BROKER, newcomers.added, 4,
                          _each("{}", newcomers.FAULTS), newcomers.fresh),
    "newcomers-disk": Scenario("subscribers are added when the disk fails", EMBEDDED, newcomers.added_on_a_bad_disk, 2,
                               _each(f"{newcomers.BAD_DISK}{{}}", ("", ", then SIGKILL")),
                               with_shim=True, stores_once=False),
    "rolling": Scenario("one process after the other is replaced", ("split",), ends.rolling, 3,
                        _each("{}", ["rolling upgrade"])),
}  # fmt: skip
