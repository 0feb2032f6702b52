"""Stored subscribers: what one process writes, all read, whatever the order, a compaction or a restart."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.clock import SystemClock
from gateway.config.settings import Subscriber
from gateway.errors import ConfigError, NotNow
from gateway.fanout.subscriber_records import CannotOpen, Sealer, SubscriberDocument, fingerprint
from gateway.fanout.subscriber_store import TOPIC, SubscriberStore
from gateway.log import Entry
from tests.fanout.manual_clock import ManualClock
from tests.fanout.memory_log import MemoryLog
from tests.waiting import until

OLD_KEY, NEW_KEY = (base64.b64encode(bytes([number]) * 32).decode() for number in (1, 2))
SECRET: Final = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def build(tree: Mapping[str, Any]) -> Subscriber:
    return Subscriber.model_validate(tree)


def tree(name: str, url: str = "http://127.0.0.1:9/", **more: Any) -> dict[str, Any]:
    return {"name": name, "topics": ["sms.dr"], "url": url, **more}


class Reading:
    """A process that follows the log."""

    def __init__(
        self,
        log: MemoryLog,
        keys: Sequence[str] = (),
        clock: Any = None,
        *,
        build: Callable[[Mapping[str, Any]], Subscriber] = build,
        rewrites: bool = True,
    ) -> None:
        self.applied: list[dict[str, str | None]] = []
        self.store = SubscriberStore(
            log,
            clock=clock or SystemClock(),
            sealer=Sealer(keys),
            build=build,
            on_change=self._apply,
            rewrites=rewrites,
        )

    async def _apply(self) -> None:
        self.applied.append({one.name: one.url for one in self.store.subscribers()})

    async def __aenter__(self) -> SubscriberStore:
        self.store.start()
        await self.store.is_loaded.wait()
        return self.store

    async def __aexit__(self, *_: object) -> None:
        await self.store.stop()


def in_force(store: SubscriberStore) -> dict[str, str | None]:
    return {one.name: one.url for one in store.subscribers()}


def compacted(log: MemoryLog) -> MemoryLog:
    """A log of what a compaction leaves: the last record of each key."""
    last = {record.key: record for record in log.topic(TOPIC)}
    made = MemoryLog()
    made.records[TOPIC] = [record._replace(offset=at) for at, record in enumerate(last.values())]
    return made


#: Which process does it, to which name; None removes it, a number is its new address.
CHANGES = st.lists(
    st.tuples(st.sampled_from([0, 1]), st.sampled_from("abc"), st.one_of(st.none(), st.integers(0, 9))), max_size=12
)


@settings(max_examples=60, deadline=None)
@given(CHANGES, st.booleans())
def test_two_processes_end_in_the_same_set(changes: list[tuple[int, str, int | None]], are_apart: bool) -> None:
    """One after the other: as a plain mapping. At the same time: the same in both, and of what was written."""

    async def run() -> None:
        log = MemoryLog()
        model: dict[str, str | None] = {}
        written: dict[str, set[str | None]] = {}
        readings = Reading(log, [NEW_KEY]), Reading(log, [NEW_KEY])
        async with readings[0] as one, readings[1] as other:
            for who, name, number in changes:
                if number is None and not model.get(name):
                    continue  # the interface removes what is there
                url = None if number is None else f"http://127.0.0.1:{number + 1}/"
                document = None if url is None else SubscriberDocument(tree(name, url))
                await (one, other)[who].write(name, document)
                written.setdefault(name, set()).add(url)
                model[name] = url
                if not are_apart:
                    wanted = {key: value for key, value in model.items() if value is not None}
                    await until(lambda wanted=wanted: in_force(one) == in_force(other) == wanted, within_s=5)  # type: ignore[misc]
            await until(lambda: in_force(one) == in_force(other), within_s=5)
            found = in_force(one)
            await until(lambda: agrees(compacted(log), found), within_s=5)
        assert all(url in written[name] for name, url in found.items())
        assert readings[0].applied[-1] == readings[1].applied[-1] == found

    async def agrees(log: MemoryLog, wanted: dict[str, str | None]) -> bool:
        async with Reading(log, [NEW_KEY], rewrites=False) as fresh:
            return in_force(fresh) == wanted

    asyncio.run(run())


async def test_a_tombstone_of_a_foreign_tool_removes() -> None:
    log = MemoryLog()
    async with Reading(log) as store:
        await store.write("a", SubscriberDocument(tree("a")))
        record = log.topic(TOPIC)[-1]
        log.records[TOPIC].append(record._replace(offset=1, value=b"", id="x"))
        for reader in log.readers:
            reader.news.set()
        await until(lambda: store.get("a") is None, within_s=5)
        assert [] == store.subscribers()
        await store.write("a", SubscriberDocument(tree("a")))
        assert ["a"] == store.names()


async def test_a_key_is_rotated_without_a_gap() -> None:
    """Readable with the old key behind the new one, then sealed with the new one, and with that alone."""
    log = MemoryLog()
    async with Reading(log, [OLD_KEY]) as store:
        await store.write("a", SubscriberDocument(tree("a", secrets=[SECRET])))
    assert SECRET.encode() not in log.topic(TOPIC)[-1].value
    async with Reading(log, [NEW_KEY]) as store:
        assert ([], ["a"]) == (store.subscribers(), store.names())
        assert "not in admin.secrets_key" in store.problems()["a"]
    async with Reading(log, [NEW_KEY, OLD_KEY]) as store:
        assert ["a"] == [one.name for one in store.subscribers()]
        await until(lambda: len(log.topic(TOPIC)) == 2, within_s=5)
    async with Reading(compacted(log), [NEW_KEY]) as store:
        assert [SECRET] == [secret.get_secret_value() for secret in store.subscribers()[0].secrets]
        assert store.get("a").version == 1  # type: ignore[union-attr]


async def test_a_sealed_record_counts_for_its_own_name_and_version_only() -> None:
    """Who can write to the log and has no key moves no secret to another name, and brings no old address back."""
    log = MemoryLog()
    async with Reading(log, [NEW_KEY], rewrites=False) as store:
        await store.write("a", SubscriberDocument(tree("a", "http://127.0.0.1:1/", secrets=[SECRET])))
        old = orjson.loads(log.topic(TOPIC)[-1].value)
        await store.write("a", SubscriberDocument(tree("a", "http://127.0.0.1:2/", secrets=[SECRET])))
    for key, value in (("b", old), ("a", {**old, "version": 99})):
        record = log.topic(TOPIC)[-1]
        log.records[TOPIC].append(record._replace(key=key, offset=record.offset + 1, value=orjson.dumps(value)))
    async with Reading(log, [NEW_KEY], rewrites=False) as store:
        assert {"a": "http://127.0.0.1:2/"} == in_force(store)


def test_a_text_that_was_changed_is_not_opened() -> None:
    sealed = Sealer([NEW_KEY]).seal(b"text")
    assert (b"text", True) == Sealer([NEW_KEY]).open(sealed)
    assert (b"text", False) == Sealer([OLD_KEY, NEW_KEY]).open(sealed)
    for keys, text in (([OLD_KEY], sealed), ([NEW_KEY], sealed[:-4] + "AAAA"), ([], sealed)):
        with pytest.raises(CannotOpen):
            Sealer(keys).open(text)


async def test_a_secret_ends_at_its_time_in_each_process() -> None:
    """Nobody has to write anything for it: each process ends it by its clock."""
    clock, log = ManualClock(), MemoryLog()
    other = SECRET[:-1] + "x"
    reading = Reading(log, [NEW_KEY], clock)
    async with reading as store:
        ends = {fingerprint(other): clock.now() + 100}
        await store.write("a", SubscriberDocument(tree("a", secrets=[SECRET, other]), ends))
        assert 2 == len(store.subscribers()[0].secrets)
        clock.advance(101)
        await log.append([Entry(TOPIC, "nothing", "0" * 32, b"{}")])  # followers look up
        await until(lambda: len(store.subscribers()[0].secrets) == 1, within_s=5)
        assert 1 == len([record for record in log.topic(TOPIC) if record.key == "a"])
        assert other not in str(store.get("a").document.at(clock.now()))  # type: ignore[union-attr]


async def test_nothing_is_changed_while_the_log_is_away() -> None:
    """The append fails: the same set as before, here and for others, and the next try succeeds."""
    log = MemoryLog()
    async with Reading(log) as store:
        await store.write("a", SubscriberDocument(tree("a")))
        log.failing_appends = 1
        with pytest.raises(NotNow):
            await store.write("b", SubscriberDocument(tree("b")))
        assert ["a"] == store.names()
        await store.write("b", SubscriberDocument(tree("b")))
    async with Reading(log) as store:
        assert ["a", "b"] == store.names()


async def test_a_stored_subscriber_that_cannot_be_used_stops_no_other() -> None:
    log = MemoryLog()
    async with Reading(log) as store:
        await store.write("a", SubscriberDocument(tree("a")))
    broken = log.topic(TOPIC)[-1]

    def refuse(found: Mapping[str, Any]) -> Subscriber:
        if found["name"] == "a":
            raise ConfigError(["tls.cert_file: not there"])
        return build(found)

    async with Reading(log, build=refuse) as store:
        await store.write("b", SubscriberDocument(tree("b")))
        assert {"b": "http://127.0.0.1:9/"} == in_force(store)
        assert {"a": "tls.cert_file: not there"} == store.problems()
        assert ["a", "b"] == sorted(store.names())
    assert broken in log.topic(TOPIC)
