"""Subscribers in a process of their own, which write down each request: who, which event, from when to when.

``POST /<name>`` with an event whose subject is ``n-<number>`` is an attempt to deliver event ``number`` to the
subscriber ``name``. It is answered 200 after a delay, or refused, as :class:`Receiver` was asked to.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import re
import time
from array import array
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any, Final, NamedTuple, Self, cast

import uvloop

_NUMBER: Final = re.compile(rb'"subject":"n-(\d+)"')
_LENGTH: Final = b"content-length:"
_ACCEPTED: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
_REFUSED: Final = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"


class Attempt(NamedTuple):
    """One request that was answered 200, or cut off by its sender before that.

    Args:
        number: of the event.
        begun: monotonic time at which the request was complete.
        ended: monotonic time of the answer, or of the end of the connection.
    """

    number: int
    begun: float
    ended: float


@dataclass(slots=True)
class _Subscriber:
    """What one subscriber has got, and how it answers."""

    delay_s: float = 0.0
    is_down: bool = False
    numbers: array[int] = field(default_factory=lambda: array("I"))
    begun: array[float] = field(default_factory=lambda: array("d"))
    ended: array[float] = field(default_factory=lambda: array("d"))
    distinct: set[int] = field(default_factory=set)
    refused: int = 0

    def note(self, number: int, begun: float) -> None:
        self.numbers.append(number)
        self.begun.append(begun)
        self.ended.append(time.monotonic())
        self.distinct.add(number)


class Receiver:
    """Subscribers that listen on one port, inside ``with``.

    Args:
        delays_s: how long a subscriber takes to answer, by name; others answer at once.
    """

    def __init__(self, delays_s: Mapping[str, float] | None = None) -> None:
        self._pipe, theirs = multiprocessing.Pipe()
        self._process = multiprocessing.get_context("spawn").Process(
            target=_receive, args=(theirs, dict(delays_s or {})), daemon=True
        )
        self.port = 0

    def __enter__(self) -> Self:
        self._process.start()
        self.port = self._pipe.recv()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.join()

    def url(self, name: str) -> str:
        """Return the address of a subscriber."""
        return f"http://127.0.0.1:{self.port}/{name}"

    def row(self, name: str, **settings: Any) -> dict[str, Any]:
        """Return a row of ``subscribers`` in the configuration."""
        return {
            "name": name,
            "topics": ["sms.dr"],
            "url": self.url(name),
            "allow_private": True,
            "start": "earliest",
            **settings,
        }

    def set_down(self, name: str, is_down: bool) -> None:
        """Have a subscriber refuse all events from now on, or none."""
        self._ask(("down", name, is_down))

    def counts(self) -> dict[str, int]:
        """Return how many events each subscriber has accepted, repeats not counted."""
        return cast("dict[str, int]", self._ask(("counts",)))

    def attempts(self, name: str) -> list[Attempt]:
        """Return what a subscriber has accepted, in the order of the answers."""
        return [Attempt(*one) for one in zip(*self._ask(("attempts", name)), strict=True)]

    def _ask(self, question: tuple[Any, ...]) -> Any:
        self._pipe.send(question)
        return self._pipe.recv()


class _Connection(asyncio.Protocol):
    """Finds the end of each request; a sender has one under way on a connection."""

    def __init__(self, subscribers: dict[str, _Subscriber]) -> None:
        self._subscribers = subscribers
        self._buffer = b""
        self._cut: dict[asyncio.TimerHandle, tuple[_Subscriber, int, float]] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by class

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end].lower()
            at = head.index(_LENGTH) + len(_LENGTH)
            whole = end + 4 + int(head[at:].split(b"\r\n", 1)[0])
            if len(self._buffer) < whole:
                return
            request, self._buffer = self._buffer[:whole], self._buffer[whole:]
            self._answer(request)

    def connection_lost(self, exc: Exception | None) -> None:
        for timer, attempt in self._cut.items():
            timer.cancel()
            attempt[0].note(*attempt[1:])

    def _answer(self, request: bytes) -> None:
        name = request.split(b" ", 2)[1].removeprefix(b"/").decode()
        found = _NUMBER.search(request)
        assert found is not None
        subscriber = self._subscribers.setdefault(name, _Subscriber())
        if subscriber.is_down:
            subscriber.refused += 1
            self._transport.write(_REFUSED)
            return
        number, begun = int(found[1]), time.monotonic()
        if not subscriber.delay_s:
            subscriber.note(number, begun)
            self._transport.write(_ACCEPTED)
            return

        def accept() -> None:
            del self._cut[timer]
            subscriber.note(number, begun)
            self._transport.write(_ACCEPTED)

        timer = asyncio.get_running_loop().call_later(subscriber.delay_s, accept)
        self._cut[timer] = (subscriber, number, begun)


def _receive(pipe: Connection, delays_s: dict[str, float]) -> None:
    subscribers = {name: _Subscriber(delay_s=delay_s) for name, delay_s in delays_s.items()}

    def answer() -> None:
        with suppress(EOFError):
            match pipe.recv():
                case ("down", name, is_down):
                    subscribers.setdefault(name, _Subscriber()).is_down = is_down
                    pipe.send(None)
                case ("counts",):
                    pipe.send({name: len(one.distinct) for name, one in subscribers.items()})
                case ("attempts", name):
                    one = subscribers.get(name, _Subscriber())
                    pipe.send((one.numbers, one.begun, one.ended))

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _Connection(subscribers), "127.0.0.1", 0, backlog=4096)
        loop.add_reader(pipe.fileno(), answer)
        os.set_blocking(pipe.fileno(), True)  # uvloop changes that; an answer may be larger than the pipe
        pipe.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    uvloop.run(serve())
