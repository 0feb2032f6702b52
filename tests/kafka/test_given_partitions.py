"""Reading of given partitions from given offsets, as a cursor does that catches up."""

from __future__ import annotations

import pytest

from gateway.errors import Transient
from gateway.log import Gap, Record
from gateway.log.kafka import KafkaLog
from tests.kafka.surgery import delete_records
from tests.kafka.test_group_reader import QUICK, Process, make_options
from tests.kafka.traffic import TOPIC, event
from tests.waiting import until

pytestmark = pytest.mark.kafka


async def test_given_partitions_are_read_from_given_offsets(kafka: str, prefix: str) -> None:
    """Those and no others; the ends say how far it looked, also where nothing is left."""
    options = make_options(kafka, prefix, 3)
    log = KafkaLog(options, reader_policy=QUICK)
    await log.start()
    await log.append([event(number, f"key-{number}") for number in range(90)])
    ends = await (whole := await log.browse("look", [TOPIC], start="earliest")).ends()
    reader = await log.browse("catch-up", [TOPIC], positions={f"{TOPIC}-0": 5, f"{TOPIC}-2": ends[f"{TOPIC}-2"]})
    found: list[Record] = []
    seen: dict[str, int] = {}
    while seen.get(f"{TOPIC}-0") != ends[f"{TOPIC}-0"]:
        batch = await reader.fetch(max_records=7, wait_s=1.0)
        found += batch
        seen |= batch.ends
    assert [(record.partition, record.offset) for record in found] == [
        (f"{TOPIC}-0", offset) for offset in range(5, ends[f"{TOPIC}-0"])
    ]
    await reader.close()
    await whole.close()
    await log.stop()


async def test_what_expired_before_a_given_offset_is_a_gap(kafka: str, prefix: str) -> None:
    """It is in the batch, and nobody else tells of it."""
    options = make_options(kafka, prefix, 1)
    log = KafkaLog(options, reader_policy=QUICK)
    await log.start()
    await log.append([event(number, "key") for number in range(30)])
    await delete_records(options, TOPIC, 0, 20)
    reader = await log.browse("catch-up", [TOPIC], positions={f"{TOPIC}-0": 5})
    gaps: list[Gap] = []
    found: list[Record] = []
    while len(found) < 10:
        batch = await reader.fetch(max_records=100, wait_s=1.0)
        gaps += batch.gaps
        found += batch
    assert gaps == [Gap(f"{TOPIC}-0", 5, 19, "expired")]
    assert [record.offset for record in found] == list(range(20, 30))
    await log.stop()


async def test_a_given_offset_beyond_the_end_makes_all_be_placed_anew(kafka: str, prefix: str) -> None:
    """The partition lost its end under a cursor that was ahead: the shared reading gives its partitions anew."""
    process = Process(make_options(kafka, prefix, 1, "one"), [])
    await process.start()
    await process.log.append([event(number, "key") for number in range(10)])
    await until(lambda: len(process.arrived) == 10)
    reader = await process.log.browse("catch-up", [TOPIC], positions={f"{TOPIC}-0": 50})
    with pytest.raises(Transient, match="shorter than it was"):
        for _ in range(20):
            await reader.fetch(max_records=10, wait_s=0.5)
    await until(lambda: [kind for kind, _ in process.calls] == ["assigned", "revoked", "assigned"])
    await reader.close()
    await process.stop()
