"""Find problems by the thresholds of a receiver, and decide when each is reported, repeated and resolved. Pure.

::

                  lasts for_s                     gone for gone_s
    (none) ─► pending ───────► firing ──────────────────────► (none), reported as resolved
       ▲         │ gone           │ ▲ lasts repeat_s: reported again
       └─────────┘                └─┘

What is not known now changes nothing: it neither begins a problem nor ends one.

How long a callback may be silent is learned from its own history. The longest pause of each of the last seven days
(UTC) is kept. A callback is silent for longer than usual when its pause exceeds a multiple of the longest of these, and
a minimum. For a day after its first call this is not known. A pause of an outage counts as the limit that it exceeded
and no longer: the alert after it comes at twice the limit, and not at twice the outage. Time in which the gateway did
not run is no pause.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, NamedTuple

from gateway.config.sections import AlertThresholds, Rule

State = Literal["firing", "resolved", "test"]
DAY_S: Final = 86_400.0
_DAYS: Final = 7


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
    """

    def __init__(self) -> None:
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

    def due(self, now: float, interval_s: float) -> list[Notice]:
        """Return the next message; empty if there is none, or it is too early.

        Args:
            now: Unix seconds.
            interval_s: messages are at least so far apart, in seconds.
        """
        return list(self._waiting.values()) if now - self._last_at >= interval_s else []

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


@dataclass(slots=True)
class Rhythm:
    """One callback.

    Args:
        first_at: Unix seconds of its first call.
        last_at: Unix seconds of its last call, or of the start of the gateway if that is later.
        longest: the longest pause of each day, in seconds, by days since 1970.
    """

    first_at: float
    last_at: float
    longest: dict[int, float] = field(default_factory=dict)

    def limit_s(self, now: float, factor: float, least_s: float) -> float | None:
        """Return the pause that is longer than usual, in seconds; None if that is not known yet.

        Args:
            factor: multiple of the longest pause.
            least_s: the limit is at least this, in seconds.
        """
        if now - self.first_at < DAY_S:
            return None
        return max(least_s, factor * max(self.longest.values(), default=0.0))

    def called(self, now: float) -> None:
        """Note a call of the callback."""
        pause_s, today = max(0.0, now - self.last_at), int(now // DAY_S)
        usual_s = max(self.longest.values(), default=pause_s)
        if now - self.first_at >= DAY_S:
            pause_s = min(pause_s, max(2 * usual_s, 900.0))
        self.longest = {day: one for day, one in self.longest.items() if day > today - _DAYS}
        self.longest[today] = max(pause_s, self.longest.get(today, 0.0))
        self.last_at = now


class Rhythms:
    """All callbacks.

    Args:
        kept: what :meth:`document` returned before a restart; anything else is ignored.
        now: Unix seconds.
    """

    def __init__(self, kept: object, now: float) -> None:
        self._counts: dict[str, float] = {}
        self.by_name: dict[str, Rhythm] = {}
        for name, one in kept.items() if isinstance(kept, Mapping) else ():
            try:
                longest = {int(day): float(pause_s) for day, pause_s in one["longest"].items()}
                self.by_name[str(name)] = Rhythm(min(float(one["first_at"]), now), now, longest)
            except (KeyError, TypeError, ValueError, AttributeError):
                continue

    def see(self, counts: Mapping[str, float], now: float) -> None:
        """Compare the number of calls of each callback since the start with what it was.

        Args:
            now: Unix seconds.
        """
        for name, count in counts.items():
            if count > self._counts.get(name, 0.0):
                self.by_name.setdefault(name, Rhythm(now, now)).called(now)
        self._counts = dict(counts)

    def document(self) -> dict[str, Any]:
        """Return what is to be kept over a restart, as JSON has it."""
        return {name: {"first_at": one.first_at, "longest": one.longest} for name, one in self.by_name.items()}


@dataclass(frozen=True, slots=True)
class SubscriberFacts:
    """One subscriber.

    Args:
        state: a word of :mod:`gateway.admin.subscriber_states`; None: unknown.
        reason: one sentence.
        open_dead_letters: None: unknown.
    """

    state: str | None
    reason: str
    open_dead_letters: int | None


@dataclass(frozen=True, slots=True)
class JournalFacts:
    """The journal.

    Args:
        used_bytes: on disk.
        max_bytes: ``journal.max_bytes``.
        held: which readers still need its oldest events, and what happens when it is full; empty if none does.
    """

    used_bytes: int
    max_bytes: int
    held: str


@dataclass(frozen=True, slots=True)
class AlertFacts:
    """Facts about the gateway.

    Args:
        now: Unix seconds.
        subscribers: by name.
        journal: None if this process has none.
        topics: those that Kafka does not accept, each with the reason; None: this process does not publish.
        rhythms: of callbacks, by name.
        is_leader: this machine reports on the whole deployment: subscribers and their dead letters.
    """

    now: float
    subscribers: Mapping[str, SubscriberFacts] = field(default_factory=dict)
    journal: JournalFacts | None = None
    topics: Mapping[str, str] | None = None
    rhythms: Mapping[str, Rhythm] = field(default_factory=dict)
    is_leader: bool = True


#: Of a journal: a burst that is worked off in less needs no action.
_FILLING_S = 300.0
#: About the whole deployment; the other rules are about one machine, and each machine reports its own.
OF_DEPLOYMENT: frozenset[Rule] = frozenset({"subscriber_down", "dead_letters"})


def problems(facts: AlertFacts, thresholds: AlertThresholds) -> dict[Key, str]:
    """Return every problem with a sentence."""
    found: dict[Key, str] = {}
    for rule, look in _RULES.items():
        found |= {Key(rule, subject): text for subject, text in look(facts, thresholds)}
    return found


def is_unknown(facts: AlertFacts, key: Key) -> bool:
    """Return whether it is not known now if there is such a problem."""
    one = facts.subscribers.get(key.subject)
    match key.rule:
        case "subscriber_down":
            return one is not None and one.state is None
        case "dead_letters":
            return one is not None and one.open_dead_letters is None
    return False


def lasts_s(rule: Rule, thresholds: AlertThresholds) -> float:
    """Return for how long a problem must last until it is reported, in seconds."""
    lasts: dict[Rule, float] = {
        "subscriber_down": thresholds.down_for,
        "journal_filling": _FILLING_S,
        "topic_stuck": thresholds.stuck_for,
    }
    return lasts.get(rule, 0.0)


def _down(facts: AlertFacts, _: AlertThresholds) -> Iterator[tuple[str, str]]:
    for name, one in facts.subscribers.items():
        if one.state in ("down", "stopped"):
            yield name, f"Subscriber {name} is {one.state}. {one.reason}"


def _dead_letters(facts: AlertFacts, thresholds: AlertThresholds) -> Iterator[tuple[str, str]]:
    for name, one in facts.subscribers.items():
        if one.open_dead_letters is not None and one.open_dead_letters >= thresholds.dead_letters:
            yield (
                name,
                (
                    f"Subscriber {name} has {one.open_dead_letters:,} open dead letters: gateway dlq list --subscriber "
                    f"{name} shows the reasons."
                ),
            )


def _journal(facts: AlertFacts, thresholds: AlertThresholds) -> Iterator[tuple[str, str]]:
    """Yield an alert only if records are held: a journal full of delivered ones is normal, and drops them."""
    one = facts.journal
    if one is not None and one.held and one.used_bytes >= thresholds.journal_share * one.max_bytes:
        yield "", f"The journal uses {one.used_bytes / one.max_bytes:.0%} of journal.max_bytes. {one.held}"


def _stuck(facts: AlertFacts, _: AlertThresholds) -> Iterator[tuple[str, str]]:
    for name, reason in (facts.topics or {}).items():
        yield name, f"Kafka does not accept topic {name}: {reason.rstrip('.')}. Its events wait in the journal."


def _silent(facts: AlertFacts, thresholds: AlertThresholds) -> Iterator[tuple[str, str]]:
    for name, one in facts.rhythms.items():
        limit_s = one.limit_s(facts.now, thresholds.silent_factor, thresholds.silent_min)
        if limit_s is not None and facts.now - one.last_at > limit_s:
            yield (
                name,
                (
                    f"Callback {name} is silent for {(facts.now - one.last_at) / 60:,.0f} min; its longest pause "
                    f"of the last week sets the limit to {limit_s / 60:,.0f} min. Does the platform still send?"
                ),
            )


_RULES: Mapping[Rule, Callable[[AlertFacts, AlertThresholds], Iterator[tuple[str, str]]]] = {
    "subscriber_down": _down,
    "dead_letters": _dead_letters,
    "journal_filling": _journal,
    "topic_stuck": _stuck,
    "callback_silent": _silent,
}
