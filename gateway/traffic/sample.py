"""One event of a type, for a person who wants to see what a subscriber receives: decoded from simulated traffic."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from random import Random
from typing import Final
from uuid import uuid4

from gateway.callbacks import CALLBACKS
from gateway.callbacks.callback import DecodeContext
from gateway.callbacks.payload import CallbackRequest
from gateway.errors import CallbackRejected
from gateway.event import Event
from gateway.traffic.simulator import requests

#: Requests of a callback that are looked at for a type; the rarest comes once in some dozens.
_DRAWN: Final = 400
#: Subject and key of a sample that no callback makes.
SUBJECT: Final = "test"


def sample(event_type: str, topic: str) -> Event:
    """Return an event of this type as a callback makes it, with an id of its own.

    A type that no simulated callback makes, such as one of another sender, has a small artificial ``data``.

    Args:
        event_type: such as ``nxcloud.sms.dr``.
        topic: of an event that no callback makes.
    """
    made = next(_made(event_type), None)
    if made is not None:
        return made._replace(id=uuid4().hex)
    now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    return Event(uuid4().hex, "/nxcloud/test", event_type, topic, SUBJECT, SUBJECT, now, now, {"test": True})


def _made(event_type: str) -> Iterator[Event]:
    rng = Random(event_type)
    for name, callback in CALLBACKS.items():
        if event_type not in callback.types:
            continue
        for one in islice(requests(name, rng, _now), _DRAWN):
            headers = {} if one.content_type is None else {"content-type": one.content_type}
            request = CallbackRequest("POST", f"/callbacks/{name}", one.query, headers, one.body, _now())
            try:
                decoded = callback.decode(request, DecodeContext())
            except CallbackRejected:
                continue
            yield from (event for event in decoded.events if event.type == event_type)


def _now() -> datetime:
    return datetime.now(UTC)
