"""What we add to aiokafka's member of a consumer group: a static member that notices when it is none any more.

aiokafka 0.14 sends ``group.instance.id`` when it joins, and knows nothing else of static membership (KIP-345):

* *Another process with the same id.* Kafka lets the newer one in and answers the older one's heartbeat with
  UNKNOWN_MEMBER_ID, as it does to one whose session is over. aiokafka joins again in both cases, so that two processes
  would throw each other out for ever. An answer that comes while the session cannot be over yet is a *fence*
  (:class:`Fenced`): we do not join again.
* *A session that may be over.* While the coordinator does not answer, or after the process was suspended, the group may
  have given our partitions to others. Nobody tells us; so heartbeats are timed (:attr:`Membership.beat_at`), and the
  owner gives the partitions up by itself in time.
* *A static member that joins again gets its old assignment*, whatever it subscribes to by now and whatever partitions
  were added meanwhile, and none of the members knows that it is the leader that should watch for them (KIP-814). So
  each assignment carries the numbers of partitions that it was made from, and a member that sees others asks for a new
  one. Its subscription must differ for that: it carries a number that changes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from typing import Any, Final

import orjson
from aiokafka import errors
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata

#: Kafka's number of FENCED_INSTANCE_ID, the answer to a join of a member that was replaced. aiokafka does not know it.
_FENCED: Final = 82


class Fenced(errors.KafkaError):  # type: ignore[misc]  # aiokafka has no types
    """Another process has joined the group with our ``group.instance.id``."""


class FencedInstanceIdError(errors.BrokerResponseError):  # type: ignore[misc]
    """FENCED_INSTANCE_ID, for aiokafka's table of errors."""

    errno = _FENCED
    message = "FENCED_INSTANCE_ID"
    description = "Another member has joined with the same group.instance.id."


errors.kafka_errors[_FENCED] = FencedInstanceIdError


class Assignor:
    """Round robin, and each assignment says what it was made from. One for each consumer."""

    name = "gateway"

    def __init__(self) -> None:
        self.number = 0
        #: Partitions by topic, in Kafka's names, when the present assignment was made.
        self.counts: Mapping[str, int] = {}

    def metadata(self, topics: Collection[str]) -> Any:
        """Return what we send of ourselves when we join."""
        return ConsumerProtocolMemberMetadata(0, sorted(topics), str(self.number).encode())

    def assign(self, cluster: Any, members: Mapping[str, Any]) -> dict[str, Any]:
        """Return the assignment of each member; called in the one that leads."""
        topics = {topic for member in members.values() for topic in member.subscription}
        counts = {topic: len(cluster.partitions_for_topic(topic) or ()) for topic in sorted(topics)}
        assigned = RoundRobinPartitionAssignor.assign(cluster, members)
        made_from = orjson.dumps(counts)
        return {
            name: ConsumerProtocolMemberAssignment(0, assignment.assignment, made_from)
            for name, assignment in assigned.items()
        }

    def on_assignment(self, assignment: Any) -> None:
        """Keep what the assignment was made from."""
        self.counts = {}
        with suppress(orjson.JSONDecodeError):
            self.counts = orjson.loads(assignment.user_data or b"{}")


class Membership:
    """Of one aiokafka consumer, which was started and is not subscribed yet.

    Args:
        session_s: without a heartbeat for this long the group takes a member for dead.
        on_fenced: called once, from within aiokafka.
    """

    def __init__(self, consumer: Any, assignor: Assignor, session_s: float, on_fenced: Callable[[], None]) -> None:
        self._coordinator = coordinator = consumer._coordinator
        self._assignor = assignor
        self._session_s = session_s
        self._on_fenced = on_fenced
        #: Monotonic time at which the last heartbeat that was answered well was sent.
        self.beat_at = time.monotonic()
        self._has_foreign = False
        self._do_heartbeat = coordinator._do_heartbeat
        self._reset_generation = coordinator.reset_generation
        self._perform_assignment = coordinator._perform_assignment
        self._on_join_complete = coordinator._on_join_complete
        coordinator._do_heartbeat = self._beat
        coordinator.reset_generation = self._reset
        coordinator._perform_assignment = self._assign
        coordinator._on_join_complete = self._complete

    def is_current(self, topics: Collection[str]) -> bool:
        """Return whether the assignment fits these topics, by their names in Kafka, as they are now."""
        if self._has_foreign:
            return False
        cluster, counts = self._coordinator._cluster, self._assignor.counts
        known = {topic: cluster.partitions_for_topic(topic) for topic in topics}
        return all(counts.get(topic) == len(numbers) for topic, numbers in known.items() if numbers)

    def renew(self) -> None:
        """Ask the group for a new assignment."""
        self._assignor.number += 1
        self._has_foreign = False
        self._coordinator.request_rejoin()

    async def _beat(self) -> Any:
        sent_at = time.monotonic()
        is_well = await self._do_heartbeat()
        if is_well:
            self.beat_at = sent_at
        return is_well

    def _reset(self) -> None:
        coordinator = self._coordinator
        is_over = time.monotonic() - self.beat_at >= self._session_s
        if (
            is_over
            or coordinator._group_instance_id is None
            or coordinator._closing.done()
            or not coordinator.member_id
        ):
            self._reset_generation()
            return
        self._on_fenced()
        raise Fenced(coordinator._group_instance_id)

    async def _assign(self, response: Any) -> Any:
        # The group waits for us, and assigns by what we know of the partitions: that must not be a minute old.
        await self._coordinator._client.force_metadata_update()
        return await self._perform_assignment(response)

    async def _complete(self, generation: int, member_id: str, protocol: str, assignment_bytes: bytes) -> None:
        assignment = ConsumerProtocolMemberAssignment.decode(assignment_bytes)
        topics = self._coordinator._subscription.subscription.topics
        ours = [(topic, numbers) for topic, numbers in assignment.assignment if topic in topics]
        self._has_foreign = len(ours) < len(assignment.assignment)
        self.beat_at = time.monotonic()
        if self._has_foreign:  # aiokafka would take it for a fault of its own, and end
            assignment_bytes = ConsumerProtocolMemberAssignment(0, ours, assignment.user_data).encode()
        await self._on_join_complete(generation, member_id, protocol, assignment_bytes)


def is_fence(exc: BaseException) -> bool:
    """Return whether aiokafka was answered that another process has our id."""
    return isinstance(exc, Fenced) or FencedInstanceIdError.__name__ in str(exc)
