"""How slow this machine is at this moment, for bars in seconds that hold on any machine, however busy.

A bar is a promise about the reference machine. Where a measurement exceeds it, a fixed piece of work is timed beside
it, and the measurement counts for as much less as that piece took longer than there. A faster machine changes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from gateway.ingest.bodies import without_collections

#: Seconds of :func:`_piece` on the reference machine, the best of many runs.
_REFERENCE_S: Final = 0.0009
#: The piece is short: of some runs the best, so that one disturbance does not excuse a measurement.
_PIECES: Final = 3
_DATA: Final = b"a=\xff1&" * 4000


def _piece() -> list[tuple[str, str]]:
    """Do what decoders do: cut bytes into pieces, call methods, make strings and tuples."""
    parts = (part.partition(b"=") for part in _DATA.split(b"&"))
    return [(name.decode(), value.decode("latin-1")) for name, _, value in parts]


def slowness(clock: Callable[[], float] = time.thread_time) -> float:
    """Return how many times longer than on the reference machine work takes now; at least 1.

    Args:
        clock: the one that the measurement used.
    """
    return max(1.0, min(_timed(_piece, clock) for _ in range(_PIECES)) / _REFERENCE_S)


def best(work: Callable[[], Any], most_s: float, *, runs: int = 5) -> float:
    """Return the CPU seconds of the best of some runs, as on the reference machine.

    Args:
        work: what is measured.
        most_s: the first run that is quicker ends them.
        runs: their number.
    """
    took = float("inf")
    for _ in range(runs):
        seconds = _timed(work, time.thread_time)
        took = min(took, seconds if seconds < most_s else seconds / slowness())
        if took < most_s:
            break
    return took


def _timed(work: Callable[[], Any], clock: Callable[[], float]) -> float:
    started = clock()
    without_collections(work)
    return clock() - started
