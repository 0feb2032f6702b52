"""Journals without an owner reach their topics."""

from __future__ import annotations

import asyncio
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.app import App
from gateway.config.settings import Settings
from gateway.log.journal import EVENTS, Journal, Retention
from gateway.log.kafka import KafkaOptions
from gateway.orphans import Orphanage, drain, ownerless
from gateway.publisher import GROUP
from tests.kafka.traffic import compare, event, stored, until

_RETENTION = Retention(max_bytes=2**30, max_age_s=86_400.0, protected=GROUP)


async def _abandoned(folder: Path, first: int, count: int) -> list[object]:
    """A journal as a worker leaves it that died: a publisher's cursor at its beginning, events behind it."""
    given = [event(n, f"key-{n % 5}") for n in range(first, first + count)]
    journal = Journal(folder, _RETENTION)
    await journal.start()
    await (await journal.reader(GROUP, [], start="earliest")).close()
    await journal.append(given)
    await journal.stop()
    return list(given)


async def test_only_journals_without_a_holder_are_ownerless(tmp_path: Path) -> None:
    """Held ones, those of present workers, and folders without a journal are left alone."""
    await _abandoned(tmp_path, 0, 1)
    for number in range(4):
        await _abandoned(tmp_path / f"worker-{number}", number, 1)
    (tmp_path / "notes").mkdir()
    held = Journal(tmp_path / "worker-3", _RETENTION)
    await held.start()
    owned = [tmp_path / "worker-0", tmp_path / "worker-1"]
    assert ownerless(tmp_path, owned) == [tmp_path, tmp_path / "worker-2"]
    await held.stop()
    assert ownerless(tmp_path, owned) == [tmp_path, tmp_path / "worker-2", tmp_path / "worker-3"]
    assert ownerless(tmp_path / "nowhere", []) == []


@pytest.mark.kafka
async def test_an_orphan_is_drained(kafka: str, prefix: str, tmp_path: Path) -> None:
    """Its events reach their topic in order, once; drained again there is nothing to do."""
    options = KafkaOptions((kafka,), prefix=prefix, partitions=2)
    given = [*await _abandoned(tmp_path, 0, 200)]
    assert await drain(tmp_path, options, _RETENTION) == 200
    assert await drain(tmp_path, options, _RETENTION) == 0
    result = compare(given, await stored(options))  # type: ignore[arg-type]
    assert (result.missing, result.invented, result.out_of_order, result.repeated) == (0, 0, [], 0)


@pytest.mark.kafka
async def test_orphans_are_found_while_workers_run(kafka: str, prefix: str, tmp_path: Path) -> None:
    """What a worker leaves behind later is drained too; a journal that is held is not touched."""
    options = KafkaOptions((kafka,), prefix=prefix, partitions=2)
    await _abandoned(tmp_path / "worker-1", 0, 50)
    busy = Journal(tmp_path / "worker-2", _RETENTION)
    await busy.start()
    await (await busy.reader(GROUP, [], start="earliest")).close()
    await busy.append([event(900, "key-900")])
    orphanage = Orphanage(tmp_path, [tmp_path / "worker-0"], options, _RETENTION, look_s=0.1)
    await orphanage.start()
    await until(lambda: (tmp_path / "worker-1") in orphanage._drained)
    assert len(await stored(options)) == 50
    await busy.stop()
    await until(lambda: (tmp_path / "worker-2") in orphanage._drained)
    assert len(await stored(options)) == 51
    await orphanage.stop()
    await orphanage.stop()


async def test_an_embedded_journal_is_not_published(tmp_path: Path) -> None:
    """A journal that no publisher ever read has delivered its events itself: nothing of it is sent."""
    journal = Journal(tmp_path, Retention(max_bytes=2**30, max_age_s=86_400.0))
    await journal.start()
    await journal.append([event(1, "k")])
    await journal.stop()
    assert await drain(tmp_path, KafkaOptions(("127.0.0.1:9",)), _RETENTION) == 0
    await journal.start()
    assert (GROUP, EVENTS) not in journal.cursors()
    assert journal.head(EVENTS) == 1
    await journal.stop()


async def test_a_look_that_fails_is_followed_by_the_next(tmp_path: Path) -> None:
    """A process that has no file left to open, for a while: what was left behind is found afterwards."""
    await _abandoned(tmp_path / "worker-1", 0, 0)
    orphanage = Orphanage(tmp_path, [], KafkaOptions(("127.0.0.1:9",)), _RETENTION, look_s=0.05)
    with capture_logs() as lines:
        with _no_file_left():
            await orphanage.start()
            await until(lambda: any(line["event"] == "journal.orphans_not_now" for line in lines))
        await until(lambda: (tmp_path / "worker-1") in orphanage._drained)
    await orphanage.stop()


@contextmanager
def _no_file_left() -> Iterator[None]:
    """Every attempt to open one more ends in EMFILE."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.kafka
async def test_one_process_publishes_what_several_left_behind(kafka: str, prefix: str, tmp_path: Path) -> None:
    """``run`` where ``serve`` had four workers, with the same configuration: it has one journal and drains three."""
    given: list[object] = []
    for number in range(4):
        given += await _abandoned(tmp_path / f"worker-{number}", number * 10, 10)
    settings = Settings.model_validate(
        {
            "ingest": {"port": 0, "workers": 4},
            "admin": {"port": 0},
            "journal": {"dir": str(tmp_path)},
            "kafka": {"bootstrap_servers": [kafka], "partitions": 1},
            "topics": {"prefix": prefix},
        }
    )
    app = App(settings)
    await app.start()
    options = KafkaOptions((kafka,), prefix=prefix)
    async with asyncio.timeout(30):
        while compare(given, await stored(options)).missing:  # type: ignore[arg-type]
            await asyncio.sleep(0.1)
    await app.stop()
