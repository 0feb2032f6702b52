"""When a problem is reported, reported again, and reported as resolved. Pure.

::

                  lasts for_s                     gone for gone_s
    (none) ─► pending ───────► firing ──────────────────────► (none), reported as resolved
       ▲         │ gone           │ ▲ lasts repeat_s: reported again
       └─────────┘                └─┘

What is not known now changes nothing: it neither begins a problem nor ends one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from gateway.config.admin_settings import Rule

State = Literal["firing", "resolved", "test"]


class Key(NamedTuple):
    """Identity of a problem: a rule, and the name of a subscriber, topic or callback (empty: the gateway)."""

    rule: Rule
    subject: str


@dataclass(frozen=True, slots=True)
class Notice:
    """A problem to be reported, or its end.

    Args:
        text: one sentence.
        since: Unix seconds at which the problem began.
    """

    key: Key
    state: State
    text: str
    since: float


@dataclass(frozen=True, slots=True)
class Tracked:
    """One problem of one receiver.

    Args:
        since: Unix seconds at which it was first seen.
        told_at: Unix seconds at which it was reported last; None: pending.
        gone_at: Unix seconds since when it is not seen any more; None while it is.
    """

    text: str
    since: float
    told_at: float | None = None
    gone_at: float | None = None


def step(
    before: Mapping[Key, Tracked],
    problems: Mapping[Key, str],
    unknown: Callable[[Key], bool],
    *,
    for_s: Callable[[Rule], float],
    repeat_s: float,
    gone_s: float,
    now: float,
) -> tuple[dict[Key, Tracked], list[Notice]]:
    """Return the problems to track, and those to report.

    Args:
        before: what this function returned last.
        problems: those that are seen now, each with a sentence.
        unknown: whether it is not known now if there is such a problem.
        for_s: how long a problem of a rule must last until it is reported, in seconds.
        repeat_s: a problem that lasts is reported again after this time, in seconds; 0: never.
        gone_s: how long a problem must be gone until it is reported as resolved, in seconds.
        now: Unix seconds.
    """
    after: dict[Key, Tracked] = {}
    notices: list[Notice] = []
    for key, text in problems.items():
        one = replace(before.get(key) or Tracked(text, now), text=text, gone_at=None)
        if _is_due(one, for_s(key.rule), repeat_s, now):
            one = replace(one, told_at=now)
            notices.append(Notice(key, "firing", text, one.since))
        after[key] = one
    for key in before.keys() - problems.keys():
        one = before[key]
        if unknown(key):
            after[key] = one
        elif one.told_at is not None:
            one = replace(one, gone_at=now if one.gone_at is None else one.gone_at)
            if one.gone_at is not None and now - one.gone_at >= gone_s:
                notices.append(Notice(key, "resolved", one.text, one.since))
            else:
                after[key] = one
    return after, sorted(notices, key=lambda notice: notice.key)


def _is_due(one: Tracked, for_s: float, repeat_s: float, now: float) -> bool:
    if one.told_at is None:
        return now - one.since >= for_s
    return repeat_s > 0 and now - one.told_at >= repeat_s


class Outbox:
    """Notices that wait to be sent to one receiver: the newest of each problem, which bounds their number.

    A problem that is over before it was sent is not sent at all.

    Args:
        interval_s: messages are at least so far apart, in seconds.
    """

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._waiting: dict[Key, Notice] = {}
        self._sent: set[Key] = set()
        self._last_at = float("-inf")

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, notices: Collection[Notice]) -> None:
        """Add problems to report."""
        for notice in notices:
            if notice.state == "resolved" and notice.key not in self._sent:
                self._waiting.pop(notice.key, None)
            else:
                self._waiting[notice.key] = notice

    def reported_elsewhere(self, notices: Collection[Notice]) -> None:
        """Note what another machine reports, so that this one can report the end of it."""
        for notice in notices:
            self._waiting.pop(notice.key, None)
            self._note(notice)

    def due(self, now: float) -> list[Notice]:
        """Return the next message; empty if there is none, or it is too early."""
        return list(self._waiting.values()) if now - self._last_at >= self._interval_s else []

    def sent(self, notices: Collection[Notice], now: float) -> None:
        """Note that the receiver accepted a message. Notices that came meanwhile still wait."""
        self._last_at = now
        for notice in notices:
            if self._waiting.get(notice.key) is notice:
                del self._waiting[notice.key]
            self._note(notice)

    def _note(self, notice: Notice) -> None:
        if notice.state == "resolved":
            self._sent.discard(notice.key)
        else:
            self._sent.add(notice.key)
