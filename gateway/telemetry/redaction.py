"""Redact a sender's values for log lines and metric labels: only values that look like a code are shown.

A platform may put phone numbers, e-mail addresses and message texts into any field, names of fields included. Therefore
each logged value of a sender passes :func:`code`, :func:`path` or :func:`event_id`, and the message of a foreign
exception passes :func:`scrubbed`. A hidden value is replaced by its kind and length:
``status:<number, 13 characters>``.

The event, ``callbacks.rejected`` and the answer to the sender are not logs and keep the value.
"""

from __future__ import annotations

import re
import sqlite3
import traceback
from collections.abc import Iterator
from types import TracebackType
from typing import Final

from gateway.errors import GatewayError

ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]

#: Characters of a code. Twice as many would admit a short message without spaces; half as many would hide known codes.
_MOST_CHARACTERS: Final = 40
#: Characters of a path of field names, which consists of some nested codes.
_MOST_PATH_CHARACTERS: Final = 120
_CODE: Final = re.compile(r"[A-Za-z0-9_.:-]+")
#: Six or more digits, with separators between them: a phone number in any notation.
_MANY_DIGITS: Final = re.compile(r"\d(?:[ ._:()/-]{0,2}\d){5}")
_SEPARATOR: Final = re.compile(r"([./]|\[\d{0,5}\])")
_NUMBER: Final = re.compile(r"(?=\D*\d)[\d +().,/-]+")
_EVENT_ID: Final = re.compile(r"[0-9a-f]{32}")
_QUOTED: Final = re.compile(r"""(?<!\w)(?:b|r)?(?P<quote>['"])(?P<text>.*?)(?P=quote)(?!\w)""", re.DOTALL)
_PERSONAL: Final = re.compile(r"(?<!\S)\S*@\S*|\+?\d(?:[ ._:()/-]{0,2}\d){5,}|[^\x00-\x7f]+")
#: Errors whose messages consist of the gateway's words, names of files and SQL.
_TRUSTED: Final = (GatewayError, OSError, sqlite3.Error)
#: Exceptions of a chain in a trace, at most.
_MOST_CAUSES: Final = 10


def code(value: str) -> str:
    """Return a sender's value if it looks like a code, otherwise its kind and length."""
    if len(value) <= _MOST_CHARACTERS and _CODE.fullmatch(value) and not _MANY_DIGITS.search(value):
        return value
    return _hidden(value)


def path(value: str) -> str:
    """Return a path of names, such as ``statuses[0].id``, with each name redacted separately."""
    if len(value) > _MOST_PATH_CHARACTERS or _MANY_DIGITS.search(value):
        return _hidden(value)
    parts = _SEPARATOR.split(value)  # every other one is a separator
    return "".join(part if at % 2 or not part else code(part) for at, part in enumerate(parts))


def event_id(value: str) -> str:
    """Return the id of an event: a gateway's id unchanged, another producer's id redacted as by :func:`code`."""
    return value if _EVENT_ID.fullmatch(value) else code(value)


def fault(exc: BaseException) -> str:
    """Return type and message of an exception, without values of a sender.

    The message of a foreign exception may quote a value (``KeyError: '+62811…'``).
    """
    message = str(exc) if isinstance(exc, _TRUSTED) else scrubbed(str(exc))
    return f"{type(exc).__name__}: {message}" if message else type(exc).__name__


def scrubbed(text: str) -> str:
    """Return a text without possible values of a sender: quoted values, addresses, long numbers, other scripts."""
    text = _QUOTED.sub(lambda found: f"'{path(found['text'])}'", text)
    return _PERSONAL.sub(lambda found: _hidden(found[0]), text)


def trace(exc_info: ExcInfo) -> str:
    """Return the stack trace of an exception and its causes, without locals, with messages as by :func:`fault`."""
    chain = list(_causes(exc_info[1]))
    shown = []
    for exc, tb in reversed(chain):
        frames = "".join(traceback.format_tb(tb))
        shown.append(f"Traceback (most recent call last):\n{frames}{fault(exc)}")
    return "\n\nThis led to:\n\n".join(shown)


def _causes(exc: BaseException) -> Iterator[tuple[BaseException, TracebackType | None]]:
    current: BaseException | None = exc
    for _ in range(_MOST_CAUSES):
        if current is None:
            return
        yield current, current.__traceback__
        is_hidden = current.__suppress_context__
        current = current.__cause__ or (None if is_hidden else current.__context__)


def _hidden(value: str) -> str:
    kind = "number" if _NUMBER.fullmatch(value) else "text"
    return f"<{kind}, {len(value)} characters>"
