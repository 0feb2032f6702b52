"""``/api/replay``: events are delivered again. A dry run counts and answers; the real thing is a job that is followed.

A replay is done when everything is stored for the subscriber; then it is delivered like all else. What was stored
when the process ends in between is delivered, too.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

import structlog
from aiohttp import web

from gateway.admin import answers, audit
from gateway.admin.answers import BadRequest, NotFound, answer
from gateway.admin.parts import NotHere, Parts
from gateway.clock import SystemClock
from gateway.config.settings import Subscriber
from gateway.errors import GatewayError, NotNow
from gateway.fanout.replay import Replayed, Selection, replay
from gateway.telemetry import redaction

#: Jobs at a time; each reads the log.
_MOST_RUNNING: Final = 4
#: Ended jobs that are still told of.
_KEPT: Final = 50
_FIELDS: Final = frozenset(
    {"subscriber", "since", "until", "ids", "types", "from_dlq", "reasons", "all", "dry_run", "rate"}
)
#: Around the time at which an event was stored, by the clocks of two machines.
_AROUND_S: Final = 120.0

_log = structlog.get_logger("gateway.admin")


class TooManyReplays(NotNow):
    """So many replays run already; wait for one to end."""


@dataclass(slots=True)
class Job:
    """One replay."""

    number: int
    subscriber: str
    selection: Selection
    rate_per_s: float | None
    state: Literal["running", "done", "failed", "stopped"] = "running"
    stored: int = 0
    found: Replayed | None = None
    error: str = ""
    started_at: float = field(default_factory=time.time)
    ended_at: float | None = None

    def count_stored(self, events: int) -> None:
        """So many more events are stored for the subscriber."""
        self.stored += events

    def told(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "number": self.number,
            "subscriber": self.subscriber,
            "state": self.state,
            "stored": self.stored,
            **_counted(self.found),
            "rate": self.rate_per_s,
            "error": self.error,
            "started_at": self.started_at,
            "ended_at": self.ended_at,
        }


class Replays:
    """Routes of this file, and the jobs."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._clock = SystemClock()
        self._jobs: deque[Job] = deque(maxlen=_KEPT)
        self._tasks: set[asyncio.Task[None]] = set()
        self._next = 1

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Register."""
        router.add_post("/api/replay", self._replay)
        router.add_get("/api/replays", self._list)
        router.add_get("/api/replays/{number}", self._show)

    async def stop(self) -> None:
        """Stop the jobs; what they stored is delivered. May be called twice."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _replay(self, request: web.Request) -> web.Response:
        given = await answers.body(request, _FIELDS)
        subscriber = self._parts.subscriber(answers.text(given.get("subscriber"), "subscriber"))
        if subscriber.kind == "stream":
            raise NotHere(f"{subscriber.name} is a stream: its client reads again by connecting with Last-Event-ID")
        selection = await self._narrowed(_selection(given))
        rate = answers.number(given.get("rate"), "rate", low=0.001, high=1e6)
        audit.note(request, subject=subscriber.name)
        if answers.flag(given.get("dry_run"), "dry_run"):
            audit.skip(request)
            async with self._parts.scanning(f"replay.{subscriber.name}"):
                found = await self._run(subscriber, selection, rate, is_dry_run=True)
            return answer({"subscriber": subscriber.name, "dry_run": True, **_counted(found)})
        return answer(self._begin(subscriber, selection, rate).told(), 202)

    async def _list(self, _: web.Request) -> web.Response:
        return answer({"replays": [job.told() for job in reversed(self._jobs)]})

    async def _show(self, request: web.Request) -> web.Response:
        number = request.match_info["number"]
        for job in self._jobs:
            if str(job.number) == number:
                return answer(job.told())
        raise NotFound(f"there is no replay {number} any more")

    async def _narrowed(self, selection: Selection) -> Selection:
        """A few ids need not be looked for in the whole log where the index knows when they were stored."""
        search = self._parts.search
        if search is None or selection.is_from_dlq or not 0 < len(selection.ids) <= 100:
            return selection
        records = [await search.event(event_id) for event_id in selection.ids]
        stored = [record.appended_at for record in records if record is not None]
        if len(stored) < len(records):
            return selection
        since = max(selection.since, min(stored) - (_AROUND_S if not self._parts.is_embedded else 0.0))
        until = max(stored) + 0.001 if self._parts.is_embedded else None
        return replace(
            selection, since=since, until=until if selection.until is None else min(selection.until, until or 1e11)
        )

    def _begin(self, subscriber: Subscriber, selection: Selection, rate: float | None) -> Job:
        if len(self._tasks) >= _MOST_RUNNING:
            raise TooManyReplays(f"{_MOST_RUNNING} replays run already")
        job = Job(self._next, subscriber.name, selection, rate)
        self._next += 1
        self._jobs.append(job)
        task = asyncio.create_task(self._work(job, subscriber), name=f"replay-{job.number}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return job

    async def _work(self, job: Job, subscriber: Subscriber) -> None:
        job.state = "stopped"  # unless it gets to its end
        _log.info("replay.started", number=job.number, subscriber=job.subscriber)
        try:
            job.state = "running"
            async with self._parts.scanning(f"replay.{subscriber.name}"):
                job.found = await self._run(subscriber, job.selection, job.rate_per_s, job=job)
            job.state = "done"
        except asyncio.CancelledError:
            job.state = "stopped"
            raise
        except GatewayError as exc:
            job.state, job.error = "failed", str(exc)
        except Exception as exc:  # the top of a task
            job.state, job.error = "failed", "this is a fault of the gateway; its log has more"
            _log.exception("replay.broke", number=job.number, error=redaction.fault(exc))
        finally:
            job.ended_at = time.time()
            _log.info("replay.ended", number=job.number, subscriber=job.subscriber, state=job.state, events=job.stored)

    async def _run(
        self,
        subscriber: Subscriber,
        selection: Selection,
        rate: float | None,
        *,
        is_dry_run: bool = False,
        job: Job | None = None,
    ) -> Replayed:
        return await replay(
            self._parts.needed_log(),
            subscriber,
            selection,
            clock=self._clock,
            rate_per_s=rate,
            is_dry_run=is_dry_run,
            silence_s=self._parts.silence_s,
            on_stored=None if job is None else job.count_stored,
        )


def _selection(given: dict[str, Any]) -> Selection:
    since = answers.number(given.get("since"), "since")
    ids = frozenset(event_id.strip().lower() for event_id in answers.texts(given.get("ids"), "ids"))
    is_from_dlq = answers.flag(given.get("from_dlq"), "from_dlq")
    reasons = answers.texts(given.get("reasons"), "reasons")
    if since is None and not ids and not is_from_dlq:
        raise BadRequest("say what to replay: since, ids or from_dlq")
    if reasons and not is_from_dlq:
        raise BadRequest("reasons are of dead letters: set from_dlq")
    return Selection(
        since=since or 0.0,
        until=answers.number(given.get("until"), "until"),
        ids=ids,
        types=answers.texts(given.get("types"), "types"),
        is_from_dlq=is_from_dlq,
        reasons=reasons,
        is_filtered=not answers.flag(given.get("all"), "all"),
    )


def _counted(found: Replayed | None) -> dict[str, Any]:
    by_type: Counter[str] = Counter() if found is None else found.by_type
    return {
        "events": None if found is None else found.events,
        "looked_at": None if found is None else found.looked_at,
        "by_type": by_type,
    }
