"""Everything one scenario plays in: gateway, load, subscribers, and broker; and the end that all scenarios share."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Final, TypeVar

from tests.broker import cluster as brokers
from tests.broker.cluster import Cluster
from tests.lossproof import checker, history, stored
from tests.lossproof.callbacks import Item
from tests.lossproof.checker import Verdict
from tests.lossproof.damaged import Damaged
from tests.lossproof.destroyed import Destroyed
from tests.lossproof.gaps import Gaps
from tests.lossproof.history import History, Told
from tests.lossproof.load import Load
from tests.lossproof.process import Gateway
from tests.lossproof.proxy import Proxy
from tests.lossproof.receiver import Receiver
from tests.lossproof.roles import BROKER, CHILDREN, COMMANDS, PREFIX, SUPERVISOR, Mode, ingest_config, receivers
from tests.lossproof.shim import Shim
from tests.lossproof.witness import Witness
from tests.ports import free_port
from tests.waiting import pause, until

Kind = TypeVar("Kind")

#: Nobody delivers until the session of a killed process is over: with the default of 15 s most of a run is waiting.
_SESSION_S: Final = 4

#: At the end: without a single new arrival for this long, what is missing is lost. A machine with much else to do can
#: need half of it to start a process; a group of Kafka's whose member was killed needs its session's time-out first.
_STILL_S: Final = {"embedded": 60.0, "kafka": 120.0, "split": 120.0}
#: Events that the first subscriber may lack before the load goes slow: a fan-out that is killed over and over must
#: not be a million events behind at the end.
_FAR_BEHIND: Final = 5000
#: Between looks at what the gateway's log names as gone, while the rest arrives.
_LOOK_S: Final = 2.0
#: What was broken on purpose is not waited for that long.
_STILL_BROKEN_S: Final = 6.0


@dataclass(slots=True)
class World:
    """One scenario under way.

    Args:
        folder: everything it writes.
        mode: see the package.
        rng: draws the schedule of faults, and nothing else.
        goes_on: whether there is time, or are cycles, left.
        say: progress for people.
        broken: what the gateway is made to do wrong, see ``hooks``.
    """

    folder: Path
    mode: Mode
    rng: Random
    goes_on: Callable[[int], bool]
    say: Callable[[str], None]
    broken: str = ""
    with_shim: bool = False
    with_proxy: bool = False
    #: No event may be twice in the journal.
    stores_once: bool = True
    journal_folder: Path | None = None
    #: Lines for ``server.properties`` of the broker.
    broker_settings: dict[str, str] = field(default_factory=dict)
    #: The first process accepts callbacks before the others, and the broker, are started.
    is_ingest_first: bool = False
    config: dict[str, Any] = field(default_factory=dict)
    receivers: list[Receiver] = field(default_factory=receivers)
    gateways: list[Gateway] = field(default_factory=list)
    cycles: int = 0
    schedule: list[str] = field(default_factory=list)
    is_long: bool = False
    #: How often each fault was really made.
    injected: Counter[str] = field(default_factory=Counter)
    #: What scenarios found themselves, and what is to be undone at the end.
    breaches: list[str] = field(default_factory=list)
    undo: list[Callable[[], object]] = field(default_factory=list)
    damaged: Damaged = field(default_factory=Damaged)
    destroyed: Destroyed = field(default_factory=Destroyed)
    witness: Witness = field(default_factory=lambda: Witness(PREFIX))
    #: Topics whose number of partitions was changed.
    repartitioned: set[str] = field(default_factory=set)
    gaps: Gaps = field(init=False)
    broker: Cluster | None = None
    proxy: Proxy | None = None
    shim: Shim | None = None
    #: Subscribers and the events that did not come to them while nothing moved.
    _given_up: set[tuple[str, Item]] = field(default_factory=set)
    load: Load = field(init=False)
    _history: History = field(init=False)

    # -- life ---------------------------------------------------------------------------------------------------

    def __post_init__(self) -> None:
        self.gaps = Gaps(self.witness)

    async def start(self) -> None:
        """Start everything; load flows when this returns."""
        for receiver in self.receivers:
            receiver.rng = Random(f"{receiver.name}")
            await receiver.start()
        if self.with_shim:
            self.shim = Shim(self.folder)
        if self.mode != "embedded":
            await self._make_broker()
        self._make_gateways()
        self._history = History(self.history_path)
        # What a broken build loses stays lost: a repeat would store it after all.
        repeats = {"repeat_share": 0.0} if self.broken else {}
        self.load = Load(lambda: self.ingest.url, self._history, Random("load"), self._is_behind, **repeats)
        if self.is_ingest_first:
            await self.bring_up(self.ingest)
            await self._start_load()
            await self.load.more(100)
        if self.broker is not None:
            await asyncio.to_thread(self.broker.start)
        if self.is_ingest_first and self.broker is not None:
            await self._published()  # who begins where Kafka ends by now lacks these
        for gateway in self.gateways:
            if not gateway.is_running:
                await self.bring_up(gateway)
        if not self.is_ingest_first:
            await self._start_load()

    async def _published(self, within_s: float = 60.0) -> None:
        """Wait until the first records are in Kafka."""
        async with asyncio.timeout(within_s):
            while not self.witness.items():
                await self.witness.look(self.bootstrap)

    async def _start_load(self) -> None:
        self._history.start()
        await self.load.start()

    @property
    def history_path(self) -> Path:
        """The file of what was sent and answered."""
        return self.folder / "history.txt"

    def _is_behind(self) -> bool:
        return self.load.accepted - len(self.receivers[0].items) > _FAR_BEHIND

    async def _make_broker(self) -> None:
        extra = dict(self.broker_settings)
        if self.with_proxy:
            self.proxy = Proxy(free_port())
            await self.proxy.start()
            extra["advertised.listeners"] = f"PLAINTEXT://127.0.0.1:{self.proxy.port}"
        self.broker = await asyncio.to_thread(brokers.create, extra=extra)
        if self.proxy is not None:
            self.proxy.target = self.broker.nodes[0].port

    @property
    def bootstrap(self) -> str:
        """Where the gateway meets the broker."""
        assert self.broker is not None
        return f"127.0.0.1:{self.proxy.port}" if self.proxy is not None else self.broker.bootstrap

    def _make_gateways(self) -> None:
        common: dict[str, Any] = {
            "log": {"format": "json"},
            "ingest": ingest_config(),
            "subscribers": [receiver.row() for receiver in self.receivers],
            "journal": {"dir": str(self.journal_folder or self.folder / "data")},
        }
        if self.mode != "embedded":
            common["kafka"] = {"bootstrap_servers": self.bootstrap, "partitions": 3, "session_timeout": _SESSION_S}
            common["topics"] = {"prefix": PREFIX}
        common |= self.config
        environment = self.shim.environment if self.shim is not None else {}
        for command in COMMANDS[self.mode]:
            config = {**common, "admin": {"port": free_port()}}
            self.gateways.append(Gateway(self.folder / command, config, command, environment))

    @property
    def ingest(self) -> Gateway:
        """Those processes that take callbacks."""
        return self.gateways[0]

    @property
    def fanout(self) -> Gateway:
        """Those processes that deliver."""
        return self.gateways[-1]

    @property
    def data(self) -> Path:
        """The journal's folder."""
        return Path(self.ingest.config["journal"]["dir"])

    async def bring_up(self, gateway: Gateway, point: str = "") -> None:
        """Start all processes of a command and wait for them."""
        await gateway.launch(point, self.broken)
        await gateway.ready()

    # -- for scenarios ------------------------------------------------------------------------------------------

    @property
    def children(self) -> tuple[str, ...]:
        """Kinds of process below the supervisors."""
        return CHILDREN[self.mode]

    def gateway(self, role: str) -> Gateway:
        """The command that a role belongs to."""
        return next(gateway for gateway in self.gateways if gateway.command == role.partition("/")[0])

    async def kill(self, role: str, draw: float = 0.0) -> None:
        """SIGKILL.

        Args:
            role: see ``ROLES``.
            draw: from 0 to 1, which of several of a kind.
        """
        if role == BROKER:
            await self.broker_away("SIGKILL")
            return
        gateway, kind = self.gateway(role), role.partition("/")[2]
        if not kind:
            await gateway.kill()
        elif kind == SUPERVISOR:
            await gateway.kill_supervisor()
        else:
            await gateway.end_child(kind, signal.SIGKILL, draw)
        self.inject(f"SIGKILL {role}")

    async def end(self, gateway: Gateway, how: str, *, is_well: bool = True) -> None:
        """SIGKILL or SIGTERM.

        Args:
            is_well: it must end with 0 after SIGTERM. One that has no journal cannot, and names its error.
        """
        if how == "SIGKILL":
            await self.kill(gateway.command)
            return
        code = await gateway.terminate()
        self.inject(f"SIGTERM {gateway.command}")
        if code and (is_well or not gateway.told("gateway.failed")):
            self.breaches.append(f"cycle {self.cycles}: {gateway.command} ended with {code} after SIGTERM, and not 0")

    async def join(self, receiver: Receiver) -> None:
        """Start a subscriber more. The gateway does not know of it yet."""
        await receiver.start()
        self.receivers.append(receiver)

    async def restart(self, role: str) -> None:
        """Start what was killed, and wait for it. The supervisor starts its children."""
        if role == BROKER:
            await self.broker_back("SIGKILL")
        elif role in self.children:
            await self.gateway(role).whole()
        else:
            await self.bring_up(self.gateway(role))

    async def broker_away(self, how: str) -> None:
        """SIGKILL, SIGTERM (an orderly stop) or SIGSTOP."""
        assert self.broker is not None
        node = self.broker.nodes[0]
        await asyncio.to_thread({"SIGKILL": node.kill, "SIGTERM": node.stop, "SIGSTOP": node.suspend}[how])
        self.inject(f"{how} {BROKER}")

    async def broker_back(self, how: str) -> None:
        """On the same port and data."""
        assert self.broker is not None
        await asyncio.to_thread(self.broker.nodes[0].resume if how == "SIGSTOP" else self.broker.nodes[0].start)

    def inject(self, fault: str) -> None:
        """A fault was made."""
        self.injected[fault] += 1

    def deal(self, kinds: Sequence[Kind]) -> Iterator[Kind]:
        """Draw for ever, each kind once before any comes again, so that few cycles meet all of them."""
        while True:
            yield from self.rng.sample(kinds, len(kinds))

    def cycle(self, what: str) -> bool:
        """Begin a cycle: note what was drawn. False when there is no time left."""
        if not self.goes_on(self.cycles):
            return False
        self.cycles += 1
        self.schedule.append(what)
        arrived = sum(len(receiver.taken) for receiver in self.receivers)
        self.say(f"cycle {self.cycles}: {what}; accepted {self.load.accepted}, delivered {arrived}")
        return True

    async def delivered_more(self, count: int, within_s: float = 60.0) -> None:
        """Wait until the first subscriber took so many more."""
        target = len(self.receivers[0].taken) + count
        await until(lambda: len(self.receivers[0].taken) >= target, within_s=within_s)

    async def positions_stored(self, group: str) -> None:
        """Wait until a group's position would be durable if it ran ahead of what is done.

        Of a build that is broken on purpose it does, and is waited for. Of others it must not: they get the time in
        which positions are stored.
        """
        await stored.position_reached(self.data, group, is_broken=bool(self.broken))

    # -- the end ------------------------------------------------------------------------------------------------

    async def finish(self) -> Verdict:
        """Stop the load, let everything arrive, stop the gateway, prove."""
        await self.load.more(20)
        await self.load.stop()
        await self._history.close()
        told = history.read(self.history_path)
        await self._arrived(told)
        codes = [await gateway.terminate() for gateway in reversed(self.gateways)]
        log = await self._read_log()
        verdict = checker.check(
            told, log, [one for one in self.receivers if not one.is_gone], self.witness.places(self.repartitioned)
        )
        verdict.breaches += self.gaps.breaches()
        if self.stores_once and (twice := await asyncio.to_thread(stored.twice, self.data)):
            verdict.breaches.append(f"the journal has {len(twice)} events more than once: {twice[:3]}")
        if any(codes):
            verdict.breaches.append(f"the gateway ended with {codes} after SIGTERM, and not with 0")
        verdict.breaches += [breach for gateway in self.gateways for breach in gateway.breaches()]
        return verdict

    def excuse(self, verdict: Verdict) -> int:
        """Excuse the losses that the gateway named as gone, where the test made them; return how many these are."""
        covers = self._excused(history.read(self.history_path))
        return verdict.excuse(covers)

    def named(self) -> None:
        """Take in what the gateway's log names as gone by now."""
        self._excused(history.read(self.history_path))

    def _excused(self, told: Mapping[int, Told]) -> Callable[[Item, str], bool]:
        """Return whether the gateway named an event as gone, at a subscriber or ("") in the log."""
        for gateway in self.gateways:
            self.damaged.read(gateway.told)
        self.destroyed.read(told)
        self.gaps.read([line for gateway in self.gateways for line in gateway.all_lines], told)
        sources = (self.damaged, self.destroyed, self.gaps)
        return lambda item, where: any(source.covers(item, where) for source in sources)

    async def caught_up(self) -> None:
        """Wait until every subscriber has what was accepted by now, or nothing moves any more.

        What was named as gone is not waited for. What is missing then is not waited for again: the checker reports it.
        """
        await self._arrived(history.read(self.history_path))

    async def _arrived(self, told: Mapping[int, Told]) -> None:
        wanted = {r.name: checker.expected_at(told, r) for r in self.receivers if not r.is_gone}
        covers, looked_at = self._excused(told), time.monotonic()
        last, since = -1, time.monotonic()
        while True:
            missing = {(r.name, item) for r in self.receivers if r.name in wanted for item in wanted[r.name] - r.items}
            missing = {(name, item) for name, item in missing - self._given_up if not covers(item, name)}
            if not missing:
                return
            # Under load there is always an arrival; without, repeats show that delivery goes on.
            arrived = sum(len(receiver.taken) for receiver in self.receivers)
            progress, at = arrived if self.load.is_stopping else len(missing), time.monotonic()
            if progress != last:
                last, since = progress, at
            elif at - since > (_STILL_BROKEN_S if self.broken and arrived else _STILL_S[self.mode]):
                self._given_up |= missing
                return
            if at - looked_at > _LOOK_S:  # the subscribers share this loop, and it costs them time
                covers, looked_at = self._excused(told), at
            self.say(f"the last {len(missing)} are on their way")
            await pause(0.1, "between two comparisons, which cost the subscribers time")

    async def _read_log(self) -> dict[str, list[Any]]:
        if self.mode == "embedded":
            return dict(await asyncio.to_thread(stored.journal, self.data))
        await self.witness.look(self.bootstrap)
        return self.witness.log()

    async def close(self) -> None:
        """Stop what is left, whatever happened."""
        jobs: list[Coroutine[Any, Any, Any]] = [receiver.stop() for receiver in self.receivers]
        jobs += [gateway.kill() for gateway in self.gateways if gateway.is_running]
        if hasattr(self, "load"):
            jobs.append(self.load.abort())
        if self.proxy is not None:
            jobs.append(self.proxy.stop())
        await asyncio.gather(*jobs, return_exceptions=True)
        if self.broker is not None:
            await asyncio.to_thread(self.broker.remove)
        for undo in self.undo:
            undo()
