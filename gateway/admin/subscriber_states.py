"""The lag of each subscriber, and its state in one word, for page, commands, API and metric.

Lag. No caller waits for the log for longer than :data:`PATIENCE_S`: the query continues in the background, and until
it is answered the lag is reported as unknown, with its last known value. The interval between queries follows from how
long the log takes to answer: queries take a hundredth of the time without viewers, a twentieth with viewers, within
bounds.

State. :func:`subscriber_state` is pure.

===========  ===================================================================================================
stopped      it answered 410: it wants no more events
paused       an operator paused it
down         most of its attempts failed, so that its breaker is open; events wait in the log
degraded     it was down, and no event has come since that shows whether it is back; it has open dead letters;
             its oldest waiting event is older than :data:`BEHIND_S`; or many attempts of the last minute failed
unknown      ``None`` here and ``null`` in JSON: something that decides between the others is not known
healthy      none of these
===========  ===================================================================================================

The first that holds counts. Each process that delivers has a breaker of its own for each subscriber; a pause, and a
stop by a 410, hold in all. The processes of this machine give their statuses in their reports; those of other machines
write theirs to the topic of states when they change. The worst counts, because events of that process's partitions
wait. The words of a breaker (closed, open, half_open) do not leave the gateway. While a probe is in progress the state
stays ``down``: it would change twice with each probe otherwise.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

import structlog

from gateway.errors import GatewayError
from gateway.fanout.flow_control import PersistentState, Status
from gateway.fanout.reader import SubscriberStatus
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
    """The lag of one subscriber.

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


State = Literal["healthy", "degraded", "down", "paused", "stopped"]
STATES: Final[tuple[State, ...]] = get_args(State)

#: Normal delays of a webhook are seconds. A tenth would report each burst; ten times as much hides ten minutes.
BEHIND_S: Final = 60.0
#: Below this share of successful attempts single events are at fault, or the subscriber is about to be down.
_FAILING_SHARE: Final = 0.95
_NO_LAG: Final = Lag(0)


@dataclass(frozen=True, slots=True)
class Facts:
    """Facts about one subscriber that determine its state.

    Args:
        statuses: in each process of this machine that delivers to it; empty if none does.
        silent: names of processes of this machine that deliver and do not answer.
        kept: what the processes of all machines have written; None if that cannot be read.
        lag: records that are not committed yet.
        open_dead_letters: None if they are not counted yet.
        success_share: of the attempts of the last minute, 0 to 1; None if there was none.
    """

    statuses: Sequence[SubscriberStatus] = ()
    silent: Sequence[str] = ()
    kept: PersistentState | None = None
    lag: Lag = _NO_LAG
    open_dead_letters: int | None = 0
    success_share: float | None = None


@dataclass(frozen=True, slots=True)
class SubscriberState:
    """One subscriber, all processes together as far as they are known.

    Args:
        state: None if it is not known.
        reason: one sentence for a person.
        since: Unix seconds; None if it was so when this process first looked.
        in_flight: attempts in progress on this machine; None if none of its processes delivers.
    """

    state: State | None
    reason: str
    since: float | None = None
    in_flight: int | None = None


def subscriber_state(facts: Facts, now: float, before: SubscriberState | None = None) -> SubscriberState:
    """Return the state of a subscriber.

    Args:
        facts: what is known of it now.
        now: Unix seconds.
        before: what this function returned for it last; None at first.
    """
    state, reason = _word(facts, now)
    in_flight = sum(one.in_flight for one in facts.statuses) if facts.statuses else None
    return SubscriberState(state, reason, _since(state, facts, now, before), in_flight)


def _word(facts: Facts, now: float) -> tuple[State | None, str]:
    kept = facts.kept or PersistentState()
    breakers = {_breaker(one) for one in facts.statuses}
    if stopped := kept.stopped or next((one.stopped for one in facts.statuses if one.stopped), ""):
        return "stopped", f"The subscriber wants no more events ({stopped}); resume it when it is ready."
    if kept.paused or "paused" in breakers:
        return "paused", "An operator paused it; its events wait in the log."
    if "open" in breakers or (kept.opened_at is not None and "half_open" not in breakers):
        return "down", "It is down: most of its attempts failed; its events wait in the log until a probe succeeds."
    if flaws := _flaws(facts, now):
        return "degraded", _sentence("; ".join(flaws))
    if unknown := _unknown(facts):
        return None, _sentence(unknown)
    return "healthy", "Its events are delivered as they come."


def _breaker(one: SubscriberStatus) -> Status:
    return "open" if one.state == "half_open" and one.in_flight else one.state


def _flaws(facts: Facts, now: float) -> list[str]:
    flaws: list[str] = []
    if any(_breaker(one) == "half_open" for one in facts.statuses):
        flaws.append("it was down, and no event has come since that shows whether it is back")
    if facts.open_dead_letters:
        flaws.append(f"{_count(facts.open_dead_letters, 'dead letter is', 'dead letters are')} open")
    oldest_at = min((one.oldest_at for one in facts.statuses if one.oldest_at is not None), default=now)
    if now - oldest_at > BEHIND_S:
        flaws.append(f"its oldest waiting event is {(now - oldest_at) / 60:.0f} min old")
    if facts.success_share is not None and facts.success_share < _FAILING_SHARE:
        flaws.append(f"{1 - facts.success_share:.0%} of its attempts of the last minute failed")
    return flaws


def _unknown(facts: Facts) -> str:
    if not facts.statuses:
        return "no process of this machine delivers to it, and no other one reports a problem"
    if facts.silent:
        return f"{', '.join(facts.silent)} does not answer"
    if facts.lag.records is None:
        return f"its lag is not known: {facts.lag.reason}"
    return "its dead letters are not counted yet" if facts.open_dead_letters is None else ""


def _since(state: State | None, facts: Facts, now: float, before: SubscriberState | None) -> float | None:
    if state == "down":
        kept = [facts.kept.opened_at] if facts.kept is not None else []
        times = [at for at in [*kept, *(one.opened_at for one in facts.statuses)] if at is not None]
        return min(times, default=now)
    if before is not None and before.state == state:
        return before.since
    if before is None or (before.state is None and before.since is None):
        return None  # it may have been so for long when this process began
    return facts.lag.last_at or now if state is None else now


def _count(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
