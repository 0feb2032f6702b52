"""The link between the processes of one machine: what breaks between them loses nothing that was acknowledged."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from gateway.errors import JournalFull, JournalUnavailable
from gateway.eventloop import loop_factory
from gateway.link import LinkPolicy, LogClient
from gateway.link.frames import FrameKind, Frames, frame
from gateway.log import ALL_NEW, Appended, Entry
from gateway.log.journal import EVENTS, Retention
from gateway.sockets import listen_locally
from tests.log.linked import ROOMY, Linked
from tests.waiting import hold_up, pause, turn, until

QUICK = LinkPolicy(resend_s=0.3, answer_s=0.5, heartbeat_s=0.05, silent_s=0.2)
MIB = 1024 * 1024


def entry(number: int, topic: str = "sms.dr", size: int = 8) -> Entry:
    return Entry(topic, f"key-{number % 7}", f"{number:032x}", number.to_bytes(8, "big") * (size // 8))


@asynccontextmanager
async def linked(folder: Path, retention: Retention = ROOMY, **options: Any) -> AsyncIterator[Linked]:
    made = Linked(folder, retention, **options)
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


@asynccontextmanager
async def client(made: Linked, policy: LinkPolicy | None = None) -> AsyncIterator[LogClient]:
    other = LogClient(made.path, "ingest-0", policy)
    await other.start()
    try:
        yield other
    finally:
        await other.stop()


@given(
    st.lists(st.tuples(st.sampled_from(FrameKind), st.binary(max_size=300)), max_size=20),
    st.lists(st.integers(min_value=1, max_value=40), min_size=1),
)
def test_frames_come_out_as_they_went_in_however_the_bytes_are_cut(
    sent: Sequence[tuple[FrameKind, bytes]], sizes: Sequence[int]
) -> None:
    data = b"".join(frame(kind, content) for kind, content in sent)
    frames, found, at, turn = Frames(), [], 0, 0
    while at < len(data):
        size = sizes[turn % len(sizes)]
        found += frames.cut(data[at : at + size])
        at, turn = at + size, turn + 1
    assert found == [(int(kind), content) for kind, content in sent]


def test_what_is_no_frame_is_refused() -> None:
    with pytest.raises(ValueError, match="a frame of"):
        Frames().cut(b"\xff" * 64)


async def test_repeats_are_known_whoever_sends_them(tmp_path: Path) -> None:
    """One window for the machine: a repeat is recognised on whichever process it arrives."""
    async with linked(tmp_path, known_ids=100) as made, client(made) as one, client(made) as other:
        assert await one.append_soon([entry(1), entry(2)]) == ALL_NEW
        assert await other.append_soon([entry(2), entry(3), entry(3)]) == Appended(frozenset({0, 2}))
        assert await made.journal.append([entry(1)]) == Appended(frozenset({0}))
        await made.journal.writer.sync()
        assert made.journal.head(EVENTS) == 3


async def test_what_waited_when_the_log_process_died_is_stored_once_by_the_next(tmp_path: Path) -> None:
    """It is sent again; what the first had stored without saying so is known to the second."""
    async with linked(tmp_path, known_ids=100) as made, client(made) as sender:
        stored = sender.append_soon([entry(1)])
        while made.writer.snapshot().bounds.get(EVENTS, (0, 0))[1] < 1:
            await turn()
        for peer in list(made.server._peers):
            peer.abort()  # the acknowledgement is lost with the connection
        await made.stop_log()
        waiting = [sender.append_soon([entry(number)]) for number in range(2, 12)]
        await made.start_log()
        assert await stored in (ALL_NEW, Appended(frozenset({0})))
        await asyncio.gather(*waiting)
        reader = await made.journal.browse("any", [], start="earliest")
        await made.journal.sync()
        records = await reader.fetch(max_records=100, wait_s=5)
        assert [int(record.id, 16) for record in records] == list(range(1, 12))


async def test_without_a_log_process_senders_are_asked_to_come_again(tmp_path: Path) -> None:
    """After the time that is worth waiting: first those who wait, then each at once. Then it goes on by itself."""
    async with linked(tmp_path) as made, client(made, QUICK) as sender:
        await made.stop_log()
        while not sender.problem:
            await turn()
        with pytest.raises(JournalUnavailable, match="log process is not running"):
            await sender.append_soon([entry(1)])
        with pytest.raises(JournalUnavailable, match="log process is not running"):
            sender.append_soon([entry(2)])
        await made.start_log()
        await until(lambda: not sender.problem, within_s=10)
        assert await sender.append_soon([entry(3)]) == ALL_NEW


async def test_a_log_process_that_hangs_is_a_problem_and_holds_nobody(tmp_path: Path) -> None:
    """It is connected, and says nothing: as when it is stopped, or its disk hangs."""
    path = tmp_path / "log.sock"
    listening = listen_locally(path)
    loop = asyncio.get_running_loop()

    async def welcome_and_hang() -> socket.socket:
        connection, _ = await loop.sock_accept(listening)
        await loop.sock_recv(connection, 4096)
        document = b'{"version":1,"bounds":{},"positions":[],"state":["",0],"database":[1,2],"known_ids":0}'
        await loop.sock_sendall(connection, frame(FrameKind.WELCOME, document))
        return connection

    hanging = asyncio.create_task(welcome_and_hang())
    sender = LogClient(path, "ingest-0", QUICK)
    await sender.start()
    connection = await hanging
    try:
        with pytest.raises(JournalUnavailable):
            await sender.append_soon([entry(1)])
        assert "has not answered" in sender.problem
        with pytest.raises(JournalUnavailable, match="has not answered"):
            sender.append_soon([entry(2)])
    finally:
        connection.close()
        await sender.stop()
        listening.close()


async def test_what_was_given_up_counts_until_the_log_process_has_read_it(tmp_path: Path) -> None:
    """A log process that answers others, and reads this one too slowly: memory is bounded by bytes, not by time."""
    policy = replace(QUICK, most_bytes=MIB)
    async with linked(tmp_path, policy=policy) as made, client(made) as sender:
        (peer,) = (one for one in made.server._peers if one.peer == "deliver")
        assert peer.transport is not None
        assert made.client._transport is not None
        peer.transport.pause_reading()
        given_up = 0
        with pytest.raises(JournalUnavailable, match="does not keep up"):
            while made.client._transport.get_write_buffer_size() < 8 * MIB:
                waiting = made.journal.append_soon([entry(given_up, size=512 * 1024)])
                while not waiting.done():
                    await sender.append_soon([entry(1000 + given_up)])  # deliver hears of it
                    await asyncio.wait([waiting], timeout=0.02)
                given_up += 1
        assert given_up > 1
        peer.transport.resume_reading()
        transport = made.client._transport
        await until(lambda: not transport.get_write_buffer_size(), within_s=10)
        assert await made.journal.append([entry(5000)]) == ALL_NEW


async def test_a_process_that_was_paused_for_long_goes_on(tmp_path: Path) -> None:
    """As one that was suspended, or whose container was frozen: nothing but it was silent."""
    async with linked(tmp_path) as made, client(made, QUICK) as sender:
        await sender.append_soon([entry(1)])
        while sender._requests:  # a heartbeat that is under way would be answered after the pause
            await turn()
        hold_up(2 * QUICK.answer_s, "suspended, with its loop")
        assert not sender.problem
        assert await sender.append_soon([entry(2)]) == ALL_NEW


async def test_what_is_no_record_is_refused_by_itself(tmp_path: Path) -> None:
    """Others of the same process are not held up by it, and it is not sent again."""
    async with linked(tmp_path) as made, client(made) as sender:
        before, wrong, behind = (
            sender.append_soon([entry(1)]),
            sender.append(b"no record"),
            sender.append_soon([entry(2)]),
        )
        with pytest.raises(JournalUnavailable, match="within a record"):
            await wrong
        assert [await before, await behind] == [ALL_NEW, ALL_NEW]


async def test_nobody_there_is_an_error_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(JournalUnavailable, match="log process does not answer"):
        await LogClient(tmp_path / "none", "ingest-0", LinkPolicy(start_s=0.2)).start()


async def test_a_refusal_arrives_as_what_it_was(tmp_path: Path) -> None:
    async with linked(tmp_path, Retention(MIB, 3600.0, protected="publisher")) as made:
        await made.journal.cursors.load("publisher", ["sms.dr"], [EVENTS], start="earliest")
        with pytest.raises(JournalFull):
            for number in range(2000):
                await made.journal.append([entry(number, size=8000)])
        assert "Kafka has not acknowledged" in made.journal.last_failure


async def test_a_follower_that_does_not_read_is_spared_the_records_and_misses_none(tmp_path: Path) -> None:
    """What waits for it in the log process is bounded; the rest comes from the file."""
    async with linked(tmp_path, policy=LinkPolicy(heartbeat_s=60.0)) as made, client(made) as sender:
        reader = await made.journal.browse("any", [], start="earliest")
        transport = made.client._transport
        assert transport is not None
        transport.pause_reading()
        (peer,) = (one for one in made.server._peers if one.peer == "deliver")
        number = 0
        while not peer._is_paused:
            await sender.append_soon([entry(number + more, size=64 * 1024) for more in range(4)])
            number += 4
        held = peer.transport.get_write_buffer_size()  # type: ignore[union-attr]
        for _ in range(50):
            await sender.append_soon([entry(number + more, size=64 * 1024) for more in range(4)])
            number += 4
        # Less than one record more: answers to the heartbeat, and how full the journal is.
        assert peer.transport.get_write_buffer_size() < held + 16 * 1024  # type: ignore[union-attr]
        transport.resume_reading()
        found: list[int] = []
        while len(found) < number:
            found += [int(record.id, 16) for record in await reader.fetch(max_records=100, wait_s=10)]
        assert found == list(range(number))


async def test_a_sync_shows_a_follower_that_did_not_read_what_was_done_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also what it was spared: the answer comes behind that."""
    heads: list[int] = []
    async with linked(tmp_path, policy=LinkPolicy(heartbeat_s=60.0)) as made, client(made) as sender:
        transport = made.client._transport
        assert transport is not None
        transport.pause_reading()
        (peer,) = (one for one in made.server._peers if one.peer == "deliver")
        number = 0
        while not peer._has_missed:
            await sender.append_soon([entry(number, size=256 * 1024)])
            number += 1
        received = made.client.received

        def watched(kind: int, content: bytes) -> None:
            received(kind, content)
            if kind == FrameKind.DONE:
                heads.append(made.journal.head(EVENTS))

        monkeypatch.setattr(made.client, "received", watched)
        synced = asyncio.create_task(made.journal.sync())
        await sender.append_soon([])  # the other request was sent before this one
        transport.resume_reading()
        await synced
        assert heads[0] == number


async def test_a_snapshot_that_could_not_be_made_is_made_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk may fail just when a follower that did not read begins to read again."""
    async with linked(tmp_path) as made, client(made) as sender:
        (peer,) = (one for one in made.server._peers if one.peer == "deliver")
        peer.pause_writing()
        await sender.append_soon([entry(1)])
        with monkeypatch.context() as disk:
            disk.setattr(made.writer.store, "cursors", _unreadable)
            with pytest.raises(JournalUnavailable):
                peer.resume_writing()
        await made.journal.sync()
        assert made.journal.head(EVENTS) == 1


def _unreadable() -> dict[tuple[str, str], int]:
    raise JournalUnavailable("the disk failed")


@pytest.mark.parametrize("is_in_memory", [True, False])
async def test_what_goes_while_a_reader_is_about_to_read_it_is_counted_by_topic(
    tmp_path: Path, is_in_memory: bool
) -> None:
    """The writer trims and its message is on its way: the reader asks before it believes that the file lacks rows."""
    now = 1_000_000.0
    with capture_logs() as lines:
        await _trimmed_while_read(tmp_path, now, is_in_memory=is_in_memory)
    assert "journal.expired" not in {line["event"] for line in lines}


async def _trimmed_while_read(folder: Path, now: float, *, is_in_memory: bool) -> None:
    async with linked(folder, Retention(1 << 30, 60.0)) as made:
        made.writer._clock = lambda: now
        made.writer._clock = lambda: now
        if is_in_memory:
            reader = await made.journal.browse("any", ["sms.dr"], start="earliest")
            await made.journal.append([entry(number, "call.event") for number in range(10)])
        else:
            await made.journal.append([entry(number, "call.event") for number in range(10)])
            reader = await made.journal.browse("any", ["sms.dr"], start="earliest")
        transport = made.client._transport
        assert transport is not None
        transport.pause_reading()
        now += 120
        await made.writer.housekeep()
        reading = asyncio.create_task(reader.fetch(max_records=9, wait_s=0))
        await pause(0.05, "the request reaches the log process, which trims meanwhile")
        transport.resume_reading()
        assert list(await reading) == []
        await made.journal.sync()


@pytest.mark.parametrize("make_loop", [asyncio.new_event_loop, loop_factory()])
def test_the_socket_keeps_its_name_when_a_log_process_ends_by_itself(
    tmp_path: Path, make_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """The next one has the same socket, and the others look for it by its name."""

    async def end_and_begin() -> None:
        async with linked(tmp_path) as made:
            await made.stop_log()
            await made.start_log()
            assert await made.journal.append([entry(1)]) == ALL_NEW

    with asyncio.Runner(loop_factory=make_loop) as runner:
        runner.run(end_and_begin())


async def test_the_log_process_stays_until_the_others_have_gone(tmp_path: Path) -> None:
    """So what they have under way at a stop is stored, whoever is told first."""
    async with linked(tmp_path) as made, client(made) as sender:
        ending = asyncio.create_task(made.server.stop(30.0))
        await turn()
        assert await sender.append_soon([entry(1)]) == ALL_NEW
        await sender.stop()
        assert not ending.done()
        await made.journal.stop()
        async with asyncio.timeout(5):
            await ending
