"""The Kafka side of the benchmarks: fan-out processes, events that come at a rate, and what Kafka says about both."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from array import array
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import yaml
from confluent_kafka.admin import AdminClient

from gateway.log import Entry
from gateway.log.kafka import KafkaLog, KafkaOptions
from tests.benchmarks.machine import Service
from tests.ports import free_port
from tests.waiting import pause

TOPIC: Final = "sms.dr"
#: Topics of Kafka itself.
_INTERNAL: Final = "__"
_ASK_S: Final = 30.0
#: Level of librdkafka's log, in syslog's numbers.
_WARNING: Final = 4
_BATCH_S: Final = 0.01
#: Code is compiled once, as where it is installed; a shell that forbids it would have each start take seconds.
_ENVIRONMENT: Final = {"PYTHONDONTWRITEBYTECODE": ""}
_FILLING: Final = "x" * 400


class FanOutProcess:
    """``gateway fanout`` as on a machine of its own.

    Args:
        folder: for its configuration and its output.
        name: of its files, and its ``kafka.instance_id``.
        bootstrap: address of the broker.
        rows: of ``subscribers``.
        kafka: more settings of the section ``kafka``.
        sections: more sections of the configuration.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        bootstrap: str,
        rows: Sequence[Mapping[str, Any]],
        *,
        kafka: Mapping[str, Any] | None = None,
        **sections: Any,
    ) -> None:
        self.admin_port = free_port()
        self._folder = folder
        self._name = name
        config = {
            "kafka": {"bootstrap_servers": bootstrap, "instance_id": name, **(kafka or {})},
            "admin": {"port": self.admin_port},
            "log": {"level": "info", "format": "json"},
            "subscribers": list(rows),
            **sections,
        }
        self._config = folder / f"{name}.yaml"
        self._config.write_text(yaml.safe_dump(config))
        self._outputs: list[Path] = []
        self.service: Service | None = None

    def start(self) -> Service:
        """Start it, again when it has ended. Returns at once."""
        self._outputs.append(self._folder / f"{self._name}-{len(self._outputs)}.log")
        self.service = Service(
            ["-m", "gateway", "fanout", "-c", str(self._config)],
            self.admin_port,
            log=self._outputs[-1],
            env=_ENVIRONMENT,
            processors=os.sched_getaffinity(0),
        )
        return self.service

    def stop(self) -> None:
        """SIGTERM; waits for the end. Does nothing when it is not running."""
        service, self.service = self.service, None
        if service is not None:
            service.stop()

    def kill(self) -> None:
        """SIGKILL. Does nothing when it is not running."""
        service, self.service = self.service, None
        if service is not None:
            service.kill()

    def cancelled(self) -> int:
        """Return how many attempts were cut off as partitions moved, over all starts."""
        lines = (line for output in self._outputs for line in output.read_bytes().splitlines())
        return sum(b'"delivery.attempted"' in line and b'"cancelled"' in line for line in lines)


class Feed:
    """Appends events to a topic at a rate, and remembers when each was stored. See :func:`feed`.

    Args:
        log: where to.
        rate: events a second.
        keys: event ``n`` has key ``n % keys``.
    """

    def __init__(self, log: KafkaLog, *, rate: float, keys: int) -> None:
        self._log = log
        self._rate = rate
        self.keys = keys
        #: Monotonic time at which an event was given to the log, by its number.
        self.given = array("d")
        self._is_ending = False

    async def run(self) -> None:
        """Append until :meth:`end`, and until the last append was confirmed."""
        started = time.monotonic()
        while not self._is_ending:
            due = int((time.monotonic() - started) * self._rate) - len(self.given)
            if due > 0:
                await self.append(due)
            await pause(_BATCH_S, "the load's rate")

    async def append(self, count: int) -> None:
        """Append so many events more."""
        first = len(self.given)
        entries = [event(number, self.keys) for number in range(first, first + count)]
        self.given.extend([time.monotonic()] * count)
        await self._log.append(entries)

    def end(self) -> None:
        """Append nothing more."""
        self._is_ending = True


@asynccontextmanager
async def feed(bootstrap: str, *, rate: float, keys: int, prefix: str = "") -> AsyncIterator[Feed]:
    """A feed; it runs inside, where its rate is not 0.

    Args:
        bootstrap: address of the broker.
        rate: events a second; 0: only what is appended by hand.
        keys: how many the events have.
        prefix: of the topics' names in Kafka.
    """
    log = KafkaLog(KafkaOptions(tuple(bootstrap.split(",")), prefix=prefix))
    await log.start()
    made = Feed(log, rate=rate, keys=keys)
    running = asyncio.create_task(made.run()) if rate else None
    try:
        yield made
    finally:
        made.end()
        if running is not None:
            await running
        await log.stop()


def event(number: int, keys: int) -> Entry:
    """Return an event of the size of an SMS receipt, as the receiver knows it (:mod:`tests.benchmarks.receiver`)."""
    id_ = hashlib.md5(b"%d" % number).hexdigest()
    key = f"key-{number % keys}"
    value = (
        f'{{"specversion":"1.0","id":"{id_}","source":"/nxcloud/sms-dr","type":"nxcloud.sms.dr",'
        f'"subject":"n-{number}","time":"2026-01-01T00:00:00Z","recordedtime":"2026-01-01T00:00:00.000000Z",'
        f'"partitionkey":"{key}","datacontenttype":"application/json","data":{{"text":"{_FILLING}"}}}}'
    )
    return Entry(TOPIC, key, id_, value.encode())


def groups_with_members(bootstrap: str) -> dict[str, int]:
    """Return the consumer groups that have members, and how many: asked by a client that is not ours."""
    client = _client(bootstrap)
    listed = client.list_consumer_groups(request_timeout=_ASK_S).result()
    names = [group.group_id for group in listed.valid]
    if not names:
        return {}
    described = client.describe_consumer_groups(names, request_timeout=_ASK_S)
    found = {name: len(answer.result().members) for name, answer in described.items()}
    return {name: members for name, members in found.items() if members}


def own_topics(bootstrap: str) -> dict[str, int]:
    """Return the topics that are neither events nor Kafka's own, with their numbers of partitions."""
    topics = _client(bootstrap).list_topics(timeout=_ASK_S).topics
    return {
        name: len(topic.partitions)
        for name, topic in topics.items()
        if name != TOPIC and not name.startswith(_INTERNAL)
    }


def _client(bootstrap: str) -> AdminClient:
    # It tells on stderr what it forgets when it is closed.
    return AdminClient({"bootstrap.servers": bootstrap, "log_level": _WARNING})
