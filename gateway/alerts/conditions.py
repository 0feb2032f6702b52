"""Present problems, by the thresholds of one receiver. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from gateway.alerts.rules import Key
from gateway.alerts.silence import Rhythm
from gateway.config.alert_settings import AlertThresholds, Rule


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
