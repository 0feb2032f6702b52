"""What was submitted and is not acknowledged: topics, their lanes, and how much it is. No I/O."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence

from gateway.log import Entry, Record
from gateway.log.kafka.lane import OVERHEAD_BYTES, Batch, Lane, Ticket, Topic
from gateway.log.kafka.partitioner import hashes_of, partition_of


class Backlog:
    """Records in their lanes, bounded by whoever submits: it waits for :attr:`has_room` before.

    Args:
        max_bytes: past it there is no room until a quarter of it is free again.
        registered: the header with the id of a topic's schema, by topic.
    """

    def __init__(self, max_bytes: int, registered: Mapping[str, tuple[str, bytes]] | None = None) -> None:
        self._max_bytes = max_bytes
        self._registered = registered or {}
        self.topics: dict[str, Topic] = {}
        #: Lanes that may have something to send, in the order in which they got it.
        self.ready: dict[tuple[str, int], Lane] = {}
        self.bytes = 0
        self.has_room = asyncio.Event()
        self.has_room.set()
        self.is_empty = asyncio.Event()
        self.is_empty.set()

    def submit(self, entries: Sequence[Entry | Record], ticket: Ticket) -> None:
        """Take entries in, in order. The hot path: hashes are made for all keys at once."""
        keys = [entry.key.encode() for entry in entries]
        size = len(entries) * OVERHEAD_BYTES
        topic = Topic("")
        for entry, key, hashed in zip(entries, keys, hashes_of(keys), strict=True):
            size += len(entry.value)
            if entry.topic != topic.name:
                topic = self.topics.get(entry.topic) or self.topics.setdefault(entry.topic, self._made(entry.topic))
            if lanes := topic.lanes:
                lane = lanes[hashed % len(lanes)]
                if not lane.pending:
                    self.ready[topic.name, lane.partition] = lane
                lane.pending.append((entry, key, ticket))
            else:
                topic.unplaced.append((entry, key, ticket))
        self.bytes += size
        if self.bytes >= self._max_bytes:
            self.has_room.clear()
        self.is_empty.clear()

    def _made(self, name: str) -> Topic:
        return Topic(name, [self._registered[name]] if name in self._registered else [])

    def release(self, size: int) -> None:
        """So much is done."""
        self.bytes -= size
        if self.bytes < self._max_bytes * 3 // 4:
            self.has_room.set()
        if self.bytes <= 0:
            self.is_empty.set()

    def drop_cancelled(self) -> None:
        """Forget records whose senders have given up: nobody waits for them, and they take the room of others."""
        if size := sum(topic.drop_cancelled() for topic in self.topics.values()):
            self.release(size)

    def place(self, topic: Topic, partitions: int) -> bool:
        """Lanes for all partitions. With more of them than before, what waits stays where it is.

        With fewer (the topic was deleted and created again) what waits goes to the partitions of its keys, in order.
        That cannot be while something is on its way: returns False then, and nothing has changed.
        """
        if partitions < len(topic.lanes):
            if any(lane.in_flight for lane in topic.lanes):
                return False
            topic.unplaced = [item for lane in topic.lanes for item in lane.pending] + topic.unplaced
            for lane in topic.lanes:
                lane.pending.clear()  # somebody may be about to send it
            topic.lanes = []
        for number in range(len(topic.lanes), partitions):
            topic.lanes.append(Lane(topic, number))
        unplaced, topic.unplaced = topic.unplaced, []
        for item in unplaced:
            lane = topic.lanes[partition_of(item[1], len(topic.lanes))]
            lane.pending.append(item)
            self.make_ready(lane)
        return True

    def make_ready(self, lane: Lane) -> None:
        """Look at this lane again."""
        self.ready[lane.topic.name, lane.partition] = lane

    def take_ready(self) -> list[Lane]:
        """Lanes with something to send and nothing on its way; they are forgotten until :meth:`make_ready`."""
        ready, self.ready = self.ready, {}
        return [lane for lane in ready.values() if lane.is_ready]

    def in_flight(self) -> list[Batch]:
        """Batches with the client."""
        return [lane.in_flight for lane in self._lanes() if lane.in_flight is not None]

    def take_back(self) -> None:
        """The client is given up: what it did not answer comes first again, in every lane."""
        for lane in self._lanes():
            if (batch := lane.in_flight) is not None:
                batch.is_abandoned = True
                lane.in_flight = None
                lane.put_back(batch.items)
            if lane.pending:
                self.make_ready(lane)

    def _lanes(self) -> Iterator[Lane]:
        for topic in self.topics.values():
            yield from topic.lanes
