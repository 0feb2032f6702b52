"""Loaded by Python before the gateway where this folder is on ``PYTHONPATH``; does nothing without its variables.

The gateway itself has no hooks: what users run is what is tested. A test that wants a process to end at a chosen
point, or to be broken on purpose, puts this folder on the path and says so:

``LOSSPROOF_POINT=after_commit:37:KILL``  the signal, when that point is passed for the 37th time
``LOSSPROOF_BREAK=answer_before_commit``  see :data:`BREAKS`
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from typing import Any


def _at(owner: Any, name: str, *, before: Callable[[], None] | None = None, after: Callable[[], None] | None = None):
    """Run something around a method. A name that is gone is an error: the points must follow the code."""
    real = getattr(owner, name)

    def around(*args: Any, **kwargs: Any) -> Any:
        if before is not None:
            before()
        result = real(*args, **kwargs)
        if after is not None:
            after()
        return result

    setattr(owner, name, around)


def _before_commit(passed: Callable[[], None]) -> None:
    """Callbacks wait, nothing of them is durable."""
    _around_commits(before=passed)


def _after_commit(passed: Callable[[], None]) -> None:
    """Durable, and nobody has been answered."""
    _around_commits(after=passed)


def _around_commits(*, before: Callable[[], None] | None = None, after: Callable[[], None] | None = None) -> None:
    """Of events, not of positions alone."""
    from gateway.log.journal.store import Store

    real = Store.commit

    def commit(self: Any, appends: Any, *rest: Any) -> Any:
        if appends and before is not None:
            before()
        result = real(self, appends, *rest)
        if appends and after is not None:
            after()
        return result

    Store.commit = commit  # type: ignore[method-assign]


def _after_publish(passed: Callable[[], None]) -> None:
    """Kafka has acknowledged, the cursor has not moved."""
    from gateway.log.journal.reader import JournalReader
    from gateway.publisher import GROUP

    real = JournalReader.commit

    def commit(self: Any, partition: str, offset: int) -> None:
        if self.group == GROUP:
            passed()
        real(self, partition, offset)

    JournalReader.commit = commit  # type: ignore[method-assign]


def _after_delivery(passed: Callable[[], None]) -> None:
    """The subscriber has it, the position has not moved."""
    from gateway.fanout.lane import Lane

    _at(Lane, "done", before=passed)


POINTS: Mapping[str, Callable[[Callable[[], None]], None]] = {
    "before_commit": _before_commit,
    "after_commit": _after_commit,
    "after_publish": _after_publish,
    "after_delivery": _after_delivery,
}


def _answer_before_commit() -> None:
    """Success is told while the commit is still to come; on a disk slow enough that this shows."""
    _around_commits(before=lambda: time.sleep(0.02))
    from gateway.log.journal import Journal

    real = Journal.append_soon

    def append_soon(self: Any, entries: Any) -> Any:
        real(self, entries)
        told = self._loop.create_future()
        told.set_result(None)
        return told

    Journal.append_soon = append_soon  # type: ignore[method-assign]


def _cursor_before_acknowledgement() -> None:
    """The publisher's cursor moves when records are submitted."""
    from gateway.publisher import Publisher

    real = Publisher._submit

    def submit(self: Any, reader: Any, records: Any) -> None:
        reader.commit(records[-1].partition, records[-1].offset + 1)
        real(self, reader, records)

    Publisher._submit = submit  # type: ignore[method-assign]


def _commit_ahead_of_completion() -> None:
    """A subscriber's position moves when events are read."""
    from gateway.fanout.lane import Lane

    real = Lane._take_in

    def take_in(self: Any, records: Any) -> None:
        real(self, records)
        for record in records:
            self._reader.commit(record.partition, record.offset + 1)

    Lane._take_in = take_in  # type: ignore[method-assign]


def _files_not_compared() -> None:
    """The journal believes its descriptors, whatever became of the names."""
    from gateway.log.journal.open_files import OpenFiles

    _check_exists(OpenFiles, "_different")
    OpenFiles._different = lambda self: ("", "")  # type: ignore[method-assign]


def _gaps_not_named() -> None:
    """Records that went before they were read are skipped without a word."""
    from gateway.log.kafka import gaps

    _check_exists(gaps, "report")
    gaps.report = lambda *args, **kwargs: None  # type: ignore[assignment]


def _topic_ids_ignored() -> None:
    """A topic that was created again is taken for the one before, and read from the old offsets."""
    from gateway.log.kafka.incarnation import TopicIds

    async def now(self: Any, client: Any, topics: Any) -> dict[str, str]:
        return dict.fromkeys(topics, "")

    async def recent(self: Any, client: Any) -> dict[str, str]:
        return {}

    for name, broken in (("now", now), ("recent", recent)):
        _check_exists(TopicIds, name)
        setattr(TopicIds, name, broken)


def _start_when_kafka_answers() -> None:
    """A new subscriber begins at the end of the topic, as it is when Kafka says where that is."""
    from gateway.log.kafka.placement import Placement

    async def since(
        self: Any, consumer: Any, topic: str, begin: Any, partitions: list[Any], **kwargs: Any
    ) -> dict[Any, int]:
        return dict(await consumer.end_offsets(partitions))

    _check_exists(Placement, "_since")
    Placement._since = since  # type: ignore[method-assign]


def _check_exists(owner: Any, name: str) -> None:
    """Fail where the code has moved on: a build that is not broken would be called caught, or not."""
    if not callable(getattr(owner, name)):
        raise TypeError(f"{owner}.{name} is no function any more")


BREAKS: Mapping[str, Callable[[], None]] = {
    "answer_before_commit": _answer_before_commit,
    "cursor_before_acknowledgement": _cursor_before_acknowledgement,
    "commit_ahead_of_completion": _commit_ahead_of_completion,
    "files_not_compared": _files_not_compared,
    "gaps_not_named": _gaps_not_named,
    "topic_ids_ignored": _topic_ids_ignored,
    "start_when_kafka_answers": _start_when_kafka_answers,
}


class _Countdown:
    def __init__(self, passages: int, number: signal.Signals) -> None:
        self._left = passages
        self._number = number

    def __call__(self) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), self._number)


def _install() -> None:
    if point := os.environ.get("LOSSPROOF_POINT"):
        name, passages, number = point.split(":")
        POINTS[name](_Countdown(int(passages), signal.Signals[f"SIG{number}"]))
    if broken := os.environ.get("LOSSPROOF_BREAK"):
        BREAKS[broken]()


_install()
