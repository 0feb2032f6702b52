"""How far subscribers are behind: asked now and then, known until it is not.

No caller waits for the log for longer than :data:`PATIENCE_S`: the query continues in the background, and until it is
answered the lag is reported as unknown, with its last known value. The interval between queries follows from how long
the log takes to answer: queries take a hundredth of the time without viewers, a twentieth with viewers, within bounds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

import structlog

from gateway.errors import GatewayError
from gateway.telemetry import redaction

#: Answers of the admin port come within 2 s.
PATIENCE_S: Final = 1.5
#: What is younger is not asked again.
_FRESH_S: Final = 1.0
#: While a question waits for its answer, the one before is believed for so long. At a tenth a broker that is busy for a
#: moment would make all lags unknown; at ten times an outage would look well for minutes.
_STALE_S: Final = 10.0
#: Between answers and the next question: so many times what the last one took, and at most so many seconds.
_PAUSE: Final = (100.0, 60.0)
_PAUSE_LOOKED_AT: Final = (20.0, 5.0)

_log = structlog.get_logger("gateway.admin")


@dataclass(frozen=True, slots=True)
class Lag:
    """Of one subscriber.

    Args:
        records: None when it is not known now.
        reason: why it is not; empty when it is.
        last: what was known last; None when nothing ever was.
        last_at: when that was true, Unix seconds.
    """

    records: int | None
    reason: str = ""
    last: int | None = None
    last_at: float | None = None


class Lags:
    """Keeps what was answered.

    Args:
        ask: returns the lag of each subscriber, None where it is not known; may raise ``GatewayError``.
        who: who is asked, as a sentence begins.
        clock: Unix seconds.
    """

    def __init__(
        self,
        ask: Callable[[], Awaitable[Mapping[str, int | None]]],
        who: str,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._ask = ask
        self._who = who
        self._clock = clock
        self._answer: Mapping[str, int | None] = {}
        self._last: dict[str, tuple[int, float]] = {}
        self._failure = ""
        self._answered_at = float("-inf")
        self._began_at = float("-inf")
        self._took_s = 0.0
        self._asking: asyncio.Task[None] | None = None

    async def look(self, *, for_somebody: bool = True, patience_s: float = PATIENCE_S) -> None:
        """Ask if it is time; wait for the answer so long.

        Args:
            for_somebody: a person or a program waits for it; otherwise it is for the chart only.
        """
        if self._asking is None:
            times, most_s = _PAUSE_LOOKED_AT if for_somebody else _PAUSE
            age_s = self._clock() - self._answered_at
            if age_s < max(_FRESH_S, min(self._took_s * times, most_s)) and not self._failure:
                return
            self._began_at = self._clock()
            self._asking = asyncio.create_task(self._run(), name="admin-lags")
        await asyncio.wait([self._asking], timeout=patience_s)

    def of(self, name: str) -> Lag:
        """Return what is known of one subscriber."""
        last, last_at = self._last.get(name, (None, None))
        if reason := self._why_unknown(name):
            return Lag(None, reason, last, last_at)
        return Lag(self._answer[name], "", last, last_at)

    def _why_unknown(self, name: str) -> str:
        if self._failure:
            return self._failure
        now = self._clock()
        if now - self._answered_at > _STALE_S and (self._asking is not None or not self._answer):
            return f"{self._who} has given no answer for {max(0.0, now - self._began_at):.0f} s"
        if self._answer.get(name) is None:
            return "no process has begun to read its topics, or they do not exist"
        return ""

    async def stop(self) -> None:
        """End a question that is under way."""
        asking, self._asking = self._asking, None
        if asking is not None:
            asking.cancel()
            await asyncio.wait([asking])

    async def _run(self) -> None:
        began = time.monotonic()
        try:
            answer = await self._ask()
        except GatewayError as exc:
            self._failure = str(exc)
        except Exception as exc:  # the top of a task
            self._failure = f"{self._who} could not be asked: a fault of the gateway, see its log"
            _log.exception("admin.lag_unknown", error=redaction.fault(exc))
        else:
            self._answer, self._failure, self._answered_at = answer, "", self._began_at
            self._last |= {name: (records, self._began_at) for name, records in answer.items() if records is not None}
        finally:
            self._took_s, self._asking = time.monotonic() - began, None
