"""What we add to aiokafka's member of a consumer group: a static member that notices when it is none any more.

aiokafka 0.14 sends ``group.instance.id`` when it joins, and knows nothing else of static membership (KIP-345):

* *Another process with the same id.* Kafka lets the newer one in and answers the older one with UNKNOWN_MEMBER_ID, or
  FENCED_INSTANCE_ID, as it does to one whose session is over, who was too slow in a rebalance, or whose own earlier
  request to join came late. aiokafka joins again each time, so that two processes would throw each other out for ever.
  So the group is asked: a member with our id that is not of this process is a *fence*, and we do not join again;
  without one we join again at once. Each member says in its subscription which process it is of.
* *A session that may be over.* While the coordinator does not answer, or after the process was suspended, the group may
  have given our partitions to others. Nobody tells us; so heartbeats are timed (:attr:`Membership.beat_at`), and the
  owner gives the partitions up by itself in time.
* *A static member that joins again gets its old assignment*, whatever it subscribes to by now and whatever partitions
  were added meanwhile, and none of the members knows that it is the leader that should watch for them (KIP-814). So
  each assignment carries the numbers of partitions that it was made from, and a member that sees others asks for a new
  one. Its subscription must differ for that: it carries a number that changes.
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import suppress
from typing import Any, Final

import orjson
from aiokafka import errors
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata

#: Kafka's number of FENCED_INSTANCE_ID. aiokafka does not know it.
_FENCED: Final = 82
_UNKNOWN: Final[int] = errors.UnknownMemberIdError.errno
#: Answers of a coordinator that counts us among its members.
_WELL: Final = (0, errors.RebalanceInProgressError.errno)
#: Between the number that changes and the name of the process, in a subscription.
_MARK: Final = b" "


class Assignor:
    """Round robin, and each assignment says what it was made from. One for each consumer.

    Args:
        process: tells the members of this process from others.
    """

    name = "gateway"

    def __init__(self, process: str) -> None:
        self.number = 0
        self._process = process.encode()
        #: Partitions by topic, in Kafka's names, when the present assignment was made.
        self.counts: Mapping[str, int] = {}

    def metadata(self, topics: Collection[str]) -> Any:
        """Return what we send of ourselves when we join."""
        return ConsumerProtocolMemberMetadata(0, sorted(topics), b"%d%s%s" % (self.number, _MARK, self._process))

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
        is_fenced: asks the group whether another process has our id; called when Kafka does not know us any more.
        on_fenced: called once, from within aiokafka, when another one has.
    """

    def __init__(
        self,
        consumer: Any,
        assignor: Assignor,
        *,
        is_fenced: Callable[[], Awaitable[bool]],
        on_fenced: Callable[[], None],
    ) -> None:
        self._coordinator = coordinator = consumer._coordinator
        self._assignor = assignor
        self._ask_fenced = is_fenced
        self._on_fenced = on_fenced
        #: Monotonic time at which the last request was sent that was answered as one of a member.
        self.beat_at = time.monotonic()
        #: Whether Kafka knows us, as far as we know.
        self.is_known = True
        self._has_foreign = False
        self._send_request = coordinator._send_req
        self._perform_assignment = coordinator._perform_assignment
        self._on_join_complete = coordinator._on_join_complete
        coordinator._send_req = self._send
        coordinator._perform_assignment = self._assign
        coordinator._on_join_complete = self._complete

    def is_current(self, topics: Collection[str]) -> bool:
        """Return whether the assignment fits these topics, by their names in Kafka, as they are now."""
        if self._has_foreign:
            return False
        cluster, counts = self._coordinator._cluster, self._assignor.counts
        known = {topic: cluster.partitions_for_topic(topic) for topic in topics}
        return all(counts.get(topic) == len(numbers) for topic, numbers in known.items() if numbers)

    @property
    def has_assignment(self) -> bool:
        """Whether the group has given us what the present generation gives us, be it nothing."""
        subscription = self._coordinator._subscription.subscription
        return subscription is not None and subscription.assignment is not None

    def renew(self) -> None:
        """Ask the group for a new assignment."""
        self._assignor.number += 1
        self._has_foreign = False
        self._coordinator.request_rejoin()

    async def _send(self, request: Any) -> Any:
        """Send a request to the coordinator, and note what its answer says of our membership."""
        coordinator, sent_at = self._coordinator, time.monotonic()
        answer = await self._send_request(request)
        code = getattr(answer, "error_code", None)
        if code in _WELL:
            # Not when it is read: after a suspension that may be minutes after it was sent.
            self.beat_at = max(self.beat_at, sent_at)
        elif code in (_UNKNOWN, _FENCED):
            answer.error_code = _UNKNOWN
            if coordinator._group_instance_id is not None and coordinator.member_id and not coordinator._closing.done():
                await self._not_known()
        return answer

    async def _not_known(self) -> None:
        """Find out why Kafka does not know us. Returns when we may join again, or are closed."""
        self.is_known = False
        if await self._ask_fenced():
            self._on_fenced()
            await asyncio.wait([self._coordinator._closing])

    async def _assign(self, response: Any) -> Any:
        # The group waits for us, and assigns by what we know of the partitions: that must not be a minute old.
        await self._coordinator._client.force_metadata_update()
        return await self._perform_assignment(response)

    async def _complete(self, generation: int, member_id: str, protocol: str, assignment_bytes: bytes) -> None:
        assignment = ConsumerProtocolMemberAssignment.decode(assignment_bytes)
        topics = self._coordinator._subscription.subscription.topics
        ours = [(topic, numbers) for topic, numbers in assignment.assignment if topic in topics]
        self._has_foreign = len(ours) < len(assignment.assignment)
        self.is_known = True
        if self._has_foreign:  # aiokafka would take it for a fault of its own, and end
            assignment_bytes = ConsumerProtocolMemberAssignment(0, ours, assignment.user_data).encode()
        await self._on_join_complete(generation, member_id, protocol, assignment_bytes)


def process_of(subscription: bytes) -> str:
    """Return which process a member is of, by what it sends when it joins; empty when that is not said."""
    try:
        user_data = ConsumerProtocolMemberMetadata.decode(subscription).user_data
    except (ValueError, struct.error):  # another client's, or none while the group deals its partitions
        return ""
    return (user_data or b"").partition(_MARK)[2].decode(errors="replace")
