"""A serve worker without HTTP, to be killed: ``python -m tests.kafka.worker FOLDER BOOTSTRAP PREFIX FIRST TOPIC…``.

Appends events from number FIRST on and prints each number after its append has returned, as an answer would tell.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import uvloop

from gateway.log import Entry
from gateway.log.kafka import KafkaOptions
from gateway.publisher import Publisher
from tests.kafka.traffic import event, journal
from tests.waiting import pause

KEYS = 21
_AT_ONCE = 10


def event_of(number: int, topics: Sequence[str]) -> Entry:
    """The event of a number: the topics take turns."""
    return event(number, f"key-{number % KEYS}", topics[number % len(topics)])


async def main(folder: Path, bootstrap: str, prefix: str, first: int, topics: Sequence[str]) -> None:
    async with journal(folder) as log:
        publisher = Publisher(log, KafkaOptions((bootstrap,), prefix=prefix, partitions=3))
        await publisher.start()
        number = first
        while True:
            numbers = range(number, number + _AT_ONCE)
            await log.append([event_of(n, topics) for n in numbers])
            sys.stdout.write("".join(f"{n}\n" for n in numbers))
            sys.stdout.flush()
            number += _AT_ONCE
            await pause(0.005, "the load's rate")


if __name__ == "__main__":
    uvloop.run(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5:]))
