"""Appending parked events and dead letters, of which a log may refuse one for its size."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.errors import Poison
from gateway.log import Entry, EventLog


async def store(log: EventLog, forms: Sequence[Sequence[Entry]]) -> dict[int, str]:
    """Append one form of each event; return those that the log takes in no form, with its reason.

    All at once in the first form; where the log refuses that, each by itself in the first form that it takes.

    Args:
        forms: of each event, the largest first.

    Raises:
        NotNow: some may be stored; ask again, which stores them twice.
    """
    try:
        await log.append([each[0] for each in forms])
    except Poison:
        return {
            number: error for number, each in enumerate(forms) if (error := await _first_taken(log, each)) is not None
        }
    return {}


async def _first_taken(log: EventLog, forms: Sequence[Entry]) -> str | None:
    error = ""
    for form in forms:
        try:
            await log.append([form])
        except Poison as exc:
            error = str(exc)
        else:
            return None
    return error
