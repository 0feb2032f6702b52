"""The proof: history against log against subscribers. Pure; every rule has a test that breaks it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from tests.lossproof.callbacks import Item, callback
from tests.lossproof.history import Told
from tests.lossproof.receiver import Arrival, Receiver

#: Examples of each kind of breach that are kept for people.
_EXAMPLES: Final = 5


@dataclass(slots=True)
class Verdict:
    """What a scenario came to.

    Args:
        accepted: events of callbacks that were answered with success.
        stored: different events in the log.
        lost: accepted events that are not in the log, or not at a subscriber that they match; each such subscriber
            counts.
        invented: in the log or at a subscriber, and not sent, or not asked for, or from before its start.
        out_of_order: events that appear behind one of their key that was sent after they were answered.
        unstable: events met with more than one id or with different bytes.
        repeated_in_log: copies beyond the first.
        repeated_deliveries: the same, at all subscribers.
        breaches: examples, one sentence each.
        losses: each of ``lost``: the event, and the subscriber that lacks it, or "" for the log.
    """

    accepted: int = 0
    stored: int = 0
    lost: int = 0
    invented: int = 0
    out_of_order: int = 0
    unstable: int = 0
    repeated_in_log: int = 0
    delivered: int = 0
    repeated_deliveries: int = 0
    breaches: list[str] = field(default_factory=list)
    losses: list[tuple[Item, str]] = field(default_factory=list)

    @property
    def problems(self) -> list[str]:
        """The breaches, and the first of what is lost."""
        return self.breaches + [
            f"{item} was answered with success and {f'never came to {where}' if where else 'is not in the log'}"
            for item, where in self.losses[: 2 * _EXAMPLES]
        ]

    def lose(self, item: Item, where: str = "") -> None:
        """An accepted event is missing."""
        self.losses.append((item, where))
        self.lost += 1

    def excuse(self, is_named: Callable[[Item, str], bool]) -> int:
        """Drop from the losses what the gateway named as gone; return how many of them it named.

        Args:
            is_named: called with each loss, as ``losses`` has it.
        """
        before = self.lost
        self.losses = [loss for loss in self.losses if not is_named(*loss)]
        self.lost = len(self.losses)
        return before - self.lost

    @property
    def is_clean(self) -> bool:
        """Nothing promised was broken."""
        return not (self.lost or self.invented or self.out_of_order or self.unstable or self.breaches)

    def breach(self, text: str, seen: int) -> None:
        """Keep the first examples of a kind; ``seen`` counts them before this one."""
        if seen < _EXAMPLES:
            self.breaches.append(text)


def check(
    history: Mapping[int, Told],
    log: Mapping[str, Sequence[Arrival]],
    receivers: Iterable[Receiver],
    moved: Mapping[Item, object] | None = None,
) -> Verdict:
    """Hold everything against everything.

    Args:
        history: what was sent and answered.
        log: by partition, what stands in it, in its order.
        receivers: the subscribers that are to have everything; those that said "gone" are not among them.
        moved: the partition of each event of a topic whose number of partitions was changed: there a key may move to
            another one, and its order is promised within each.
    """
    moved = moved or {}
    verdict = Verdict()
    wanted = accepted(history)
    verdict.accepted = len(wanted)
    met: dict[Item, tuple[str, int]] = {}
    in_log = [item for arrivals in log.values() for item in arrivals]
    stored = {entry.item for entry in in_log}
    verdict.stored = len(stored)
    verdict.repeated_in_log = len(in_log) - len({entry.id for entry in in_log})
    for item in wanted:
        if item not in stored:
            verdict.lose(item)
    for partition, arrivals in log.items():
        _known(verdict, history, arrivals, f"the log's {partition}")
        _stable(verdict, met, arrivals)
        _ordered(verdict, history, arrivals, f"the log's {partition}", moved)
    for receiver in receivers:
        _delivered(verdict, history, wanted, receiver)
        if receiver.is_ordered:
            _ordered(verdict, history, receiver.taken, receiver.name, moved)
        _stable(verdict, met, receiver.taken)
    return verdict


def expected_at(history: Mapping[int, Told], receiver: Receiver) -> set[Item]:
    """The accepted events that a subscriber must get."""
    return {item for item in accepted(history) if _is_due(history, receiver, item)}


def accepted(history: Mapping[int, Told]) -> list[Item]:
    """Return the events of callbacks that were answered with success."""
    found: list[Item] = []
    for number, told in history.items():
        wanted = callback(number)
        if told.answered_at(wanted.status) is not None:
            found += [Item(number, place) for place in range(len(wanted.expected))]
    return found


def _is_for(receiver: Receiver, item: Item) -> bool:
    expected = callback(item.number).expected[item.place]
    return receiver.wants(expected.topic, expected.key)


def _is_due(history: Mapping[int, Told], receiver: Receiver, item: Item) -> bool:
    """Whether a subscriber must get an event: one that was first sent after the subscriber was added."""
    return _is_for(receiver, item) and history[item.number].first_sent_at >= receiver.added_at


def _known(verdict: Verdict, history: Mapping[int, Told], arrivals: Sequence[Arrival], where: str) -> None:
    for met in arrivals:
        item = met.item
        if item is not None and item.number in history:
            expected = callback(item.number).expected
            if (
                item.place < len(expected)
                and (not expected[item.place].key or expected[item.place].key == met.key)
                and (not met.topic or met.topic == expected[item.place].topic)
            ):
                continue
        verdict.breach(f"{where} has {met}, which was never sent", verdict.invented)
        verdict.invented += 1


def _delivered(verdict: Verdict, history: Mapping[int, Told], wanted: list[Item], receiver: Receiver) -> None:
    _known(verdict, history, receiver.taken, receiver.name)
    ids = {met.id for met in receiver.taken}
    verdict.delivered += len(ids)
    verdict.repeated_deliveries += len(receiver.taken) - len(ids)
    for item in wanted:
        if item not in receiver.items and _is_due(history, receiver, item):
            verdict.lose(item, receiver.name)
    for item in receiver.items:
        if item is None or item.number not in history:
            continue
        if not _is_for(receiver, item):
            verdict.breach(f"{receiver.name} got {item}, which it did not ask for", verdict.invented)
            verdict.invented += 1
        elif history[item.number].last_seen_at < receiver.not_before:
            verdict.breach(f"{receiver.name} got {item}, which is older than its start", verdict.invented)
            verdict.invented += 1
    if receiver.followed:
        verdict.breaches.append(f"{receiver.name}: {receiver.followed} redirects were followed")


def _stable(verdict: Verdict, met: dict[Item, tuple[str, int]], arrivals: Sequence[Arrival]) -> None:
    for one in arrivals:
        if one.item is None:
            continue
        known = met.setdefault(one.item, (one.id, one.checksum))
        if known != (one.id, one.checksum):
            verdict.breach(f"{one.item} is {known} and {(one.id, one.checksum)}", verdict.unstable)
            verdict.unstable += 1


def _ordered(
    verdict: Verdict,
    history: Mapping[int, Told],
    arrivals: Sequence[Arrival],
    where: str,
    moved: Mapping[Item, object],
) -> None:
    """First appearances of each key of a topic: none may follow one that was sent after it was answered."""
    by_key: dict[tuple[str, str, object], list[Item]] = {}
    for key, item in dict.fromkeys((one.key, one.item) for one in arrivals):
        if item is not None and item.number in history and item.place < len(callback(item.number).expected):
            topic = callback(item.number).expected[item.place].topic
            by_key.setdefault((topic, key, moved.get(item)), []).append(item)
    for (topic, key, _), items in by_key.items():
        latest_sent = -1
        for item in items:
            told = history[item.number]
            answered_at = told.answered_at(callback(item.number).status)
            if answered_at is not None and answered_at < latest_sent:
                verdict.breach(
                    f"{where}: {item} of {topic} {key} appears behind one sent after its answer", verdict.out_of_order
                )
                verdict.out_of_order += 1
            latest_sent = max(latest_sent, told.first_sent_at)
