"""aiokafka's client with a record of its failures and refusals, which aiokafka hides or leaves out.

aiokafka 0.14

* drops the reason why a connection could not be made: a changed password is a line in its log, and its error is
  "Unable to bootstrap", a node that is not ready, or missing;
* retries silently what a broker refuses (not enough replicas, a missing coordinator of a group);
* ignores ``throttle_time_ms``. A broker whose quota is exceeded answers at once, and then reads nothing from the
  connection for that time (KIP-219). A request that is sent meanwhile times out, the connection is closed, and Kafka
  appears to be unavailable;
* leaks a connection if a start is cancelled, and logs a complaint later.

So each client has a :class:`ClientHealth`, by which its owner finds the problem of *this* client, and which sends
nothing on a connection while a quota mutes it, as Kafka's own client does. The names of aiokafka are replaced in its
modules, because its producer, consumer and admin client create their client themselves.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final
from weakref import WeakSet

import aiokafka.admin.client
import aiokafka.client
import aiokafka.consumer.consumer
import aiokafka.producer.producer
from aiokafka import errors
from aiokafka.client import AIOKafkaClient
from aiokafka.conn import AIOKafkaConnection
from aiokafka.protocol.commit import OffsetCommitRequest
from aiokafka.protocol.coordination import FindCoordinatorRequest
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.group import JoinGroupRequest
from aiokafka.protocol.produce import ProduceRequest

from gateway.log.kafka.errors import AUTHENTICATION, Problem, connection_problem, problem_of

#: Refusals while a leader moves or a coordinator starts last only for a moment, and are no problem.
_GRACE_S: Final = 3.0
#: A failure of an address that is older explains nothing: its broker may have left the cluster. aiokafka tries a needed
#: address several times a second.
_FAILURE_S: Final = 60.0
#: A refusal of a request that was not repeated within this is over: the partition may belong to another process.
_REFUSAL_S: Final = 30.0
#: Subject of refusals of the whole consumer group, in :meth:`ClientHealth.refused`.
GROUP: Final = "consumer group"
#: The offset is not in the partition: the reader handles it.
_OUT_OF_RANGE: Final = errors.OffsetOutOfRangeError.errno
_NO_RIGHT: Final = errors.TopicAuthorizationFailedError.errno


@dataclass(frozen=True, slots=True)
class _Refusal:
    """A broker's answer that aiokafka tries again.

    Args:
        since: monotonic seconds of the first such answer.
        last: monotonic seconds of the last such answer.
    """

    code: int
    since: float
    last: float


class ClientHealth:
    """Failures and refusals of one client."""

    def __init__(self) -> None:
        self._failures: dict[str, tuple[float, Problem]] = {}
        self._refusals: dict[tuple[type[Any], str], _Refusal] = {}
        #: Monotonic seconds until which a quota delays this client; until then a missing answer is no sign of failure.
        self.throttled_until = 0.0
        self._on_throttled: Callable[[float], None] = lambda _: None

    def report_throttling(self, report: Callable[[float], None]) -> None:
        """Call ``report`` with the number of seconds whenever a quota delays this client."""
        self._on_throttled = report

    @property
    def failure(self) -> Problem | None:
        """The reason why this client cannot connect; None while no address fails."""
        oldest = time.monotonic() - _FAILURE_S
        failures = [problem for at, problem in self._failures.values() if at >= oldest]
        return next((one for one in failures if one.word == AUTHENTICATION), failures[-1] if failures else None)

    def refused(self) -> dict[str, Problem]:
        """Return the refusals that have lasted for seconds, by topic (name in Kafka) or :data:`GROUP`."""
        now = time.monotonic()
        return {
            subject: problem_of(errors.for_code(one.code)())
            for (_, subject), one in self._refusals.items()
            if one.since <= now - _GRACE_S and one.last >= now - _REFUSAL_S
        }

    def failed(self, address: str, exc: BaseException) -> None:
        """Note a failed connection.

        Args:
            address: ``host:port``.
            exc: the cause.
        """
        self._failures.pop(address, None)
        self._failures[address] = time.monotonic(), connection_problem(address, exc)

    def connected(self, address: str) -> None:
        """Note that a connection was made, and authenticated."""
        self._failures.pop(address, None)

    def answered(self, request: Any, response: Any) -> None:
        """Note a broker's answer.

        Args:
            request: as sent.
            response: its answer.
        """
        kind = type(request)
        if kind is ProduceRequest or kind is FetchRequest:
            for topic, partitions in response.topics:
                self._note(kind, topic, [partition[1] for partition in partitions])
        elif kind is OffsetCommitRequest:
            # Other errors of commits concern the whole group, and are normal while it assigns its partitions again.
            for topic, partitions in response.topics:
                self._note(kind, topic, [code for _, code in partitions if code == _NO_RIGHT])
        elif kind is FindCoordinatorRequest or kind is JoinGroupRequest:
            self._note(kind, GROUP, [response.error_code])

    def throttled(self, seconds: float) -> None:
        """Note that a quota delays this client for so many seconds."""
        self.throttled_until = max(self.throttled_until, time.monotonic() + seconds)
        self._on_throttled(seconds)

    def _note(self, kind: type[Any], subject: str, codes: Collection[int]) -> None:
        code = next((code for code in codes if code not in (0, _OUT_OF_RANGE)), 0)
        known = self._refusals.get((kind, subject))
        if not code:
            if known is not None:
                del self._refusals[kind, subject]
        else:
            now = time.monotonic()
            is_same = known is not None and now - known.last < _REFUSAL_S
            self._refusals[kind, subject] = _Refusal(code, known.since if known and is_same else now, now)


class ObservedClient(AIOKafkaClient):  # type: ignore[misc]  # aiokafka has no types
    """aiokafka's client; :attr:`health` has its failures and refusals."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.health = ClientHealth()
        self._made: WeakSet[_Connection] = WeakSet()

    async def bootstrap(self) -> None:
        """See :class:`AIOKafkaClient`."""
        with _making(self):
            await super().bootstrap()

    async def close(self) -> None:
        """See :class:`AIOKafkaClient`. It closes leaked connections too, as after a cancelled start."""
        try:
            await super().close()
        finally:
            for connection in self._made:
                connection.close()

    async def _get_conn(self, node_id: Any, **how: Any) -> Any:
        with _making(self):
            return await super()._get_conn(node_id, **how)

    async def connect(self, host: str, port: int, **arguments: Any) -> _Connection:
        """Return a new connection."""
        connection = _Connection(host, port, self.health, **arguments)
        self._made.add(connection)
        try:
            await connection.connect()
        except (OSError, TimeoutError, errors.KafkaError) as exc:
            self.health.failed(f"{host}:{port}", exc)
            raise
        self.health.connected(f"{host}:{port}")
        return connection


class _Connection(AIOKafkaConnection):  # type: ignore[misc]
    """A connection that waits while a quota mutes it."""

    def __init__(self, host: str, port: int, health: ClientHealth, **arguments: Any) -> None:
        super().__init__(host, port, **arguments)
        self._health = health
        self._muted_until = 0.0

    async def send(self, request: Any, expect_response: bool = True) -> Any:
        """Send a request as soon as the broker reads it; return the response."""
        while (muted_s := self._muted_until - time.monotonic()) > 0:
            done, _ = await asyncio.wait([self._closed_fut], timeout=muted_s)
            if done:
                break  # the next line raises because it is closed
        response = await super().send(request, expect_response)
        if throttled_ms := getattr(response, "throttle_time_ms", 0):
            self._muted_until = time.monotonic() + throttled_ms / 1000
            self._health.throttled(throttled_ms / 1000)
        self._health.answered(request, response)
        return response


#: The client that creates a connection.
_MAKER: ContextVar[ObservedClient] = ContextVar("kafka_client")


@contextmanager
def _making(client: ObservedClient) -> Iterator[None]:
    token = _MAKER.set(client)
    try:
        yield
    finally:
        _MAKER.reset(token)


async def _create_conn(host: str, port: int, **arguments: Any) -> _Connection:
    """Create a connection, in place of aiokafka's function, which does not know the client."""
    return await _MAKER.get().connect(host, port, **arguments)


def observe_clients() -> None:
    """Give aiokafka's producers, consumers and admin clients observed clients. May be called again."""
    client: Any = aiokafka.client
    client.create_conn = _create_conn
    modules: tuple[Any, ...] = (aiokafka.admin.client, aiokafka.consumer.consumer, aiokafka.producer.producer)
    for module in modules:
        module.AIOKafkaClient = ObservedClient
