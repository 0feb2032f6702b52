"""Loaded by Python before the gateway where this folder is on ``PYTHONPATH``; does nothing without its variables.

The gateway itself has no hooks: what users run is what is tested. A test that wants a process to end at a chosen
point, or to be broken on purpose, puts this folder on the path and says so:

``LOSSPROOF_POINT=after_commit:37:KILL``  the process that passes this point for the 37th time is killed, once
``LOSSPROOF_POINT=after_commit:37:TERM``  its supervisor gets SIGTERM then, so that the whole gateway ends in order
``LOSSPROOF_BREAK=answer_before_commit``  see :data:`BREAKS`

The supervisor loads this; its children are forked from it. Passages are counted in memory that all of them share, so a
process that is started again after its point does not end there again.
"""

from __future__ import annotations

import mmap
import os
import signal
import struct
from collections.abc import Callable, Mapping
from typing import Any

#: Events for one commit, each acknowledged before it. The load's twelve clients have one request each under way,
#: of three events at most: the first are answered before the last is sent.
_LATE_EVENTS = 48
_LATE_S = 1.0  # it waits for them no longer


class Countdown:
    """A point's passages in all processes of one gateway, and what happens at the last."""

    def __init__(self, passages: int, number: signal.Signals) -> None:
        self._left = mmap.mmap(-1, mmap.PAGESIZE)
        struct.pack_into("q", self._left, 0, passages)
        self.kills = number == signal.SIGKILL

    def is_due(self) -> bool:
        """Count a passage; true at the last one alone."""
        left = struct.unpack_from("q", self._left)[0] - 1
        struct.pack_into("q", self._left, 0, left)
        return bool(left == 0)

    def end(self) -> None:
        """End this process by SIGKILL, or the whole gateway by SIGTERM."""
        if self.kills:
            os.kill(os.getpid(), signal.SIGKILL)
        else:
            os.kill(os.getppid(), signal.SIGTERM)

    def passed(self) -> None:
        """Count a passage, and end at the last."""
        if self.is_due():
            self.end()

    def sent(self, transport: Any, data: bytes, share: float) -> None:
        """Count a passage; at the last, have a share of the bytes reach the kernel, and end.

        Through the descriptor, as a transport may keep them until the loop's next turn. Not while it keeps others: they
        would come behind these, which no death does.
        """
        if transport is not None and not transport.get_write_buffer_size() and self.is_due():
            if self.kills:
                os.write(transport.get_extra_info("socket").fileno(), data[: int(len(data) * share)])
            self.end()


# -- in the log process --------------------------------------------------------------------------------------------


def _before_commit(countdown: Countdown) -> None:
    """Callbacks wait, nothing of them is durable."""
    _around_commits(before=countdown.passed)


def _after_commit(countdown: Countdown) -> None:
    """Durable, and nobody knows: neither those who wait for it nor those who follow."""
    _around_commits(after=countdown.passed)


def _around_commits(*, before: Callable[[], None] | None = None, after: Callable[[], None] | None = None) -> None:
    """Of callbacks: not of positions alone, or of what deliver notes of its attempts."""
    from gateway.log.journal import EVENTS
    from gateway.log.journal.storage import Store

    real = Store.commit

    def commit(self: Any, appends: Any, *rest: Any) -> Any:
        if EVENTS in appends and before is not None:
            before()
        result = real(self, appends, *rest)
        if EVENTS in appends and after is not None:
            after()
        return result

    Store.commit = commit  # type: ignore[method-assign]


def _before_acknowledgement(countdown: Countdown) -> None:
    """Durable and about to be acknowledged; deliver may know, or not."""
    _leaving("APPENDED", countdown, 0.0)


def _torn_acknowledgement(countdown: Countdown) -> None:
    """Half of an acknowledgement has left."""
    _leaving("APPENDED", countdown, 0.5)


def _torn_push(countdown: Countdown) -> None:
    """Half of what is pushed to deliver has left."""
    _leaving("STORED", countdown, 0.5, to="deliver")


def _leaving(kind: str, countdown: Countdown, share: float, to: str = "ingest") -> None:
    """Around what leaves the log process with a frame of this kind in it, for a process of this name."""
    from gateway.link.frames import FrameKind
    from gateway.link.server import _Peer

    wanted, real = FrameKind[kind], _Peer._flush

    def flush(self: Any) -> None:
        if self.peer.startswith(to) and any(_kind_of(frame) == wanted for frame in self._out):
            countdown.sent(self.transport, b"".join(self._out), share)
        real(self)

    _Peer._flush = flush  # type: ignore[method-assign]


# -- in the others -------------------------------------------------------------------------------------------------


def _after_frame(countdown: Countdown) -> None:
    """The log process gets the callbacks, and whoever sent them is gone."""
    _asking("ingest", "APPEND", countdown, 1.0)


def _torn_frame(countdown: Countdown) -> None:
    """The log process gets half of a frame."""
    _asking("ingest", "APPEND", countdown, 0.5)


def _torn_note(countdown: Countdown) -> None:
    """The log process gets half of some positions."""
    _asking("deliver", "NOTE", countdown, 0.5)


def _asking(name: str, kind: str, countdown: Countdown, share: float) -> None:
    """Around what a process of this name sends to the log process."""
    from gateway.link.client import LogClient

    real = LogClient._ask

    def ask(self: Any, what: Any, content: bytes) -> Any:
        if what.name == kind and self._name.startswith(name):
            from gateway.link.frames import frame

            countdown.sent(self._transport, frame(what, bytes(4), content), share)
        return real(self, what, content)

    LogClient._ask = ask  # type: ignore[method-assign]


def _before_answer(countdown: Countdown) -> None:
    """The log process has acknowledged, the platform has no answer."""
    from gateway.link.client import LogClient

    real = LogClient.received

    def received(self: Any, kind: int, content: bytes) -> None:
        from gateway.link.frames import FrameKind

        real(self, kind, content)
        if kind == FrameKind.APPENDED and self._name.startswith("ingest"):
            countdown.passed()

    LogClient.received = received  # type: ignore[method-assign]


def _after_publish(countdown: Countdown) -> None:
    """Kafka has acknowledged, the topic's position has not moved."""
    from gateway.publisher.publisher import Publisher

    real = Publisher._passed

    def passed(self: Any, cursor: Any, offset: int) -> None:
        countdown.passed()
        real(self, cursor, offset)

    Publisher._passed = passed  # type: ignore[method-assign]


def _after_delivery(countdown: Countdown) -> None:
    """The subscriber has it, the position has not moved."""
    from gateway.fanout.cursor import SubscriberCursor

    real = SubscriberCursor.done

    def done(self: Any, job: Any) -> None:
        countdown.passed()
        real(self, job)

    SubscriberCursor.done = done  # type: ignore[method-assign]


def _kind_of(frame: bytes) -> int:
    """Of a whole frame: behind the length."""
    return frame[4]


POINTS: Mapping[str, Callable[[Countdown], None]] = {
    "before_commit": _before_commit,
    "after_commit": _after_commit,
    "before_acknowledgement": _before_acknowledgement,
    "torn_acknowledgement": _torn_acknowledgement,
    "torn_push": _torn_push,
    "after_frame": _after_frame,
    "torn_frame": _torn_frame,
    "before_answer": _before_answer,
    "torn_note": _torn_note,
    "after_publish": _after_publish,
    "after_delivery": _after_delivery,
}


# -- broken on purpose ---------------------------------------------------------------------------------------------


def _answer_before_commit() -> None:
    """The log process acknowledges while the commit is still to come."""
    from gateway.log.journal import EVENTS
    from gateway.log.journal.writer import JournalWriter

    real = JournalWriter.append

    def append(self: Any, records: bytes) -> Any:
        durable = real(self, records)
        told = self._loop.create_future()
        told.set_result(self._pending.appends[-1][1])
        durable.add_done_callback(lambda done: done.exception())
        return told

    late: list[Any] = []

    def commit_soon(self: Any) -> None:
        draft = self._pending.drafts.get(EVENTS)
        if draft is not None and draft.count >= _LATE_EVENTS and not self._is_due:
            self._is_due = True
            self._loop.call_soon(commit, self)
        elif not late:
            late.append(self._loop.call_later(_LATE_S, commit, self))

    def commit(self: Any) -> None:
        while late:
            late.pop().cancel()
        self.commit()

    for name, broken in (("append", append), ("_commit_soon", commit_soon)):
        _check_exists(JournalWriter, name)
        setattr(JournalWriter, name, broken)


def _resend_dropped() -> None:
    """What waits when the log process dies is not sent to the new one."""
    from gateway.link.client import LogClient

    _around_lost(LogClient, lambda client: client._requests.clear())


def _acknowledged_on_reconnect() -> None:
    """What waits when the log process dies is taken for stored."""
    from gateway.link.client import LogClient
    from gateway.log import ALL_NEW

    def settle(client: Any) -> None:
        for number in list(client._requests):
            future = client._settle(number)
            if future is not None:
                future.set_result(ALL_NEW)

    _around_lost(LogClient, settle)


def _around_lost(client: Any, first: Callable[[Any], None]) -> None:
    """Do something when a connection to the log process breaks."""
    real = client.lost

    def lost(self: Any) -> None:
        first(self)
        real(self)

    client.lost = lost


def _ids_forgotten() -> None:
    """A new log process does not know what the one before it stored."""
    from gateway.log.journal.storage import Store

    _check_exists(Store, "newest_ids")
    Store.newest_ids = lambda *args: []  # type: ignore[method-assign,assignment,return-value]


def _cursor_before_acknowledgement() -> None:
    """A topic's position moves when its records are submitted."""
    from gateway.publisher.topic_cursor import TopicCursor

    real = TopicCursor.take

    def take(self: Any, batch: Any) -> None:
        if batch:
            self._on_passed(self, batch[-1].offset + 1)
        real(self, batch)

    TopicCursor.take = take  # type: ignore[method-assign]


def _commit_ahead_of_completion() -> None:
    """A subscriber's position moves when events are read."""
    from gateway.fanout.cursor import SubscriberCursor

    real = SubscriberCursor.take

    def take(self: Any, batch: Any) -> None:
        real(self, batch)
        for record in batch:
            self._cursors.commit(self.name, record.partition, record.offset + 1)

    SubscriberCursor.take = take  # type: ignore[method-assign]


def _files_not_compared() -> None:
    """The journal believes its descriptors, whatever became of the names."""
    from gateway.log.journal.open_files import OpenFiles

    _check_exists(OpenFiles, "_different")
    OpenFiles._different = lambda self: ("", "")  # type: ignore[method-assign]


def _gaps_not_named() -> None:
    """Records that went before they were read are skipped without a word."""
    from gateway.log import gaps

    _check_exists(gaps, "report")
    gaps.report = lambda *args, **kwargs: None  # type: ignore[assignment]


def _topic_ids_ignored() -> None:
    """A topic that was created again is taken for the one before, and read from the old offsets."""
    from gateway.log.kafka.topics import TopicIds

    async def now(self: Any, client: Any, topics: Any) -> dict[str, str]:
        return dict.fromkeys(topics, "")

    async def recent(self: Any, client: Any) -> dict[str, str]:
        return {}

    for name, broken in (("now", now), ("recent", recent)):
        _check_exists(TopicIds, name)
        setattr(TopicIds, name, broken)


def _start_when_kafka_answers() -> None:
    """A new subscriber begins at the end of the topic, as it is when Kafka says where that is."""
    from gateway.log.kafka.placement import SharedAnswers

    async def since(self: Any, partitions: Any, ids: Any, unix_s: float) -> dict[Any, int]:
        return dict(await self.ends(partitions))

    _check_exists(SharedAnswers, "since")
    SharedAnswers.since = since  # type: ignore[method-assign]


def _check_exists(owner: Any, name: str) -> None:
    """Fail where the code has moved on: a build that is not broken would be called caught, or not."""
    if not callable(getattr(owner, name)):
        raise TypeError(f"{owner}.{name} is no function any more")


BREAKS: Mapping[str, Callable[[], None]] = {
    "answer_before_commit": _answer_before_commit,
    "resend_dropped": _resend_dropped,
    "acknowledged_on_reconnect": _acknowledged_on_reconnect,
    "ids_forgotten": _ids_forgotten,
    "cursor_before_acknowledgement": _cursor_before_acknowledgement,
    "commit_ahead_of_completion": _commit_ahead_of_completion,
    "files_not_compared": _files_not_compared,
    "gaps_not_named": _gaps_not_named,
    "topic_ids_ignored": _topic_ids_ignored,
    "start_when_kafka_answers": _start_when_kafka_answers,
}


def _install() -> None:
    if point := os.environ.get("LOSSPROOF_POINT"):
        name, passages, number = point.split(":")
        POINTS[name](Countdown(int(passages), signal.Signals[f"SIG{number}"]))
    if broken := os.environ.get("LOSSPROOF_BREAK"):
        BREAKS[broken]()


_install()
