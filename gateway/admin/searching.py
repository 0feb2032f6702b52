"""``/api/search`` over several workers: each has the events of its own journal; the answer is of all, newest first.

The place of the next page is one of each worker, ``0:128,2:77``: events below offset 128 of worker 0 and below 77 of
worker 2 have not been seen; a worker that is not named has no more. Where a worker gave up looking half-way (it
looks at some thousand records for one page), its older events may stand on a later page than their time says.
"""

from __future__ import annotations

import asyncio
import heapq
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson
from aiohttp import web
from multidict import MultiDict

from gateway.admin import answers
from gateway.admin.answers import BadRequest
from gateway.admin.worker import Worker, WorkerAway, passed
from gateway.errors import NotNow

_PLACE: Final = re.compile(r"^[0-9]{1,4}:[0-9]{1,14}(,[0-9]{1,4}:[0-9]{1,14})*$")
_LIMIT: Final = 50


@dataclass(frozen=True, slots=True)
class Page:
    """What one worker found.

    Args:
        events: newest first, each with its ``offset`` and ``stored_at``.
        next: its own place of the next page; None when there is nothing more.
    """

    events: Sequence[Mapping[str, Any]]
    next: int | None


def merged(pages: Mapping[int, Page], limit: int) -> tuple[list[Mapping[str, Any]], str | None]:
    """The newest events of all pages, and the place of the next page; None when there is nothing more."""
    rows = [[(event, number) for event in page.events] for number, page in pages.items()]
    newest = list(heapq.merge(*rows, key=lambda row: row[0]["stored_at"], reverse=True))
    places: dict[int, int] = {number: page.next for number, page in pages.items() if page.next is not None}
    for event, number in reversed(newest[limit:]):
        # Not shown yet; the newest of them comes last and says where to go on.
        places[number] = event["offset"] + 1
    text = ",".join(f"{number}:{place}" for number, place in sorted(places.items()))
    return [event for event, _ in newest[:limit]], text or None


def parse(place: str) -> dict[int, int]:
    """Places by worker, from what :func:`merged` gave.

    Raises:
        BadRequest: it is none of ours.
    """
    if not _PLACE.match(place):
        raise BadRequest("before: it is not a place that a search of several workers gave")
    return {int(number): int(offset) for number, _, offset in (part.partition(":") for part in place.split(","))}


async def search(workers: Sequence[Worker], request: web.Request) -> web.StreamResponse:
    """Ask all that may have something; ``away`` names those that did not answer.

    Raises:
        BadRequest: a parameter cannot be used.
        NotNow: no worker answers.
    """
    given = MultiDict(request.query)
    limit = answers.whole(given.get("limit"), "limit", _LIMIT, high=500)
    before = given.popone("before", "")
    places: Mapping[int, int | None] = parse(before) if before else {worker.number: None for worker in workers}
    asked = [worker for worker in workers if worker.number in places]
    paths = [_path(request, given, places[worker.number]) for worker in asked]
    found = await asyncio.gather(
        *(worker.ask(request, path, is_plain=True) for worker, path in zip(asked, paths, strict=True)),
        return_exceptions=True,
    )
    pages: dict[int, Page] = {}
    lag = 0
    for worker, got in zip(asked, found, strict=True):
        if isinstance(got, WorkerAway):
            continue
        if isinstance(got, BaseException):
            raise got
        if got.status != 200:  # a parameter or a token that is wrong is so for each
            return await passed(request, got)
        document = orjson.loads(await got.read())
        pages[worker.number] = Page(document["events"], document["next"])
        lag += document["lag"]
    if asked and not pages:
        raise NotNow("no worker answers; see the log lines worker.died and what they said before")
    events, following = merged(pages, limit)
    away = [worker.number for worker in asked if worker.number not in pages]
    return answers.answer({"events": events, "next": following, "lag": lag, "away": away})


def _path(request: web.Request, query: MultiDict[str], place: int | None) -> str:
    more = {} if place is None else {"before": str(place)}
    return request.rel_url.with_query([*query.items(), *more.items()]).raw_path_qs
