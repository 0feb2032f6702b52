"""``/api/replay``: events are delivered again. A dry run counts and answers; the real thing is a job that is followed.

A replay is done when everything is stored for the subscriber; then it is delivered like all else. What was stored
when the process ends in between is delivered, too. What is known of all replays is in the log
(:mod:`gateway.fanout.replay_board`); the jobs of this process are here.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from typing import Any, Final

import structlog
from aiohttp import web

from gateway.admin import audit
from gateway.admin.dead_letters import state_of
from gateway.admin.parts import NotHere, Parts
from gateway.admin.responses import BadRequest, Given, NotFound, actor, body, json_response
from gateway.clock import SystemClock
from gateway.config.settings import Subscriber
from gateway.errors import GatewayError, NotNow, SenderError
from gateway.fanout.replay import Replayed, Selection, replay
from gateway.fanout.replay_board import ReplayBoard, ReplayState, ReplayStatus, number_of
from gateway.telemetry import redaction

#: Jobs at a time; each reads the log.
_MOST_RUNNING: Final = 4
#: A job looks so often whether a person has cancelled it.
_LOOK_S: Final = 0.2
_STOP_S: Final = 2.0
#: Around the time at which an event was stored, by the clocks of two machines.
_AROUND_S: Final = 120.0

_log = structlog.get_logger("gateway.admin")


class TooManyReplays(NotNow):
    """So many replays run already; wait for one to end."""


class NotPossible(SenderError):
    """The replay is not in a state in which this can be done."""

    status_hint = 409


class Replays:
    """Routes of this file, and the jobs."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._clock = SystemClock()
        self._tasks: set[asyncio.Task[None]] = set()

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Register."""
        router.add_post("/api/replay", self._replay)
        router.add_get("/api/replays", self._list)
        router.add_get("/api/replays/{number}", self._show)
        router.add_post("/api/replays/{number}/cancel", self._cancel)
        router.add_post("/api/replays/{number}/resume", self._resume)

    async def stop(self) -> None:
        """Stop the jobs; what they stored is delivered. May be called twice."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_STOP_S)

    async def _replay(self, request: web.Request) -> web.Response:
        given = await body(request)
        subscriber = self._subscriber(given.text("subscriber"))
        asked = _selection(given)
        rate = given.number("rate", low=0.001, high=1e6)
        audit.note(request, subject=subscriber.name)
        if given.flag("dry_run"):
            audit.skip(request)
            async with self._parts.scanning(f"replay.{subscriber.name}"):
                found = await self._run(subscriber, asked, rate, is_dry_run=True)
            return json_response({"subscriber": subscriber.name, "dry_run": True, **_counted(found)})
        # A replay that is resumed later must not find what came meanwhile.
        now = self._clock.now()
        asked = replace(asked, until=now if asked.until is None else min(now, asked.until))
        return json_response(_document(await self._begin(subscriber, asked, rate)), 202)

    async def _list(self, _: web.Request) -> web.Response:
        await self._board.known()
        return json_response({"replays": [_document(one) for one in self._board.replays()]})

    async def _show(self, request: web.Request) -> web.Response:
        return json_response(_document(await self._found(request)))

    async def _cancel(self, request: web.Request) -> web.Response:
        one = await self._found(request)
        if one.state == "cancelled":
            return json_response(_document(one))
        if one.state == "done" and not _waiting(one):
            raise NotPossible(f"{one.name} has ended: all of its {one.stored:,} events were delivered or given up")
        await self._board.cancel(one.number)
        one.state, one.ended_at = "cancelled", one.ended_at or self._clock.now()
        _log.info("replay.cancelled", number=one.number, subscriber=one.subscriber, by=actor(request))
        return json_response(_document(one))

    async def _resume(self, request: web.Request) -> web.Response:
        one = await self._found(request)
        if one.state not in ("cancelled", "interrupted", "failed"):
            raise NotPossible(f"{one.name} is {one.state}: there is nothing to resume")
        subscriber = self._subscriber(one.subscriber)
        return json_response(_document(await self._begin(subscriber, _left(one), one.rate_per_s, resumes=one)), 202)

    def _subscriber(self, name: str) -> Subscriber:
        subscriber = self._parts.subscriber(name)
        if subscriber.kind == "stream":
            raise NotHere(f"{subscriber.name} is a stream: its client reads again by connecting with Last-Event-ID")
        return subscriber

    async def _found(self, request: web.Request) -> ReplayStatus:
        given = request.match_info["number"]
        number = number_of(given)
        await self._board.known()
        found = None if number is None else self._board.get(number)
        if found is None:
            raise NotFound(f"there is no replay {given} any more")
        return found

    async def _narrowed(self, selection: Selection) -> Selection:
        """Return a selection of a few ids with the time range in which the index says they were stored."""
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

    async def _begin(
        self, subscriber: Subscriber, selection: Selection, rate: float | None, *, resumes: ReplayStatus | None = None
    ) -> ReplayStatus:
        if len(self._tasks) >= _MOST_RUNNING:
            raise TooManyReplays(f"{_MOST_RUNNING} replays run already")
        job = await self._board.begin(
            subscriber.name, selection.document(), rate, resumes=None if resumes is None else resumes.number
        )
        task = asyncio.create_task(self._work(job, subscriber, selection), name=f"replay-{job.number}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return job

    async def _work(self, job: ReplayStatus, subscriber: Subscriber, selection: Selection) -> None:
        _log.info("replay.started", number=job.number, subscriber=job.subscriber)
        state: ReplayState = "interrupted"
        error, found = "the gateway stops", Replayed()
        try:
            async with self._parts.scanning(f"replay.{subscriber.name}"):
                found = await self._until_cancelled(job, subscriber, selection)
            state, error = "done", ""
        except GatewayError as exc:
            state, error = "failed", str(exc)
        except Exception as exc:  # the top of a task
            state, error = "failed", "this is a fault of the gateway; its log has more"
            _log.exception("replay.broke", number=job.number, error=redaction.fault(exc))
        finally:
            await self._board.ended(job, state, stored=job.stored, error=error, found=_counted(found))
            _log.info("replay.ended", number=job.number, subscriber=job.subscriber, state=job.state, events=job.stored)

    async def _until_cancelled(self, job: ReplayStatus, subscriber: Subscriber, selection: Selection) -> Replayed:
        """Run it; return what it has found also when a person cancels it, in whichever process."""
        selection = await self._narrowed(selection)
        running = asyncio.create_task(self._run(subscriber, selection, job.rate_per_s, job=job))
        try:
            while not running.done() and not self._board.is_cancelled(job.number):
                await asyncio.wait([running], timeout=_LOOK_S)
            return running.result() if running.done() else Replayed()
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    async def _run(
        self,
        subscriber: Subscriber,
        selection: Selection,
        rate: float | None,
        *,
        is_dry_run: bool = False,
        job: ReplayStatus | None = None,
    ) -> Replayed:
        return await replay(
            self._parts.needed_log(),
            subscriber,
            selection if job is not None else await self._narrowed(selection),
            clock=self._clock,
            rate_per_s=rate,
            is_dry_run=is_dry_run,
            name="" if job is None else job.name,
            progress=None if job is None else partial(self._board.progress, job),
            on_stored=(lambda _, __: None) if job is None else job.advance,
        )

    @property
    def _board(self) -> ReplayBoard:
        return self._parts.needed_replays()


def _left(one: ReplayStatus) -> Selection:
    """Return what a replay has not done, for one that continues it.

    The copies that an interrupted replay stored are delivered, so it continues after them. The copies of a cancelled
    replay were withdrawn: it starts over, without the events that it delivered according to the record of attempts. For
    dead letters the record is not consulted: those that were delivered are no longer open.
    """
    selection = Selection.parse(one.selection)
    if one.state != "cancelled":
        return replace(selection, after={**selection.after, **one.positions})
    return selection if selection.is_from_dlq else replace(selection, delivered_by=selection.delivered_by | {one.name})


def _selection(given: Given) -> Selection:
    since = given.number("since")
    ids = frozenset(event_id.strip().lower() for event_id in given.texts("ids"))
    is_from_dlq = given.flag("from_dlq")
    reasons = given.texts("reasons")
    if since is None and not ids and not is_from_dlq:
        raise BadRequest("say what to replay: since, ids or from_dlq")
    if (reasons or given.text("state")) and not is_from_dlq:
        raise BadRequest("reasons and state are of dead letters: set from_dlq")
    return Selection(
        since=since or 0.0,
        until=given.number("until"),
        ids=ids,
        types=given.texts("types"),
        is_from_dlq=is_from_dlq,
        reasons=reasons,
        state=state_of(given.text("state")),
        is_filtered=not given.flag("all"),
        is_failed_only=given.flag("failed_only"),
    )


def _waiting(one: ReplayStatus) -> int:
    return max(0, one.stored - sum(one.count(what) for what in ("delivered", "given_up", "withdrawn")))


def _document(one: ReplayStatus) -> dict[str, Any]:
    has_ended = one.state != "running"
    return {
        "number": one.number,
        "name": one.name,
        "subscriber": one.subscriber,
        "state": one.state,
        "stored": one.stored,
        "delivered": one.count("delivered"),
        "given_up": one.count("given_up"),
        "withdrawn": one.count("withdrawn"),
        "waiting": _waiting(one),
        "events": one.stored if has_ended else None,
        "looked_at": one.found.get("looked_at"),
        "delivered_already": one.found.get("delivered_already"),
        "by_type": one.found.get("by_type", {}),
        "selection": one.selection,
        "rate": one.rate_per_s,
        "resumes": None if one.resumes is None else f"r-{one.resumes}",
        "error": one.error,
        "started_at": one.started_at,
        "ended_at": one.ended_at,
    }


def _counted(found: Replayed) -> dict[str, Any]:
    return {
        "events": found.events,
        "looked_at": found.looked_at,
        "delivered_already": found.delivered_already,
        "by_type": found.by_type,
    }
