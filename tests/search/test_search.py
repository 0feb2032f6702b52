from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.fanout import attempts
from gateway.log import Entry, Record
from gateway.log.journal import EVENTS, Journal, JournalWriter, Retention
from gateway.search import Query, Search, keys
from gateway.search.index import FILE_NAME
from tests.search.made import entry
from tests.waiting import until


async def subjects(search: Search, **query: object) -> list[str]:
    found = await search.find(Query(**query))  # type: ignore[arg-type]
    return [record.key for record in found.records]


async def test_an_event_is_found_by_everything_it_has(journal: Journal, search: Search) -> None:
    """Event id, message id, order id, phone, callback, type, topic; newest first."""
    one = entry("m-1", to="+6281234567890", order_id="o-7")
    await journal.append([one, entry("m-2", to="+15550100200"), entry("c-3", topic="call.event", callback="voice-dr")])
    assert await search.indexer.caught_up()
    for text in (one.id, one.id.upper(), "m-1", "M-1", "O-7", "0812 3456 7890", "+6281234567890"):
        assert await subjects(search, text=text) == ["m-1"]
    assert await subjects(search, callback="voice-dr") == ["c-3"]
    assert await subjects(search, topic="sms.dr") == ["m-2", "m-1"]
    assert await subjects(search, type="nxcloud.sms.dr", callback="voice-dr") == ["c-3"]
    assert await subjects(search) == ["c-3", "m-2", "m-1"]
    assert await subjects(search, text="nothing") == []
    event = await search.event(one.id)
    assert event is not None
    assert event.value == one.value
    assert await search.event("0" * 32) is None


async def test_pages_join_without_gap_or_repeat(journal: Journal, search: Search) -> None:
    """Each page goes on where the one before ended, with and without a text."""
    for number in range(0, 300, 3):
        await journal.append([entry(f"m-{number + step}", task_id="t-1") for step in range(3)])
    assert await search.indexer.caught_up()
    for text in ("", "t-1"):
        seen: list[str] = []
        before = None
        while True:
            page = await search.find(Query(text=text, limit=37, before=before))
            seen += [record.key for record in page.records]
            before = page.next
            if before is None:
                break
        assert seen == [f"m-{number}" for number in reversed(range(300))]


@pytest.mark.parametrize("kind", [{"topic": "call.event"}, {"callback": "voice-dr"}, {"type": "nxcloud.voice.dr"}])
async def test_rare_events_are_found_among_many_others(journal: Journal, search: Search, kind: dict[str, str]) -> None:
    """By topic, callback or type, over pages, newest first, wherever in a block of the index they stand."""
    rare = {0, 1, 63, 64, 200, 299}
    for number in range(300):
        more = {"topic": "call.event", "callback": "voice-dr", "type_": "nxcloud.voice.dr"} if number in rare else {}
        await journal.append([entry(f"m-{number}", **more)])
    assert await search.indexer.caught_up()
    seen: list[str] = []
    before = None
    while True:
        page = await search.find(Query(limit=2, before=before, **kind))
        seen += [record.key for record in page.records]
        before = page.next
        if before is None:
            break
    assert seen == [f"m-{number}" for number in sorted(rare, reverse=True)]


async def test_times_bound_what_is_found(tmp_path: Path) -> None:
    seconds = iter(float(number) for number in range(1000, 2000))
    journal = Journal(tmp_path, Retention(1 << 30, 1e9), clock=lambda: next(seconds))
    await journal.start()
    search = Search(journal, tmp_path, with_attempts=False)
    await search.start()
    stored: list[float] = []
    for number in range(5):
        await journal.append([entry(f"m-{number}")])
        stored.append((await journal.read_file(EVENTS, number, 1))[0].records[0].appended_at)  # type: ignore[index]
    assert await search.indexer.caught_up()
    assert await subjects(search, since=stored[1], until=stored[3]) == ["m-2", "m-1"]
    assert await subjects(search, topic="sms.dr", since=stored[3]) == ["m-4", "m-3"]
    await search.stop()
    await journal.stop()


async def test_attempts_on_an_event(journal: Journal, search: Search) -> None:
    one = entry("m-1")
    rows = [
        [one.id, 2.0, "delivered", "200", 2, 12],
        [one.id, 1.0, "retried", "500", 1, 30],
        ["f" * 32, 1.5, "x", "y", 1, 1],
    ]
    value = orjson.dumps({"subscriber": "billing", "attempts": rows})
    await journal.append([Entry(attempts.TOPIC, "billing", "a" * 32, value)])
    assert await search.indexer.caught_up()
    told = await search.attempts_of(one.id)
    assert [(attempt.subscriber, attempt.outcome, attempt.number) for attempt in told] == [
        ("billing", "retried", 1),
        ("billing", "delivered", 2),
    ]
    assert await search.attempts_of("e" * 32) == []


async def test_the_place_in_kafka(journal: Journal, search: Search) -> None:
    await journal.append([entry("m-1"), entry("m-2"), entry("m-3")])
    assert await search.indexer.caught_up()
    records = (await search.find(Query())).records[::-1]
    search.indexer.published("sms.dr", 4, 100, [records[0], records[2]])
    await until(lambda: search.published(records[2]), within_s=10)
    assert [await search.published(record) for record in records] == [(4, 100), None, (4, 101)]


async def test_a_missing_index_is_made_again(journal: Journal, tmp_path: Path) -> None:
    """The index may be deleted at any time; so may the journal: another one is not searched with the old index."""
    await journal.append([entry("m-1")])
    for spoil in (lambda path: path.unlink(), lambda path: path.write_bytes(b"no database" * 1000)):
        search = Search(journal, tmp_path, with_attempts=True)
        await search.start()
        assert await search.indexer.caught_up()
        assert await subjects(search, text="m-1") == ["m-1"]
        await search.stop()
        spoil(tmp_path / FILE_NAME)
    search = Search(journal, tmp_path, with_attempts=True)
    await search.start()
    assert await search.indexer.caught_up()
    assert await subjects(search, text="m-1") == ["m-1"]
    await search.stop()


async def test_an_index_ahead_of_its_journal_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal was lost or replaced: what the index knows is of another one."""
    monkeypatch.setattr("gateway.search.indexer._RETRY_S", 0.01)
    for count, there in ((5, "old"), (2, "new")):
        journal = Journal(tmp_path, Retention(1 << 30, 86400.0))
        await journal.start()
        await journal.append([entry(f"{there}-{number}") for number in range(count)])
        search = Search(journal, tmp_path, with_attempts=False)
        await search.start()
        assert await search.indexer.caught_up()
        assert len(await subjects(search, topic="sms.dr")) == count
        await search.stop()
        await journal.stop()
        for suffix in ("", "-wal", "-shm"):
            (tmp_path / f"journal.sqlite{suffix}").unlink(missing_ok=True)


async def test_retention_takes_the_index_too(tmp_path: Path) -> None:
    """What the journal does not have any more is not found."""
    now = 1000.0
    writer = JournalWriter(tmp_path, Retention(1 << 30, 3600.0), clock=lambda: now)
    journal = Journal(tmp_path, writer=writer)
    await journal.start()
    search = Search(journal, tmp_path, with_attempts=True)
    await search.start()
    await journal.append([entry("m-1")])
    now += 1800.0
    await journal.append([entry("m-2")])
    assert await search.indexer.caught_up()
    now += 1900.0
    await writer.housekeep()
    assert journal.floor(EVENTS) == 1
    await search.indexer.trim()
    assert await subjects(search, text="m-1") == []
    assert await subjects(search, text="m-2") == ["m-2"]
    await search.stop()
    await journal.stop()


async def test_published_hook_takes_what_the_publisher_gives(journal: Journal, search: Search) -> None:
    """Entries without a place in the journal are passed over; too many at once are not kept."""
    search.indexer.published("sms.dr", 0, 1, [entry("m-1")])
    record = Record("events", 0, 0.0, *entry("m-2"))
    for _ in range(3):
        search.indexer.published("sms.dr", 0, 1, [record] * 90_000)
    assert search.indexer._published_records <= 200_000
    search.indexer._published.clear()
    search.indexer._published_records = 0


async def test_a_record_that_cannot_be_understood_keeps_nobody_out(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault of ours in one event: it is found by its id, and the ones behind it as always."""
    ordinary = keys._texts_of

    def texts_of(event: Mapping[str, Any]) -> set[str]:
        if event["subject"] == "m-1":
            raise RuntimeError("a fault")
        return ordinary(event)

    monkeypatch.setattr(keys, "_texts_of", texts_of)
    one = entry("m-1")
    search = Search(journal, tmp_path, with_attempts=True)
    await search.start()
    await journal.append([one, entry("m-2")])
    assert await search.indexer.caught_up()
    event = await search.event(one.id)
    assert event is not None
    assert (event.key, await subjects(search, text="m-2")) == ("m-1", ["m-2"])
    await search.stop()


async def test_all_of_a_topic_in_either_order(
    journal: Journal, search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every event of the topic once, however many stretches of the index they stand in, within the times asked for."""
    monkeypatch.setattr("gateway.search.search._STRETCH", 128)
    wanted = [number for number in range(400) if number % 7 == 0 or 100 < number < 110]
    for start in range(0, 400, 5):
        await journal.append(
            [entry(f"m-{number}", topic="x" if number in wanted else "y") for number in range(start, start + 5)]
        )
    assert await search.indexer.caught_up()
    rising = [record async for record in search.of_topic("x")]
    falling = [record async for record in search.of_topic("x", is_newest_first=True)]
    assert wanted == [record.offset for record in rising]
    assert rising[::-1] == falling
    later = rising[20].appended_at
    since = [record async for record in search.of_topic("x", since=later)]
    assert [record for record in rising if record.appended_at >= later] == since
    assert [] == [record async for record in search.of_topic("x", until=rising[0].appended_at)]


async def walk(search: Search, **query: Any) -> list[str]:
    """All pages from the newest event on."""
    seen: list[str] = []
    before = None
    while True:
        page = await search.find(Query(before=before, **query))
        seen += [record.key for record in page.records]
        before = page.next
        if before is None:
            return seen


@pytest.mark.parametrize("condition", [{}, {"topic": "sms.dr"}, {"key_prefix": "M-1"}, {"text": "t-1"}])
async def test_pages_stay_the_same_while_events_come_in(
    journal: Journal, search: Search, condition: dict[str, Any]
) -> None:
    """Older and newer again: the page that was left is found again, whatever was stored meanwhile."""
    for number in range(200):
        await journal.append([entry(f"m-{number}", task_id="t-1")])
    assert await search.indexer.caught_up()
    first = await search.find(Query(limit=7, **condition))
    await journal.append([entry(f"m-1{number}0", task_id="t-1") for number in range(200, 230)])
    assert await search.indexer.caught_up()
    second = await search.find(Query(limit=7, before=first.next, **condition))
    assert second.newer is not None
    again = await search.find(Query(limit=7, after=second.newer, **condition))
    assert [record.key for record in again.records] == [record.key for record in first.records]
    back = await search.find(Query(limit=7, before=again.next, **condition))
    assert [record.key for record in back.records] == [record.key for record in second.records]
    upward: list[str] = []
    after: int | None = 0
    while after is not None:
        page = await search.find(Query(limit=50, after=after, **condition))
        upward = [record.key for record in page.records] + upward
        after = page.newer
    downward = await walk(search, limit=50, **condition)
    assert upward == [key for key in downward if key != "m-0"]
    assert len(downward) == len(set(downward)) >= 30 + 111


async def test_a_condition_that_nothing_meets_ends_with_a_cursor(journal: Journal, search: Search) -> None:
    """Each answer is bounded and says how far it looked; going on reaches the end, and finds what there is."""
    for number in range(0, 3000, 100):
        await journal.append([entry(f"m-{number + step}") for step in range(100)])
    assert await search.indexer.caught_up()
    for condition, wanted in (({"key_prefix": "no"}, []), ({"key_prefix": "m-17"}, 111), ({"topic": "no.such"}, [])):
        seen: list[str] = []
        answers, before = 0, None
        while True:
            page = await search.find(Query(before=before, **condition), patience_s=0.0)  # type: ignore[arg-type]
            seen += [record.key for record in page.records]
            answers += 1
            assert (page.looked_to is None) == (page.next is None or len(page.records) == 50)
            if (before := page.next) is None:
                break
        assert answers > 1 or "topic" in condition
        assert len(seen) == (wanted or 0)


async def test_attempts_on_many_events(journal: Journal, search: Search) -> None:
    """Those of each, in the order of time, out of records that have others too."""
    events = [entry(f"m-{number}") for number in range(3)]
    await journal.append(events)
    for second in range(2):
        rows = [[one.id, 10.0 + second, "retried", "500", second + 1, 3] for one in events[: 2 - second]]
        value = orjson.dumps({"subscriber": "billing", "attempts": [*rows, ["f" * 32, 1.0, "x", "y", 1, 1]]})
        await journal.append([Entry(attempts.TOPIC, "billing", f"{second:032x}", value)])
    assert await search.indexer.caught_up()
    found = await search.attempts_of_many((await search.find(Query())).records)
    assert [[one.number for one in found[event.id]] for event in events] == [[1, 2], [1], []]
