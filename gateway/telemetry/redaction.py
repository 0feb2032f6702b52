"""What of a sender's values may be shown in a log line or a metric label: what looks like a code, and nothing else.

A platform puts phone numbers, e-mail addresses and message texts into any field, names of fields included. So each
value of a sender that is logged passes :func:`code`, :func:`path` or :func:`event_id`; the message of an exception that
is not ours passes :func:`scrubbed`. What is hidden is shown by its kind and length: ``status:<number, 13 characters>``.

The event itself, ``callbacks.rejected`` and the answer to the sender are no log: they keep the value.
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

#: Characters of a code. Twice as many hold a short text message without spaces, half as many cut codes of today.
_MOST_CHARACTERS: Final = 40
#: Characters of a path of field names: some nested codes.
_MOST_PATH_CHARACTERS: Final = 120
_CODE: Final = re.compile(r"[A-Za-z0-9_.:-]+")
#: Six digits or more, with single separators between them: a phone number, in any way of writing it.
_MANY_DIGITS: Final = re.compile(r"\d(?:[ ._:()/-]{0,2}\d){5}")
_SEPARATOR: Final = re.compile(r"([./]|\[\d{0,5}\])")
_NUMBER: Final = re.compile(r"(?=\D*\d)[\d +().,/-]+")
_EVENT_ID: Final = re.compile(r"[0-9a-f]{32}")
_QUOTED: Final = re.compile(r"""(?<!\w)(?:b|r)?(?P<quote>['"])(?P<text>.*?)(?P=quote)(?!\w)""", re.DOTALL)
_PERSONAL: Final = re.compile(r"(?<!\S)\S*@\S*|\+?\d(?:[ ._:()/-]{0,2}\d){5,}|[^\x00-\x7f]+")
#: Errors whose messages are made of our own words, of names of files and of SQL.
_TRUSTED: Final = (GatewayError, OSError, sqlite3.Error)
#: Exceptions of one chain that are shown.
_MOST_CAUSES: Final = 10


def code(value: str) -> str:
    """Return a value of a sender if it looks like a code, else its kind and length."""
    if len(value) <= _MOST_CHARACTERS and _CODE.fullmatch(value) and not _MANY_DIGITS.search(value):
        return value
    return _hidden(value)


def path(value: str) -> str:
    """Return a path of names that a sender may have chosen, such as ``statuses[0].id``, with each name by itself."""
    if len(value) > _MOST_PATH_CHARACTERS or _MANY_DIGITS.search(value):
        return _hidden(value)
    parts = _SEPARATOR.split(value)  # every other one is a separator
    return "".join(part if at % 2 or not part else code(part) for at, part in enumerate(parts))


def event_id(value: str) -> str:
    """Return the id of an event: one of ours as it is, one of another producer of the topic as :func:`code` has it."""
    return value if _EVENT_ID.fullmatch(value) else code(value)


def fault(exc: BaseException) -> str:
    """Return the type and the message of an exception, without values of a sender.

    The message of an exception that is not ours may quote a value (``KeyError: '+62811…'``).
    """
    message = str(exc) if isinstance(exc, _TRUSTED) else scrubbed(str(exc))
    return f"{type(exc).__name__}: {message}" if message else type(exc).__name__


def scrubbed(text: str) -> str:
    """Return a text without what may be a sender's: quoted values, addresses, long numbers, other scripts."""
    text = _QUOTED.sub(lambda found: f"'{path(found['text'])}'", text)
    return _PERSONAL.sub(lambda found: _hidden(found[0]), text)


def trace(exc_info: ExcInfo) -> str:
    """Return the stack trace of an exception and its causes: lines of code, no locals, messages as :func:`fault`."""
    chain = list(_causes(exc_info[1]))
    shown = []
    for exc, tb in reversed(chain):
        frames = "".join(traceback.format_tb(tb))
        shown.append(f"Traceback (most recent call last):\n{frames}{fault(exc)}")
    return "\n\nThis led to:\n\n".join(shown)


def _causes(exc: BaseException) -> Iterator[tuple[BaseException, TracebackType | None]]:
    """An exception, what it was raised from, and so on."""
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
