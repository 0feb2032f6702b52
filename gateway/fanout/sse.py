"""Streams: events of a subscriber that fetches as server-sent events, resumed by ``Last-Event-ID``.

Source: HTML Living Standard, section 9.2 "Server-sent events". The ``id`` of each event is the place in the log
behind it, such as ``1760000000.5;events:1042`` or ``0;sms.dr-0:17,sms.dr-1:9``: since when the stream is read, which
counts for partitions that gave nothing yet, and the next offset of the others. A client that comes back with it
gets everything after it, for as long as the log has it. Nothing is committed: only the client knows
what it has processed. There is no retry and no dead letter here, as nothing is pushed.

Each client has a reading position of its own: it gets every event, however many others there are, in this
process or another. It reads at its own pace: nothing is read ahead beyond one batch, and a client that does not read
holds up only itself.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from gateway.clock import Clock, sleep
from gateway.config.settings import Subscriber
from gateway.errors import NotNow, SenderError, Transient
from gateway.event import parse as parse_event
from gateway.fanout import subscription
from gateway.fanout.transform import Transform
from gateway.log import Batch, EventLog, LogReader, Record

CONTENT_TYPE: Final = "text/event-stream"
#: A comment is sent after so long without an event that is wanted: proxies close silent connections, many after 30 s.
HEARTBEAT_S: Final = 15.0
#: Clients of one subscriber at a time; each has a reading position in the log.
MAX_CLIENTS: Final = 16
_BATCH: Final = 100
#: Pause between attempts to read an unavailable log.
_RETRY_S: Final = 1.0
_OFFSET: Final = re.compile(r"^[A-Za-z0-9._-]{1,249}:[0-9]{1,18}$")
_SINCE: Final = re.compile(r"^[0-9]{1,12}\.[0-9]{3}$")
_MAX_PARTITIONS: Final = 1000


@dataclass(frozen=True, slots=True)
class StreamCursor:
    """Where a client is.

    Args:
        since: Unix seconds; what counts in partitions without an offset.
        offsets: the next one to read, by partition. Moves on as the client reads.
    """

    since: float
    offsets: dict[str, int]


class TooManyClients(NotNow):
    """All places of a stream are taken; one must disconnect first."""


class BadLastEventId(SenderError):
    """The ``Last-Event-ID`` is not one of this gateway. Connect without it to begin again."""


class EventStream:
    """The stream of one subscriber of kind ``stream``.

    Raises:
        ConfigError: its filter or transform cannot be used.
    """

    def __init__(self, log: EventLog, subscriber: Subscriber, *, clock: Clock) -> None:
        self._log = log
        self._subscriber = subscriber
        self._clock = clock
        self._wants = subscription.build(subscriber).wants
        self._transform: Transform | None = subscription.transform(subscriber)
        self._clients = 0

    async def events(
        self, last_event_id: str | None = None, *, heartbeat_s: float = HEARTBEAT_S
    ) -> AsyncIterator[bytes]:
        """Yield the chunks of one response without end; close it when the client has disconnected.

        Args:
            last_event_id: the header of that name; None begins where the subscriber's ``start`` says.

        Raises:
            TooManyClients, BadLastEventId: before the first chunk.
        """
        if last_event_id:
            cursor = parse(last_event_id)
        else:
            cursor = StreamCursor(self._clock.now() if self._subscriber.start == "latest" else 0.0, {})
        if self._clients >= MAX_CLIENTS:
            raise TooManyClients(f"{MAX_CLIENTS} clients read {self._subscriber.name} already")
        self._clients += 1
        try:
            async for chunk in self._read(cursor, heartbeat_s):
                yield chunk
        finally:
            self._clients -= 1

    async def _read(self, cursor: StreamCursor, heartbeat_s: float) -> AsyncIterator[bytes]:
        reader = await self._log.browse(
            f"stream.{self._subscriber.name}", self._subscriber.topics, start=self._subscriber.start
        )
        try:
            await _seek(reader, cursor)
            yield b": connected\n\n"
            now = asyncio.get_running_loop().time
            due = now() + heartbeat_s
            while True:
                try:
                    records = await reader.fetch(max_records=_BATCH, wait_s=max(0.0, due - now()))
                except Transient:
                    records = Batch()
                    await sleep(self._clock, _RETRY_S)
                    due = now()
                chunks: list[bytes] = []
                for record in records:
                    cursor.offsets[record.partition] = record.offset + 1
                    if not record.flaw and (self._wants is None or self._wants(record)):
                        chunks.append(self._chunk(record, cursor))
                if not chunks and now() >= due:
                    chunks.append(b": still here\n\n")
                if chunks:
                    yield b"".join(chunks)
                    due = now() + heartbeat_s
                else:  # there may always be records, and none that is wanted: others get their turn all the same
                    await asyncio.sleep(0)
        finally:
            await reader.close()

    def _chunk(self, record: Record, cursor: StreamCursor) -> bytes:
        value = record.value if self._transform is None else self._transform.apply(record.value)
        lines = b"".join(b"data: " + line + b"\n" for line in value.splitlines())
        return b"id: %s\nevent: %s\n%s\n" % (format_cursor(cursor).encode(), _type(record).encode(), lines)


def format_cursor(cursor: StreamCursor) -> str:
    """Return a position in the log as an event's id."""
    offsets = ",".join(f"{partition}:{offset}" for partition, offset in sorted(cursor.offsets.items()))
    return f"{cursor.since:.3f};{offsets}"


def parse(text: str) -> StreamCursor:
    """Return the position in the log that an event's id holds.

    Raises:
        BadLastEventId: the gateway did not create it.
    """
    since, _, offsets = text.strip().partition(";")
    parts = offsets.split(",")
    if not _SINCE.match(since) or len(parts) > _MAX_PARTITIONS or not all(_OFFSET.match(part) for part in parts):
        raise BadLastEventId("Last-Event-ID is not one that this stream gave")
    split = (part.rpartition(":") for part in parts)
    return StreamCursor(float(since), {partition: int(offset) for partition, _, offset in split})


async def _seek(reader: LogReader, cursor: StreamCursor) -> None:
    await reader.seek_to_time(cursor.since)
    # The subscriber may have had other topics then.
    for partition in cursor.offsets.keys() & (await reader.ends()).keys():
        await reader.seek(partition, cursor.offsets[partition])


def _type(record: Record) -> str:
    return str(parse_event(record.value)["type"]).replace("\n", " ").replace("\r", " ")
