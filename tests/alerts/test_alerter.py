"""One receiver: what it sends when, from facts that the test gives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from gateway.alerts.alerter import AlertReceiver
from gateway.alerts.rules import AlertFacts, Notice, SubscriberFacts
from gateway.alerts.senders import NotSent
from gateway.config.sections import Alert
from tests.waiting import until

ALERT = Alert.model_validate(
    {"name": "ops", "slack": {"url": "https://a.example"}, "rules": "dead_letters", "interval": 1, "resolve_after": 0}
)


class Sent:
    """What was sent; refuses while ``is_away``."""

    def __init__(self) -> None:
        self.messages: list[list[tuple[str, str]]] = []
        self.is_away = False
        self.tries = 0

    async def __call__(self, _: Alert, notices: Sequence[Notice]) -> None:
        self.tries += 1
        if self.is_away:
            raise NotSent("nobody listens")
        self.messages.append([(notice.key.subject, notice.state) for notice in notices])


@asynccontextmanager
async def receiver() -> AsyncIterator[tuple[AlertReceiver, Sent]]:
    sent = Sent()
    one = AlertReceiver(ALERT, sent)
    task = asyncio.create_task(one.run())
    try:
        yield one, sent
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def facts(now: float, letters: dict[str, int | None], *, is_leader: bool = True) -> AlertFacts:
    found = {name: SubscriberFacts("healthy", "", count) for name, count in letters.items()}
    return AlertFacts(now, found, is_leader=is_leader)


async def test_a_hundred_at_once_are_one_message() -> None:
    async with receiver() as (one, sent):
        one.look(facts(0.0, {f"s{number:02}": 1 for number in range(100)}))
        await until(lambda: sent.messages)
        assert [len(message) for message in sent.messages] == [100]


async def test_what_is_over_before_it_could_be_sent_is_not_sent() -> None:
    """While the receiver is away; what lasts is sent when it is back."""
    async with receiver() as (one, sent):
        sent.is_away = True
        one.look(facts(0.0, {"a": 1, "b": 1}))
        await until(lambda: sent.tries)
        one.look(facts(5.0, {"a": 0, "b": 2}))
        sent.is_away = False
        await until(lambda: sent.messages)
        assert sent.messages == [[("b", "firing")]]


async def test_a_new_leader_repeats_nothing_and_reports_the_end() -> None:
    """It has seen what the leader before it reported."""
    async with receiver() as (one, sent):
        one.look(facts(0.0, {"a": 1}, is_leader=False))
        one.look(facts(5.0, {"a": 1}))
        one.look(facts(10.0, {"a": 0, "b": 1}))
        await until(lambda: sent.messages)
        assert sent.messages == [[("a", "resolved"), ("b", "firing")]]


async def test_what_is_not_known_changes_nothing() -> None:
    async with receiver() as (one, sent):
        one.look(facts(0.0, {"a": 1}))
        await until(lambda: sent.messages)
        one.look(facts(5.0, {"a": None}))
        one.look(facts(500.0, {"a": None}))
        one.look(facts(505.0, {"a": 1}))
        one.look(facts(510.0, {"a": 0}))
        await until(lambda: len(sent.messages) == 2)
        assert sent.messages == [[("a", "firing")], [("a", "resolved")]]
