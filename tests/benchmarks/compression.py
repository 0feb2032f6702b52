"""What each codec of ``kafka.compression`` costs and saves: processor time and bytes per event.

    python -m tests.benchmarks compression

Needs no broker. The events are those of simulated callbacks, decoded as the gateway does it; the record batches are
built and read by aiokafka, as in the publisher and in fan-out. A batch of one event is a gateway that is not busy, 30
events are some hundred events a second, 250 events are a backlog. ``write_us`` and ``read_us`` are processor
microseconds per event for the whole batch, compression included, so that a codec's own cost is the distance to
``none``; the median of the rounds, in which the codecs take turns.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import count
from random import Random
from typing import Any, Final

from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder

from gateway.callbacks import CALLBACKS, CallbackRequest, DecodeContext
from gateway.log import Entry
from gateway.log.kafka.record_format import structured
from gateway.traffic.simulator import requests
from tests.benchmarks import report

#: Codec and its number in a record batch.
CODECS: Final = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
BATCHES: Final = (1, 30, 250)


def run(rounds: int = 15, callback: str = "sms-dr") -> dict[str, Any]:
    """Write and read batches with each codec, for each size of batch."""
    made = events(callback, 2000)
    found: dict[str, Any] = {}
    for size in BATCHES:
        batches = [made[start : start + size] for start in range(0, min(len(made), size * 40), size)]
        times: dict[str, list[tuple[float, float]]] = {codec: [] for codec in CODECS}
        for _ in range(rounds):
            for codec, number in CODECS.items():
                times[codec].append(_once(batches, number))
        for codec, number in CODECS.items():
            events_of = sum(map(len, batches))
            label = f"{codec}, {size} a batch"
            found[label] = {
                "write_us": report.summary([write for write, _ in times[codec]]),
                "read_us": report.summary([read for _, read in times[codec]]),
                "bytes": round(sum(len(built(batch, number)) for batch in batches) / events_of),
            }
            print(report.line(label, found[label]), flush=True)
    return found


def events(callback: str, wanted: int) -> list[Entry]:
    """Events of simulated callbacks that come 50 a second."""
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    ticks = count()

    def clock() -> datetime:
        return moment + timedelta(milliseconds=20 * next(ticks))

    made: list[Entry] = []
    context = DecodeContext()
    for request in requests(callback, Random(1), clock):
        headers = {"content-type": request.content_type} if request.content_type else {}
        method = "POST" if request.body else "GET"
        path = f"/callbacks/{callback}"
        got = CallbackRequest(method, path, request.query, headers, request.body, clock())
        made += [
            Entry(event.topic, event.partitionkey, event.id, event.to_json())
            for event in CALLBACKS[callback].decode(got, context).events
        ]
        if len(made) >= wanted:
            break
    return made[:wanted]


def built(batch: list[Entry], codec: int) -> bytes:
    """A record batch as it goes to the broker and stays on its disk."""
    builder = DefaultRecordBatchBuilder(2, codec, 0, -1, -1, -1, 2**24)
    for number, entry in enumerate(batch):
        value, headers = structured(entry.value, entry.id, entry.headers)
        builder.append(number, 1_760_000_000_000, entry.key.encode(), value, headers)
    return bytes(builder.build())


def _once(batches: list[list[Entry]], codec: int) -> tuple[float, float]:
    total = sum(map(len, batches))
    written: list[bytes] = []
    write = _timed(lambda: written.extend(built(batch, codec) for batch in batches))
    read = _timed(lambda: [list(DefaultRecordBatch(data)) for data in written])
    return write / total * 1e6, read / total * 1e6


def _timed(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started
