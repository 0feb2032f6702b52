"""Events for the tests: small, numbered per key."""

from __future__ import annotations

from collections import Counter

from gateway.event import Event
from gateway.log import Entry


def entry(
    number: int, key: str = "k", *, topic: str = "sms.dr", type_: str = "nxcloud.sms.dr", **data: object
) -> Entry:
    event = Event(
        id=f"{number:032x}",
        source="/nxcloud/sms-dr",
        type=type_,
        topic=topic,
        subject=key,
        partitionkey=key,
        time="2026-01-01T19:04:05.000000Z",
        recordedtime="2026-01-01T19:04:06.000001Z",
        data={"number": number, "to": "+6281200000000", "raw": {"to": "6281200000000"}, **data},
    )
    return Entry(topic, key, event.id, event.to_json())


def entries(count: int, keys: int = 1, *, first: int = 1) -> list[Entry]:
    return [entry(first + i, f"key-{i % keys}") for i in range(count)]


def in_order(numbers_by_key: dict[str, list[int]]) -> bool:
    return all(numbers == sorted(numbers) for numbers in numbers_by_key.values())


def repeats(ids: list[str]) -> int:
    return sum(times - 1 for times in Counter(ids).values())
