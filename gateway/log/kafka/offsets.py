"""Requests and commits for any number of groups, over one set of connections: positions, ends, members.

aiokafka has the requests and a client that sends them, but no public call for a group other than a consumer's own. A
group's requests are sent to its coordinator, which is looked up once for each group and again when it has moved. The
client has no state that matters, so one without an answer in time is dropped, and the next call connects again to the
configured addresses.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from aiokafka import TopicPartition, errors
from aiokafka.client import ConnectionGroup, CoordinationType
from aiokafka.protocol.admin import DescribeGroupsRequest
from aiokafka.protocol.commit import OffsetCommitRequest, OffsetFetchRequest
from aiokafka.protocol.offset import OffsetRequest

from gateway.clock import Backoff, within
from gateway.log.kafka.aiokafka_workarounds import ObservedClient
from gateway.log.kafka.errors import CLIENT_ERRORS, GROUP_IN_USE, KafkaAway, Problem, away
from gateway.log.kafka.options import OPEN_S, REQUEST_S, KafkaOptions
from gateway.log.kafka.outage import limit_logs
from gateway.log.kafka.topics import marked

#: Timestamps of ListOffsets that mean the two ends of a partition.
BEGINNING: Final = -2
END: Final = -1
#: Generation and member id of a commit by a client that is no member.
_NOBODY: Final = (-1, "")
_CLOSE_S: Final = 2.0
#: Connections to all coordinators together. A broker answers the requests of a connection one after the other, and a
#: commit waits there for others to be written with it: 300 groups begin in two thirds of the time that they need with
#: one connection. Ten would need more descriptors.
_CONNECTIONS: Final = 3
#: The coordinator's answers to a commit by a client that is no member while the group has members.
_HAS_MEMBERS: Final = (errors.UnknownMemberIdError, errors.IllegalGenerationError, errors.RebalanceInProgressError)
_MOVED: Final = (
    errors.NotCoordinatorForGroupError,
    errors.GroupCoordinatorNotAvailableError,
    errors.KafkaConnectionError,
    errors.NodeNotReadyError,
    errors.RequestTimedOutError,
)

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Committed:
    """A position that Kafka has for a group.

    Args:
        incarnation: that of the topic when the position was committed; None if another program committed it, or an old
            version of the gateway that did not store it.
    """

    offset: int
    incarnation: str | None

    @classmethod
    def at(cls, offset: int, metadata: str | None) -> Committed:
        """Return the position from Kafka's offset and metadata."""
        return cls(offset, marked(metadata))


class GroupInUse(KafkaAway):
    """A group in which the gateway stores positions has members: an older gateway or another program reads in it."""

    def __init__(self, group: str) -> None:
        text = (
            f"group {group} has members, so that Kafka refuses its positions: an older version of the gateway or "
            "another program reads under this name"
        )
        problem = Problem(GROUP_IN_USE, text)
        super().__init__(str(problem), problem)


class OffsetClient:
    """Sends requests and commits for all groups of one log. It raises ``KafkaAway`` if there is no answer in time.

    Args:
        request_s: limit of one call of a method, with all attempts, seconds.
    """

    def __init__(self, options: KafkaOptions, *, request_s: float = REQUEST_S) -> None:
        self._options = options
        self._request_s = request_s
        self._client: Any = None
        self._connecting = asyncio.Lock()
        self._coordinators: dict[str, int] = {}
        self._closing: set[asyncio.Task[bool]] = set()
        self._turn = 0
        self._is_closed = False

    async def close(self) -> None:
        """Close the connections. May be called twice."""
        self._is_closed = True
        self._drop()
        if self._closing:
            await asyncio.wait(self._closing)

    # -- groups -------------------------------------------------------------------------------------------------

    async def committed(self, group: str) -> dict[Any, Committed]:
        """Return all positions that Kafka has for a group."""

        async def ask(client: Any) -> dict[Any, Committed]:
            answer = await self._of_coordinator(client, group, OffsetFetchRequest(self._name(group), None))
            _check(getattr(answer, "error_code", 0))
            found = {}
            for topic, partitions in answer.topics:
                for number, offset, metadata, code in partitions:
                    _check(code)
                    if offset >= 0:
                        found[TopicPartition(topic, number)] = Committed.at(offset, metadata)
            return found

        return await self._ask(f"group {group}", ask)

    async def commit(
        self, group: str, positions: Mapping[Any, tuple[int, str]], identity: tuple[int, str] = _NOBODY
    ) -> set[Any]:
        """Store positions; return the partitions whose topic the user may not read, for which Kafka stores none.

        Kafka also ignores positions in partitions that do not exist; they are not needed.

        Args:
            group: its name in Kafka.
            positions: offset and metadata by partition.
            identity: generation and member id of a member; by default those of a client that is no member.

        Raises:
            GroupInUse: the group has members, and this client is none.
        """
        topics: defaultdict[str, list[tuple[int, int, str]]] = defaultdict(list)
        for tp, (offset, metadata) in positions.items():
            topics[tp.topic].append((tp.partition, offset, metadata))

        async def ask(client: Any) -> set[Any]:
            request = OffsetCommitRequest(self._name(group), *identity, -1, list(topics.items()))
            answer = await self._of_coordinator(client, group, request)
            refused = set()
            for topic, partitions in answer.topics:
                for number, code in partitions:
                    if code == errors.TopicAuthorizationFailedError.errno:
                        refused.add(TopicPartition(topic, number))
                    elif code != errors.UnknownTopicOrPartitionError.errno:
                        _check(code)
            return refused

        try:
            return await self._ask(f"group {group}: commit", ask)
        except _HAS_MEMBERS as exc:
            raise GroupInUse(self._name(group)) from exc

    async def members(self, group: str) -> dict[str, bytes]:
        """Return the subscription of each member of a group, by member id; empty while the group assigns partitions."""

        async def ask(client: Any) -> dict[str, bytes]:
            answer = await self._of_coordinator(client, group, DescribeGroupsRequest([self._name(group)]))
            [(code, _, _, _, _, members, *_)] = answer.groups
            _check(code)
            return {member_id: bytes(said or b"") for member_id, _, _, said, *_ in members}

        return await self._ask(f"group {group}", ask)

    async def _of_coordinator(self, client: Any, group: str, request: Any) -> Any:
        """Return the answer of a group's coordinator; forget its address if it may have moved."""
        node = self._coordinators.get(group)
        if node is None:
            node = self._coordinators[group] = await client.coordinator_lookup(
                CoordinationType.GROUP, self._name(group)
            )
        brokers = len(client.cluster.brokers())
        self._turn = (self._turn + 1) % max(1, _CONNECTIONS // max(1, brokers))
        return await client.send(node, request, group=f"groups-{self._turn}" if self._turn else ConnectionGroup.DEFAULT)

    # -- partitions ---------------------------------------------------------------------------------------------

    async def offsets(self, wanted: Mapping[Any, int]) -> dict[Any, int]:
        """Return the offset of the first record at or after a time, or of one of the ends, by partition.

        Args:
            wanted: by partition, milliseconds since 1970, :data:`BEGINNING` or :data:`END`.

        Returns:
            The offsets; partitions without a record at or after the time are left out.
        """

        async def ask(client: Any) -> dict[Any, int]:
            await self._know(client, {tp.topic for tp in wanted})
            by_leader: defaultdict[int, defaultdict[str, list[tuple[int, int]]]]
            by_leader = defaultdict(lambda: defaultdict(list))
            for tp, at in wanted.items():
                leader = client.cluster.leader_for_partition(tp)
                if leader is None or leader < 0:
                    await client.force_metadata_update()
                    raise errors.LeaderNotAvailableError(str(tp))
                by_leader[leader][tp.topic].append((tp.partition, at))
            isolation = 1 if self._options.isolation_level == "read_committed" else 0
            answers = await asyncio.gather(
                *(
                    client.send(leader, OffsetRequest(-1, isolation, list(topics.items())))
                    for leader, topics in by_leader.items()
                )
            )
            return {tp: offset for answer in answers for tp, offset in _found(answer) if offset >= 0}

        return await self._ask("Kafka", ask) if wanted else {}

    async def partitions(self, topics: Collection[str]) -> dict[str, list[int]]:
        """Return the numbers of the partitions of topics, by the names in Kafka; without topics that do not exist."""

        async def ask(client: Any) -> dict[str, list[int]]:
            await self._know(client, topics)
            found = {topic: client.cluster.partitions_for_topic(topic) for topic in topics}
            return {topic: sorted(numbers) for topic, numbers in found.items() if numbers}

        return await self._ask("Kafka", ask)

    async def client(self) -> Any:
        """Return aiokafka's client, connected."""

        async def ask(client: Any) -> Any:
            return client

        return await self._ask("Kafka", ask)

    async def _know(self, client: Any, topics: Collection[str]) -> None:
        """Add topics to the metadata, with one update for all new ones."""
        if not client._topics.issuperset(topics):
            await client.set_topics(client._topics | set(topics))

    # -- trying -------------------------------------------------------------------------------------------------

    def _name(self, group: str) -> str:
        return self._options.kafka_name(group)

    async def _ask(self, doing: str, question: Callable[[Any], Awaitable[Answer]]) -> Answer:
        """Repeat a request until there is an answer: a coordinator may be loading, a leader moving."""
        last: BaseException | None = None
        backoff = Backoff(first_s=0.05, last_s=1.0)
        try:
            async with asyncio.timeout(self._request_s):
                while True:
                    try:
                        return await question(await self._connected())
                    except (errors.KafkaError, OSError, AssertionError) as exc:
                        if isinstance(exc, _HAS_MEMBERS) or not _passes(exc):
                            raise
                        last = exc
                        if isinstance(exc, _MOVED):
                            self._coordinators.clear()
                        elif getattr(exc, "invalid_metadata", False) and self._client is not None:
                            self._client.force_metadata_update()
                    await asyncio.sleep(backoff.next_s())
        except TimeoutError as exc:
            failed = away(last or exc, doing, self._client)
            self._drop()
            raise failed from exc
        except _HAS_MEMBERS:
            raise
        except CLIENT_ERRORS as exc:
            raise away(exc, doing, self._client) from exc

    async def _connected(self) -> Any:
        if self._is_closed:
            raise KafkaAway("Kafka: the log is closed")
        async with self._connecting:
            if self._client is None:
                limit_logs()
                client = ObservedClient(**self._options.client())
                try:
                    async with asyncio.timeout(OPEN_S):
                        await client.bootstrap()
                except CLIENT_ERRORS as exc:
                    await within(_CLOSE_S, client.close())
                    raise away(exc, "Kafka", client) from exc
                except BaseException:
                    await within(_CLOSE_S, client.close())
                    raise
                self._client = client
            return self._client

    def _drop(self) -> None:
        """Drop the client: the next request connects again."""
        client, self._client = self._client, None
        self._coordinators.clear()
        if client is not None:
            task = asyncio.create_task(within(_CLOSE_S, client.close()), name="kafka-offsets-close")
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)


def _check(code: int) -> None:
    """Raise the error with this number, unless it is 0."""
    if code:
        raise errors.for_code(code)


def _found(answer: Any) -> list[tuple[Any, int]]:
    found = []
    for topic, partitions in answer.topics:
        for number, code, _, offset, *_ in partitions:
            _check(code)
            found.append((TopicPartition(topic, number), offset))
    return found


def _passes(exc: BaseException) -> bool:
    """Return whether the same request may succeed soon."""
    return not isinstance(exc, errors.KafkaError) or exc.retriable or isinstance(exc, errors.KafkaConnectionError)
