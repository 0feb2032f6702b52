"""The faults, one scenario each. Every draw is made before the fault, so that a seed gives the same schedule."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

from tests.lossproof import disk, ends, machine, network, peers
from tests.lossproof.world import Mode, World

EMBEDDED: Final[tuple[Mode, ...]] = ("embedded",)
BROKER: Final[tuple[Mode, ...]] = ("kafka", "split")
ALL: Final[tuple[Mode, ...]] = ("embedded", "kafka", "split")


@dataclass(frozen=True, slots=True)
class Scenario:
    """One kind of fault.

    Args:
        what: one line for people.
        modes: where it makes sense.
        play: makes faults while ``world.cycle`` says so.
        cycles: of a run without ``--minutes``.
        prepare: before anything starts.
        with_shim, with_proxy: what it needs beside the gateway.
    """

    what: str
    modes: tuple[Mode, ...]
    play: Callable[[World], Awaitable[None]]
    cycles: int
    prepare: Callable[[World], None] = lambda world: None
    with_shim: bool = False
    with_proxy: bool = False


SCENARIOS: Final[Mapping[str, Scenario]] = {
    "kill": Scenario("SIGKILL at random, while starting, too", ALL, ends.kill, 8),
    "points": Scenario("ends at chosen points of commit, publishing and delivery", ALL, ends.points, 8),
    "backlog": Scenario("SIGKILL while subscribers lag behind", ALL, ends.backlog, 4),
    "term": Scenario("SIGTERM at random, and a new process at once", ALL, ends.term, 6),
    "freeze": Scenario("SIGSTOP: connections stay, nothing answers", ALL, ends.freeze, 4),
    "torn": Scenario("a page of the WAL half written", EMBEDDED, disk.torn, 6, with_shim=True),
    "flip": Scenario("a bit flipped in WAL or file", EMBEDDED, disk.flip, 4),
    "disk-full": Scenario("no space left", EMBEDDED, disk.full, 3, disk.small_disk, with_shim=True),
    "fsync": Scenario("writes and syncs fail, or take long", EMBEDDED, disk.refuses, 6, with_shim=True),
    "clock": Scenario("the clock jumps an hour, both ways", ALL, machine.clock, 6, with_shim=True),
    "files": Scenario("out of file descriptors", EMBEDDED, machine.files, 3),
    "subscribers": Scenario("subscribers fail in every way at once", ALL, peers.fail, 5, peers.bad_company),
    "reload": Scenario("subscribers come and go by configuration", ALL, peers.reload, 5),
    "broker": Scenario("the broker is killed, stopped, suspended", BROKER, network.broker, 4),
    "outage": Scenario("SIGKILL while the broker is away", BROKER, network.outage, 4),
    "network": Scenario("the network to the broker is cut, swallows, is slow", BROKER, network.network, 4,
                        with_proxy=True),
    "journal-full": Scenario("the broker is away until the journal is full", ("kafka",), network.journal_full, 2,
                             network.small_journal),
    "rolling": Scenario("one process after the other is replaced", ("split",), ends.rolling, 3),
}  # fmt: skip
