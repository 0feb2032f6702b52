"""Additions to aiokafka's member of a consumer group: a static member that notices the end of its membership.

aiokafka 0.14 sends ``group.instance.id`` when it joins, and supports nothing else of static membership (KIP-345):

* *Another process with the same id.* Kafka accepts the newer one and answers the older one with UNKNOWN_MEMBER_ID or
  FENCED_INSTANCE_ID, as it does to a member whose session is over, that was too slow in a rebalance, or whose own
  earlier request to join was late. aiokafka joins again each time, so that two processes would fence each other for
  ever, and Kafka does not report which of these it was. So the group's members are requested, and until Kafka says who
  has the id, this process does not join (:class:`Namesake`): a guess of "no process" would fence the newer process. The
  subscription of each member names its process. A later consumer of this process joins with the member id of the one
  before it, which Kafka refuses if another process has joined meanwhile; it never takes the id a second time.
* *A session that may be over.* While the coordinator does not answer, or after the process was suspended, the group may
  have assigned the partitions to others. Kafka does not report that; so heartbeats are timed
  (:attr:`Membership.beat_at`), and the owner releases the partitions in time.
* *A static member that joins again gets its old assignment*, with no regard to its present subscription and to
  partitions that were added meanwhile, and no member knows that it is the leader that should check for them (KIP-814).
  So each assignment has the numbers of partitions that it was made from, and a member that sees other numbers requests
  a new one. Its subscription must differ for that: it has a number that changes.
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from typing import Any, Final

import orjson
from aiokafka import errors
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata

from gateway.clock import Backoff
from gateway.log.kafka.errors import INSTANCE_IN_USE, KafkaAway, Problem
from gateway.log.kafka.offsets import OffsetClient

#: Kafka's number of FENCED_INSTANCE_ID. aiokafka does not know it.
_FENCED: Final = 82
_UNKNOWN: Final[int] = errors.UnknownMemberIdError.errno
#: Answers of a coordinator to one of its members.
_WELL: Final = (0, errors.RebalanceInProgressError.errno)
#: Between the number that changes and the name of the process, in a subscription.
_MARK: Final = b" "
#: Between checks whether the other process still exists.
_LOOK_S: Final = 5.0
#: A static member's id is its instance id, a hyphen and a UUID.
_UUID_LENGTH: Final = 37


class Assignor:
    """Round robin; each assignment has the numbers of partitions that it was made from. One for each consumer.

    Args:
        process: distinguishes the members of this process from others.
    """

    name = "gateway"

    def __init__(self, process: str) -> None:
        self.number = 0
        self._process = process.encode()
        #: Partitions by topic, in Kafka's names, when the present assignment was made.
        self.counts: Mapping[str, int] = {}

    def metadata(self, topics: Collection[str]) -> Any:
        """Return the subscription that this member sends when it joins."""
        return ConsumerProtocolMemberMetadata(0, sorted(topics), b"%d%s%s" % (self.number, _MARK, self._process))

    def assign(self, cluster: Any, members: Mapping[str, Any]) -> dict[str, Any]:
        """Return the assignment of each member; called in the leader."""
        topics = {topic for member in members.values() for topic in member.subscription}
        counts = {topic: len(cluster.partitions_for_topic(topic) or ()) for topic in sorted(topics)}
        assigned = RoundRobinPartitionAssignor.assign(cluster, members)
        made_from = orjson.dumps(counts)
        return {
            name: ConsumerProtocolMemberAssignment(0, assignment.assignment, made_from)
            for name, assignment in assigned.items()
        }

    def on_assignment(self, assignment: Any) -> None:
        """Store the numbers of partitions that the assignment was made from."""
        self.counts = {}
        with suppress(orjson.JSONDecodeError):
            self.counts = orjson.loads(assignment.user_data or b"{}")


class Namesake:
    """Another process with the ``group.instance.id`` of this one: whether there is one, for one reader.

    Its coroutines raise ``KafkaAway`` if Kafka does not answer.

    Args:
        process: the name of this process in subscriptions.
    """

    def __init__(self, offsets: OffsetClient, group: str, instance_id: str, process: str) -> None:
        self._offsets = offsets
        self._group = group
        self._instance_id = instance_id
        self._process = process
        self._look_at = 0.0
        #: The member id that Kafka gave to this process last; empty before it first joins.
        self.member_id = ""
        #: Whether another process was seen, and its end was not.
        self.is_there = False

    @property
    def problem(self) -> Problem:
        """The problem to report while it exists."""
        return Problem(INSTANCE_IN_USE, f"another process reads with kafka.instance_id {self._instance_id}")

    async def appears(self) -> bool:
        """Return whether there is one, as soon as Kafka reports it.

        While the group assigns its partitions Kafka does not, also if the member is a late join of this process; the
        time-out of the rebalance ends that.
        """
        backoff = Backoff(first_s=0.2, last_s=1.0)
        while True:
            with suppress(KafkaAway):
                if (found := await self._find()) is not None:
                    self.is_there = found
                    self._look_at = time.monotonic() + _LOOK_S
                    return found
            await asyncio.sleep(backoff.next_s())

    async def is_gone(self) -> bool:
        """Return whether it is gone; checked now and then."""
        if time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + _LOOK_S
            self.is_there = await self._find() is not False
        return not self.is_there

    async def _find(self) -> bool | None:
        """Return whether a member of another process has the same id; None while Kafka does not return its process."""
        members = await self._offsets.members(self._group)
        ours = [said for member, said in members.items() if member[:-_UUID_LENGTH] == self._instance_id]
        if any(said and process_of(said) != self._process for said in ours):
            return True
        return False if all(ours) else None


class Membership:
    """The membership of one aiokafka consumer, which was started and is not subscribed yet.

    Args:
        namesake: asked when Kafka no longer knows this member.
        on_fenced: called once, from within aiokafka, if another process has the id.
    """

    def __init__(
        self,
        consumer: Any,
        assignor: Assignor,
        namesake: Namesake,
        on_fenced: Callable[[], None],
    ) -> None:
        self._coordinator = coordinator = consumer._coordinator
        if coordinator._group_instance_id is not None:
            coordinator.member_id = namesake.member_id
        self._assignor = assignor
        self._namesake = namesake
        self._on_fenced = on_fenced
        #: Monotonic time at which the last request was sent whose answer showed that this is a member.
        self.beat_at = time.monotonic()
        #: Whether the last answer showed that Kafka knows this member.
        self.is_known = True
        self._has_foreign = False
        self._send_request = coordinator._send_req
        self._perform_assignment = coordinator._perform_assignment
        self._on_join_complete = coordinator._on_join_complete
        coordinator._send_req = self._send
        coordinator._perform_assignment = self._assign
        coordinator._on_join_complete = self._complete

    def is_current(self, topics: Collection[str]) -> bool:
        """Return whether the assignment is right for these topics (names in Kafka) with their present partitions."""
        if self._has_foreign:
            return False
        cluster, counts = self._coordinator._cluster, self._assignor.counts
        known = {topic: cluster.partitions_for_topic(topic) for topic in topics}
        return all(counts.get(topic) == len(numbers) for topic, numbers in known.items() if numbers)

    @property
    def has_assignment(self) -> bool:
        """Whether this member has the assignment of the present generation, which may be empty."""
        subscription = self._coordinator._subscription.subscription
        return subscription is not None and subscription.assignment is not None

    def renew(self) -> None:
        """Request a new assignment from the group."""
        self._assignor.number += 1
        self._has_foreign = False
        self._coordinator.request_rejoin()

    async def _send(self, request: Any) -> Any:
        """Send a request to the coordinator, and note from its answer whether this is a member."""
        coordinator, sent_at = self._coordinator, time.monotonic()
        answer = await self._send_request(request)
        self._namesake.member_id = getattr(answer, "member_id", "") or self._namesake.member_id
        code = getattr(answer, "error_code", None)
        if code in _WELL:
            # Not the time of reading: after a suspension that may be minutes after the request was sent.
            self.beat_at = max(self.beat_at, sent_at)
        elif code in (_UNKNOWN, _FENCED):
            answer.error_code = _UNKNOWN
            if coordinator._group_instance_id is not None and coordinator.member_id and not coordinator._closing.done():
                await self._not_known()
        return answer

    async def _not_known(self) -> None:
        """Find out why Kafka does not know this member. Return when it may join again, or is closed."""
        self.is_known = False
        closing = self._coordinator._closing
        asking = asyncio.ensure_future(self._namesake.appears())
        try:
            await asyncio.wait([asking, closing], return_when=asyncio.FIRST_COMPLETED)
            if asking.done() and asking.result() and not closing.done():
                self._on_fenced()
                await asyncio.wait([closing])
        finally:
            asking.cancel()

    async def _assign(self, response: Any) -> Any:
        # The group waits for this member, and assigns by the partitions that it knows: they must not be a minute old.
        await self._coordinator._client.force_metadata_update()
        return await self._perform_assignment(response)

    async def _complete(self, generation: int, member_id: str, protocol: str, assignment_bytes: bytes) -> None:
        assignment = ConsumerProtocolMemberAssignment.decode(assignment_bytes)
        topics = self._coordinator._subscription.subscription.topics
        ours = [(topic, numbers) for topic, numbers in assignment.assignment if topic in topics]
        self._has_foreign = len(ours) < len(assignment.assignment)
        self.is_known = True
        if self._has_foreign:  # aiokafka would treat it as its own fault, and end
            assignment_bytes = ConsumerProtocolMemberAssignment(0, ours, assignment.user_data).encode()
        await self._on_join_complete(generation, member_id, protocol, assignment_bytes)


def process_of(subscription: bytes) -> str:
    """Return the process of a member from its subscription; empty if it names none."""
    try:
        user_data = ConsumerProtocolMemberMetadata.decode(subscription).user_data
    except (ValueError, struct.error):  # another client's, or none while the group assigns its partitions
        return ""
    return (user_data or b"").partition(_MARK)[2].decode(errors="replace")
