"""The one reader of a process, for the partitions that its consumer group assigns to it.

See :class:`gateway.log.AssignedReader`. The group stores no positions: the owner returns where reading begins
(``on_assigned``), and cursors commit under groups of their own (:mod:`gateway.log.kafka.positions`).

* aiokafka 0.14 revokes all partitions of all members before it assigns them again (it has no cooperative protocol). So
  ``on_revoked`` is limited, by its owner and by ``revoke_s``: the group waits for the slowest member.
* With an ``instance_id`` the member is static: it does not leave when it stops, and if it starts again within the
  session time, it gets the same partitions without a rebalance. No process reads them meanwhile; the partitions of a
  process that does not return wait for the session time.
* Partitions are released in time (``lease_s``) if the coordinator has not received heartbeats: other members may have
  them afterwards.
* A topic that was deleted and created again, or a partition that lost its end, is revoked from the owner and assigned
  to it again, without the group.
* A second process with the same id fences the first one (:mod:`gateway.log.kafka.membership`). The first one reports
  it, and joins again when the other one is gone.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Any, Final

import structlog
from aiokafka import ConsumerRebalanceListener, TopicPartition, errors

from gateway.clock import within
from gateway.log import OnAssigned, OnRevoked
from gateway.log.kafka.aiokafka_workarounds import fetch_placed_only
from gateway.log.kafka.errors import AWAY, CLIENT_ERRORS, KafkaAway, Problem
from gateway.log.kafka.health import CONNECTION
from gateway.log.kafka.membership import Assignor, Membership, Namesake
from gateway.log.kafka.offsets import OffsetClient
from gateway.log.kafka.reader import ConsumerReader
from gateway.telemetry import redaction
from gateway.telemetry.metrics import METRICS

#: Between checks whether the assignment is still right.
_CHECK_S: Final = 1.0
#: Between two requests for a new assignment: the leader needs a moment to see the partitions that this member sees.
_RENEW_S: Final = 5.0

_log = structlog.get_logger("gateway.kafka")


class GroupReader(ConsumerReader):
    """See :class:`gateway.log.AssignedReader`. Made by :meth:`gateway.log.kafka.KafkaLog.join`.

    Args:
        process: distinguishes this process from another one with the same ``instance_id``.
        offsets: requests the members of the group.
    """

    _kind = "group"

    def __init__(
        self,
        *args: Any,
        on_assigned: OnAssigned,
        on_revoked: OnRevoked,
        process: str,
        offsets: OffsetClient,
        **more: Any,
    ) -> None:
        super().__init__(*args, **more)
        self._on_assigned = on_assigned
        self._on_revoked = on_revoked
        self._process = process
        self._truncations = self._ids.truncations
        self._membership: Membership | None = None
        self._instance_id = self._options.instance_id or None
        self._namesake = Namesake(offsets, self.group, self._options.instance_id, process)
        self._unplaced: set[Any] = set()
        #: Partitions that are assigned to the owner.
        self._held: set[str] = set()
        self._placing: asyncio.Task[Mapping[str, int]] | None = None
        self._revoking = asyncio.Lock()
        self._watcher: asyncio.Task[None] | None = None
        self._retiring: asyncio.Task[None] | None = None
        #: While a join waits for partitions: resolved by aiokafka, or failed when the consumer is given up.
        self._joining: asyncio.Future[None] | None = None
        self._renew_at = 0.0
        self._wanted: set[str] = set()
        self._rebalances = METRICS.counter("gateway_kafka_rebalances").labels(self.group)

    async def _open(self) -> None:
        """Join the group. Return with partitions, or without if other members release them late."""
        self._missing.found(await self._ensure(self._topics))
        await self._join()

    def subscribe(self, topics: Collection[str]) -> None:
        """See :meth:`gateway.log.AssignedReader.subscribe`."""
        self._wanted |= set(topics) - self._topics
        self._changed.set()

    def is_certain(self) -> bool:
        """See :meth:`gateway.log.AssignedReader.is_certain`; called before each attempt."""
        membership = self._membership
        return (
            membership is not None
            and membership.is_known
            and time.monotonic() < membership.beat_at + self._policy.lease_s
        )

    # -- joining ------------------------------------------------------------------------------------------------

    async def _prepare(self) -> Any:
        if self._wanted:
            await self._widen()
        if self.consumer is None:
            await self._join()
        consumer = await self._present()
        await self._check(consumer)
        if self._truncations != self._ids.truncations or await self._is_another(consumer):
            self._truncations = self._ids.truncations
            await self._anew(consumer)
        if self._unplaced:
            await self._place(consumer)
        self._renew(consumer)
        return consumer

    async def _present(self) -> Any:
        # Only the reading may join and assign: a second assignment would take partitions from cursors that read.
        if self.consumer is None:
            problem = self._availability.state.problems.get(CONNECTION)
            raise KafkaAway(f"{self._called}: {problem or 'not joined'}", problem)
        return self.consumer

    async def _check(self, consumer: Any) -> None:
        """Check whether the group has refused this member, also while nothing is fetched."""
        try:
            consumer._coordinator.check_errors()
        except CLIENT_ERRORS as exc:
            await self._trouble(consumer, exc)

    async def _widen(self) -> None:
        """Read topics that were added. The group assigns its partitions again."""
        wanted = set(self._wanted)
        missing = await self._ensure(self._topics | wanted)
        self._topics |= wanted
        self._wanted -= wanted
        self._missing.found(missing)
        if self.consumer is not None:
            self.consumer.subscribe(self._kafka_names(), listener=self.consumer._subscription.listener)

    async def _join(self) -> None:
        """Create a consumer and join."""
        if self._retiring is not None:
            await asyncio.wait([self._retiring])
        if self._namesake.is_there and not await self._namesake.is_gone():
            raise self._in_use()
        policy, assignor = self._policy, Assignor(self._process)
        consumer = await self._connected(
            group_id=self._options.kafka_name(self.group),
            group_instance_id=self._instance_id,
            partition_assignment_strategy=(assignor,),
            session_timeout_ms=int(policy.session_s * 1000),
            heartbeat_interval_ms=int(policy.beat_s * 1000),
            rebalance_timeout_ms=int(policy.regroup_s * 1000),
            # Subscribers that are down for days keep their partitions: the reader runs, it only does not fetch.
            max_poll_interval_ms=2**31 - 1,
        )
        self._membership = Membership(consumer, assignor, self._namesake, lambda: self._fence(consumer))
        fetch_placed_only(consumer)
        listener = _Listener(self, consumer)
        assigned = self._joining = consumer._subscription.wait_for_assignment()
        consumer.subscribe(self._kafka_names(), listener=listener)
        self.consumer = consumer
        self._heard()
        if self._watcher is not None:
            self._watcher.cancel()
        self._watcher = asyncio.create_task(self._watch(consumer, self._membership), name=f"kafka-watch-{self.group}")
        try:
            async with asyncio.timeout(policy.join_s):
                await assigned  # or raises the refusal of the group
                await listener.joined.wait()
        except TimeoutError:
            pass
        except CLIENT_ERRORS:
            await self._check(consumer)
        finally:
            self._joining = None
        if self.consumer is None:
            raise self._in_use() if self._namesake.is_there else KafkaAway(f"{self._called}: given up while it joined")

    def _in_use(self) -> KafkaAway:
        problem = self._namesake.problem
        return KafkaAway(f"{self._called}: {problem}", problem)

    def _renew(self, consumer: Any) -> None:
        """Request a new assignment if the present one was made for other topics, or other partitions."""
        now, membership = time.monotonic(), self._membership
        if membership is None or now < self._renew_at:
            return
        self._renew_at = now + _CHECK_S
        names = self._missing.others(self._kafka_names())
        if not all(map(consumer.partitions_for_topic, names)):
            # The topic is new, and a broker did not know it yet: aiokafka would check again after a minute.
            consumer._client.force_metadata_update()
        if membership.has_assignment and not membership.is_current(self._kafka_names()):
            self._renew_at = now + _RENEW_S
            membership.renew()

    # -- what the owner gets and gives up -----------------------------------------------------------------------

    def _assigned(self, consumer: Any, partitions: Collection[Any]) -> None:
        """Note partitions that aiokafka has assigned; the reading task places them."""
        if consumer is self.consumer:
            self._turn += 1
            self._placed.clear()
            self._unplaced = set(partitions)
            self._changed.set()

    async def _place(self, consumer: Any) -> None:
        """Ask the owner where reading of new partitions begins."""
        turn, partitions = self._turn, set(self._unplaced)
        topics = {tp.topic for tp in partitions}
        # Before the owner loads its positions: a topic that is created again meanwhile differs then, and is noticed.
        ids = await self._ask(self._ids.now(consumer._client, topics))
        if turn != self._turn:
            return
        names = {self._name(tp): tp for tp in partitions if _exists(consumer, tp)}
        self._held |= names.keys()
        placing = self._placing = asyncio.ensure_future(self._on_assigned(sorted(names)))
        try:
            await asyncio.wait([placing])
        finally:
            placing.cancel()
            self._placing = None
        if turn != self._turn:  # revoked while the owner was asked; it knows that
            with suppress(asyncio.CancelledError, Exception):
                placing.result()
            return
        positions = placing.result()
        self._unplaced -= partitions
        self._note(topics, ids)
        for name, offset in positions.items():
            if name in names:
                with suppress(errors.IllegalStateError):  # revoked meanwhile
                    consumer.seek(names[name], offset)
                    self._placed[names[name]] = offset

    async def _revoke(self) -> None:
        """Revoke all partitions from the owner, within ``revoke_s``."""
        self._turn += 1
        self._placed.clear()
        self._unplaced.clear()
        if self._placing is not None:
            self._placing.cancel()
            await asyncio.wait([self._placing])
        async with self._revoking:
            held, self._held = sorted(self._held), set()
            if held and not self._is_closed:
                self._rebalances.inc()
                if not await within(self._policy.revoke_s, self._settle(held)):
                    _log.warning("kafka.settle_cut_short", group=self.group, partitions=held)

    async def _settle(self, names: Collection[str]) -> None:
        try:
            await self._on_revoked(names)
        except Exception as exc:  # an error of the owner must not hold up the group
            _log.exception("kafka.settle_failed", group=self.group, error=redaction.fault(exc))

    async def _anew(self, consumer: Any) -> None:
        """Revoke all partitions from the owner and assign them again: a topic is another one, or lost its end."""
        await self._revoke()
        await self._ask(consumer._client.force_metadata_update())
        self._assigned(consumer, consumer.assignment())

    async def _lost_end(self, consumer: Any, partitions: Collection[Any]) -> None:
        self._ids.truncate(partitions)
        self._truncations = self._ids.truncations
        await self._anew(consumer)

    # -- parting ------------------------------------------------------------------------------------------------

    async def _replace(self, consumer: Any) -> None:
        """Discard this consumer; there is none until the next fetch. If cancelled, this continues in the background."""
        if self.consumer is consumer:
            # In a separate task: the owner may wait in it for its reading task.
            await asyncio.wait([self._begin_to_retire(consumer)])

    def _begin_to_retire(self, consumer: Any) -> asyncio.Task[None]:
        self.consumer = None
        if self._joining is not None and not self._joining.done():
            self._joining.set_exception(errors.KafkaError("given up"))
        self._retiring = self._background(self._retire(consumer))
        return self._retiring

    async def _retire(self, consumer: Any) -> None:
        try:
            await self._revoke()
        finally:
            await self._end(consumer)

    async def _close(self) -> None:
        if self._watcher is not None:
            self._watcher.cancel()
        if self._placing is not None:
            self._placing.cancel()
        await super()._close()

    async def _watch(self, consumer: Any, membership: Membership) -> None:
        """Release the partitions when the group may have assigned them to others because of missing heartbeats."""
        lease_s = self._policy.lease_s
        while self.consumer is consumer:
            left_s = membership.beat_at + lease_s - time.monotonic()
            if left_s > 0 or not self._held:
                await asyncio.sleep(max(left_s, lease_s / 10))
                continue
            reason = f"the group's coordinator has not answered for {lease_s:.0f} s"
            self._availability.problem(CONNECTION, consumer._client.health.failure or Problem(AWAY, reason))
            _log.info("kafka.partitions_given_up", group=self.group, reason=reason, partitions=sorted(self._held))
            self._begin_to_retire(consumer)

    def _fence(self, consumer: Any) -> None:
        """Note that another process has the same id; called by aiokafka's task, which ends."""
        problem = self._namesake.problem
        self._availability.problem(CONNECTION, problem)
        _log.error("kafka.instance_fenced", group=self.group, instance_id=self._instance_id, advice=problem.advice)
        self._changed.set()
        if self.consumer is consumer:
            self._begin_to_retire(consumer)


def _exists(consumer: Any, tp: Any) -> bool:
    """Return False for a partition that its topic, created again with fewer partitions, no longer has."""
    numbers = consumer.partitions_for_topic(tp.topic)
    return numbers is None or tp.partition in numbers


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """Passes on aiokafka's callbacks, together with their consumer."""

    def __init__(self, reader: GroupReader, consumer: Any) -> None:
        self._reader = reader
        self._consumer = consumer
        self.joined = asyncio.Event()

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        if self._reader.consumer is self._consumer:
            await self._reader._revoke()

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        self._reader._assigned(self._consumer, assigned)
        self.joined.set()
