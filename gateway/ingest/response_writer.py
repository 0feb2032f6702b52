"""Serialise an answer exactly as aiohttp would write it; constant answers are serialised once a second."""

from __future__ import annotations

import time
from email.utils import formatdate
from http import HTTPStatus
from typing import Final

from gateway.callbacks.answers import Answer

#: Constant answers: a few words of success, each with and without ``Connection: close``.
_MOST_PREPARED: Final = 64
_CLOSE: Final = "Connection: close\r\n"


class ResponseWriter:
    """Serialises answers. Their date is the second of the call."""

    def __init__(self) -> None:
        self._second = 0
        self._date = ""
        self._prepared: dict[tuple[int, bool], tuple[Answer, bytes]] = {}

    def answer(self, answer: Answer, *, is_last: bool) -> bytes:
        """Return status line, headers and body.

        Args:
            answer: cached if it has no headers of its own.
            is_last: add ``Connection: close``.
        """
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._date = formatdate(second, usegmt=True)
            self._prepared.clear()
        if answer.headers:
            return self._made(answer, is_last)
        # Looked up by identity, as hashing an answer costs as much as writing it. The cache keeps the answer alive.
        prepared = self._prepared.get((id(answer), is_last))
        if prepared is None:
            prepared = (answer, self._made(answer, is_last))
            if len(self._prepared) < _MOST_PREPARED:
                self._prepared[id(answer), is_last] = prepared
        return prepared[1]

    def _made(self, answer: Answer, is_last: bool) -> bytes:
        more = "".join([f"{name}: {_one_line(value)}\r\n" for name, value in answer.headers])
        return (
            f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}\r\n"
            f"Content-Type: {answer.content_type}\r\nServer: gateway\r\n{more}"
            f"Content-Length: {len(answer.body)}\r\nDate: {self._date}\r\n"
            f"{_CLOSE if is_last else ''}\r\n"
        ).encode() + answer.body


def _one_line(value: str) -> str:
    """Return a header value that cannot become two headers.

    Raises:
        ValueError: the value contains a line end or NUL.
    """
    if "\r" in value or "\n" in value or "\0" in value:
        raise ValueError("a header value with a line end")
    return value
