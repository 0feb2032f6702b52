"""The one way to wait for what gives no signal: the state of another process, a file, an answer that has to change.

Where the code or a test's own part has an event or a condition, that is awaited instead. Where a test is about the time
that passes (a slow client, a subscriber that hangs, the rate of a load), :func:`pause` says so. Nothing else sleeps
(``tests/test_suite_rules.py``).
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable, Iterator
from itertools import chain, repeat
from typing import Final, TypeVar

Found = TypeVar("Found")
#: Between two looks: what is soon so is seen soon, and what takes long is not asked for often.
_LOOKS_S: Final = (0.001, 0.002, 0.005, 0.01, 0.02)


def _pauses(most_s: float) -> Iterator[float]:
    return chain((pause for pause in _LOOKS_S if pause < most_s), repeat(most_s))


async def until(look: Callable[[], Found | Awaitable[Found]], *, within_s: float = 60.0, look_s: float = 0.02) -> Found:
    """Look again and again until something is true, and return it.

    Args:
        look: what is asked for, or a coroutine of it. It counts when it is true.
        within_s: seconds until this is a failure.
        look_s: seconds between two looks, at most; for questions that cost their answerer something.

    Raises:
        TimeoutError: it was not true in time.
    """
    try:
        async with asyncio.timeout(within_s):
            for look_after_s in _pauses(look_s):
                found = look()
                value = await found if inspect.isawaitable(found) else found
                if value:
                    return value
                await asyncio.sleep(look_after_s)
    except TimeoutError as exc:
        raise TimeoutError(f"not within {within_s:g} s: {look}") from exc
    raise AssertionError  # the pauses have no end


def until_so(look: Callable[[], Found], *, within_s: float = 60.0, look_s: float = 0.02) -> Found:
    """Look again and again until something is true, and return it; holds up its thread.

    Args:
        look: what is asked for.
        within_s, look_s: see :func:`until`.

    Raises:
        TimeoutError: it was not true in time.
    """
    end = time.monotonic() + within_s
    for look_after_s in _pauses(look_s):
        if found := look():
            return found
        if time.monotonic() > end:
            break
        time.sleep(look_after_s)
    raise TimeoutError(f"not within {within_s:g} s: {look}")


async def turn(count: int = 1) -> None:
    """Let the loop do what is ready, so many turns of it."""
    for _ in range(count):
        await asyncio.sleep(0)


async def pause(seconds: float, why: str) -> None:
    """Let time pass where that is the scenario itself, and nothing is waited for.

    Args:
        seconds: how long.
        why: what takes so long, for whoever reads the test.
    """
    assert why
    await asyncio.sleep(seconds)


def hold_up(seconds: float, why: str) -> None:
    """As :func:`pause`, with the whole thread."""
    assert why
    time.sleep(seconds)
