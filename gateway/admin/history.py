"""Charts of one hour, one day and one week, kept by the process with the admin port: what Prometheus would show.

Every reading (:mod:`.rates`) is added to the present point of the hour. When that ends, it is added to the present
points of the day and of the week, and all three are stored: a point that is not complete yet is stored again, and after
a restart a new one begins. So a crash loses at most :data:`~HOUR.step_s` seconds. Quantiles are of all durations of a
point, never averages of quantiles. Where no reading was taken there is a gap, which is never drawn as zero.

The file is SQLite in the journal's folder. A row has the values of a point as two columns: numbers of names (16 bits)
and values (32-bit floats). Names are stored once. An hour in steps of 10 s, a day in minutes and a week in quarters of
an hour are 2,472 points: 1 MB with ten subscribers, 15 MB at the bound of :data:`MOST_SERIES`. Older rows are deleted.
The file holds nothing essential: one that is damaged, or of another version, is deleted and created again.
"""

from __future__ import annotations

import asyncio
import math
import sqlite3
import time
from array import array
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import structlog
from aiohttp import web

from gateway.admin.rates import Step, series_of
from gateway.admin.responses import BadRequest, Given, json_response
from gateway.errors import Transient
from gateway.log.journal import files
from gateway.telemetry import redaction

FILE_NAME: Final = "history.sqlite"
_APPLICATION_ID: Final = 0x4E584849  # "NXHI"
_VERSION: Final = 1
#: Values of one point; the most important ones are kept.
MOST_SERIES: Final = 1000
#: Names in the file: what 16 bits can number.
_MOST_NAMES: Final = 65_535
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS name (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS point (
  step REAL NOT NULL, at REAL NOT NULL, took REAL NOT NULL, names BLOB NOT NULL, vals BLOB NOT NULL,
  PRIMARY KEY (step, at)
) WITHOUT ROWID;
"""
_T = TypeVar("_T")


class Row(NamedTuple):
    """One point.

    Args:
        step_s: of its ring.
        at: when it begins, Unix seconds.
        took_s: how long it lasted, in seconds.
        values: by name of the series.
    """

    step_s: float
    at: float
    took_s: float
    values: Mapping[str, float]


class HistoryStore:
    """One connection to the file. Every method blocks, and may raise :class:`sqlite3.Error`.

    Args:
        folder: of the file; None: everything is in memory.
    """

    def __init__(self, folder: Path | None) -> None:
        path = None if folder is None else folder / FILE_NAME
        self._db = files.open_derived(path, _APPLICATION_ID, _VERSION, _SCHEMA)
        try:
            if self._db.execute("PRAGMA quick_check").fetchone()[0] != "ok":
                raise sqlite3.DatabaseError("it is damaged")
            self._names = {str(name): int(number) for number, name in self._db.execute("SELECT id, name FROM name")}
        except BaseException:
            self._db.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def put(self, rows: Sequence[Row], keep_s: Mapping[float, float]) -> None:
        """Store points, in place of those with the same step and beginning, and delete old ones.

        Args:
            rows: the points.
            keep_s: how long the points of each step are kept.
        """
        db = self._db
        db.execute("BEGIN IMMEDIATE")
        try:
            for row in rows:
                known = ((self._number(name), value) for name, value in row.values.items())
                numbers = {number: value for number, value in known if number is not None}
                packed = array("H", numbers).tobytes(), array("f", numbers.values()).tobytes()
                db.execute("INSERT OR REPLACE INTO point VALUES (?, ?, ?, ?, ?)", (*row[:3], *packed))
                oldest = row.at + row.took_s - keep_s[row.step_s]
                db.execute("DELETE FROM point WHERE step = ? AND at < ?", (row.step_s, oldest))
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            self._names = {str(name): int(number) for number, name in db.execute("SELECT id, name FROM name")}
            raise

    def read(self, step_s: float, since: float) -> list[Row]:
        """Return the points of a step that begin after a time (Unix seconds), oldest first."""
        names = {number: name for name, number in self._names.items()}
        return [
            Row(step_s, at, took, dict(zip(map(names.__getitem__, array("H", keys)), array("f", vals), strict=True)))
            for at, took, keys, vals in self._db.execute(
                "SELECT at, took, names, vals FROM point WHERE step = ? AND at > ? ORDER BY at", (step_s, since)
            )
        ]

    def _number(self, name: str) -> int | None:
        """Return the number of a name; None if there is no room for another one."""
        number = self._names.get(name)
        if number is None and len(self._names) < _MOST_NAMES:
            number = self._names[name] = max(self._names.values(), default=0) + 1
            self._db.execute("INSERT INTO name VALUES (?, ?)", (number, name))
        return number


def remove(folder: Path) -> None:
    """Delete the file; no process may have it open."""
    for suffix in ("", "-wal", "-shm"):
        (folder / f"{FILE_NAME}{suffix}").unlink(missing_ok=True)


class Ring(NamedTuple):
    """Points of one length.

    Args:
        step_s: length of a point, in seconds.
        kept_s: how long they are kept.
    """

    step_s: float
    kept_s: float


HOUR: Final = Ring(10.0, 3600.0)
RANGES: Final = {"hour": HOUR, "day": Ring(60.0, 86_400.0), "week": Ring(900.0, 604_800.0)}
_KEEP_S: Final = {ring.step_s: ring.kept_s + ring.step_s for ring in RANGES.values()}
#: Series that are 0 where a point has no value of them: what did not happen was not counted.
_COUNTED: Final = (":rate", ":refused", ":delivered", ":failed")
#: What is kept of subscribers when there are too many series, in this order.
_IMPORTANT: Final = ("failed", "lag", "delivered", "p99", "p50")
_MOST_PATTERNS: Final = 50

_log = structlog.get_logger("gateway.admin")


@dataclass(slots=True)
class _Point:
    """The present point of a ring."""

    at: float
    ends_at: float
    counted: Step = field(default_factory=lambda: Step(0.0))
    levels: dict[str, float] = field(default_factory=dict)

    def add(self, step: Step, levels: Mapping[str, float]) -> None:
        self.counted.add(step)
        for name, value in levels.items():
            if not math.isnan(value):
                self.levels[name] = max(value, self.levels.get(name, 0.0))


class History:
    """Keeps the points, and answers ``/api/history``.

    Args:
        folder: of the file; None: they are lost with the process.
        clock: Unix seconds.
    """

    def __init__(self, folder: Path | None, *, clock: Callable[[], float] = time.time) -> None:
        self._folder = folder
        self._clock = clock
        self._pool = ThreadPoolExecutor(1, "history")
        self._store: HistoryStore | None = None
        self._points: dict[Ring, _Point] = {}

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Register."""
        router.add_get("/api/history", self._answer)

    async def start(self) -> None:
        """Open the file. A file that cannot be used is no error: it is deleted, or everything stays in memory."""
        self._store = await self._in_pool(partial(_opened, self._folder))

    async def stop(self) -> None:
        """Store what is not stored, and close the file. May be called twice, or before the start."""
        if self._store is not None:
            await self._put()
            store, self._store = self._store, None
            await self._in_pool(store.close)
        self._pool.shutdown(wait=True)

    async def take(self, now: float, step: Step, levels: Mapping[str, float]) -> None:
        """Add one reading.

        Args:
            now: when it was taken, Unix seconds.
            step: what was counted since the one before.
            levels: measured values; not a number: not known.
        """
        hour = self._present(HOUR, now - step.took_s)
        hour.add(step, levels)
        if now >= hour.ends_at:
            await self._put()

    async def read(self, name: str, patterns: Sequence[str] = ()) -> dict[str, Any]:
        """Return the points of a range as columns.

        Args:
            name: of :data:`RANGES`.
            patterns: of names of series, such as ``subscriber:*:failed``; none: all.

        Raises:
            Transient: the file cannot be read now.
        """
        ring, now = RANGES[name], self._clock()
        if self._store is None:
            raise Transient("the charts are not open yet")
        try:
            rows = await self._in_pool(partial(self._store.read, ring.step_s, now - ring.kept_s))
        except sqlite3.Error as exc:
            await self._renew(exc)
            rows = []
        columns = await asyncio.to_thread(_columns, rows, ring.step_s, patterns)
        return {"range": name, "step_s": ring.step_s, "since": now - ring.kept_s, "until": now, **columns}

    async def _answer(self, request: web.Request) -> web.Response:
        name = Given(request.query).text("range") or "hour"
        if name not in RANGES:
            raise BadRequest(f"range: one of {', '.join(RANGES)} is needed")
        patterns = [one for one in request.query.get("series", "").split(",") if one]
        if len(patterns) > _MOST_PATTERNS:
            raise BadRequest(f"series: at most {_MOST_PATTERNS} names")
        return json_response(await self.read(name, patterns))

    def _present(self, ring: Ring, since: float) -> _Point:
        point = self._points.get(ring)
        if point is None:
            ends_at = (math.floor(since / ring.step_s) + 1) * ring.step_s
            point = self._points[ring] = _Point(since, ends_at)
        return point

    async def _put(self) -> None:
        """Add the point of the hour to those of day and week, and store all."""
        hour = self._points.pop(HOUR, None)
        if hour is None or self._store is None:
            return
        end = hour.at + hour.counted.took_s
        rows = [_row(HOUR, hour)]
        for ring in RANGES.values():
            if ring is HOUR:
                continue
            point = self._present(ring, hour.at)
            point.add(hour.counted, hour.levels)
            rows.append(_row(ring, point))
            if end >= point.ends_at:
                del self._points[ring]
        try:
            await self._in_pool(partial(self._store.put, rows, _KEEP_S))
        except sqlite3.OperationalError as exc:  # a full disk: the next one may fit
            _log.info("history.not_stored", error=str(exc))
        except sqlite3.Error as exc:
            await self._renew(exc)

    async def _renew(self, exc: sqlite3.Error) -> None:
        """Replace the file, which broke while it was open, by an empty one."""
        _log.warning("history.dropped", reason=redaction.fault(exc))
        store, self._store = self._store, None
        if store is not None:
            await self._in_pool(store.close)
        if self._folder is not None:
            await self._in_pool(partial(remove, self._folder))
        self._store = await self._in_pool(partial(_opened, self._folder))

    def _in_pool(self, work: Callable[[], _T]) -> asyncio.Future[_T]:
        return asyncio.get_running_loop().run_in_executor(self._pool, work)


def _opened(folder: Path | None) -> HistoryStore:
    try:
        return HistoryStore(folder)
    except sqlite3.OperationalError as exc:
        _log.warning(
            "history.in_memory", reason=str(exc), advice="charts are lost with each restart until it is repaired"
        )
    except sqlite3.DatabaseError as exc:
        assert folder is not None
        _log.warning("history.dropped", reason=str(exc))
        try:
            remove(folder)
            return HistoryStore(folder)
        except (OSError, sqlite3.Error) as again:
            _log.warning("history.in_memory", reason=redaction.fault(again))
    return HistoryStore(None)


def _row(ring: Ring, point: _Point) -> Row:
    values = series_of(point.counted) | point.levels
    if len(values) > MOST_SERIES:
        kept = sorted(values, key=lambda name: (_importance(name), -values[name], name))[:MOST_SERIES]
        values = {name: values[name] for name in kept}
    return Row(ring.step_s, point.at, point.counted.took_s, values)


def _importance(name: str) -> int:
    kind, _, rest = name.partition(":")
    what = rest.rpartition(":")[2]
    if kind != "subscriber":
        return 0 if kind != "topic" else len(_IMPORTANT)
    return _IMPORTANT.index(what) + 1 if what in _IMPORTANT else len(_IMPORTANT)


def _columns(rows: Sequence[Row], step_s: float, patterns: Sequence[str]) -> dict[str, Any]:
    """Return times and series; between two points with nothing between them there is a time without values."""
    times: list[float] = []
    places: list[int | None] = []
    for number, row in enumerate(rows):
        if times and row.at - times[-1] > step_s:
            times.append((times[-1] + row.at) / 2)
            places.append(None)
        times.append(row.at + row.took_s)
        places.append(number)
    names = {name for row in rows for name in row.values}
    wanted = sorted(name for name in names if not patterns or any(fnmatchcase(name, one) for one in patterns))
    series = {name: [_value(rows, place, name) for place in places] for name in wanted}
    return {"times": [round(at, 1) for at in times], "series": series}


def _value(rows: Sequence[Row], place: int | None, name: str) -> float | None:
    if place is None:
        return None
    value = rows[place].values.get(name)
    if value is None:
        return 0.0 if name.endswith(_COUNTED) else None
    return round(value, 6)
