"""What is kept of requests and answers: enough to see why, within bounds, and no secret."""

from __future__ import annotations

import orjson
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from gateway.config.settings import Subscriber
from gateway.fanout import exchanges
from gateway.fanout.attempt import HEAD_BYTES, AttemptResult
from gateway.fanout.attempt_log import AttemptLog
from gateway.fanout.attempts import AttemptWriter, attempts_of, of_event, read
from gateway.fanout.exchanges import Budget, RequestShape, answer_of
from gateway.fanout.webhook import HIDDEN
from gateway.log import Record
from gateway.telemetry.metrics import Metrics
from tests.fanout.manual_clock import ManualClock
from tests.fanout.memory_log import MemoryLog
from tests.fanout.test_scheduler import job, retried

SECRET = "s3cret-token-of-billing"
BILLING = Subscriber.model_validate(
    {
        "name": "billing",
        "topics": ["sms.dr"],
        "url": "https://hooks.example.com/T0KEN-IN-PATH/in?key=K3Y",
        "headers": {"Authorization": f"Bearer {SECRET}", "X-Shard": "7"},
    }
)
SHAPE = RequestShape.of(BILLING)


def refused(
    head: bytes = b"no", fields: bytes = b"\r\nContent-Type: text/plain\r\n", status: int = 422
) -> AttemptResult:
    return AttemptResult(
        status, detail=f"answered {status}", head=head, fields=fields, span="a" * 16, timestamp=1_760_000_000,
        signature="v1,c2lnbmF0dXJlIG9mIGZvcnR5IGNoYXJhY3RlcnM=",
    )  # fmt: skip


class Noting:
    """The log of one subscriber's attempts, and what writes it."""

    def __init__(self, clock: ManualClock) -> None:
        self.log = MemoryLog(now=clock.now)
        self.writer = AttemptWriter(self.log, clock=clock)
        metrics = Metrics(CollectorRegistry())
        self.attempts = AttemptLog("billing", clock=clock, metrics=metrics, writer=self.writer, shape=SHAPE)

    async def written(self) -> list[Record]:
        await self.writer.stop()
        return self.log.topic("fanout.attempts")


async def test_each_attempt_has_its_request_and_failures_their_answer() -> None:
    """All headers, the signature shortened, the subscriber's own headers hidden; status, headers, body."""
    clock = ManualClock()
    noting = Noting(clock)
    one = job(1, "k")
    noting.attempts.failed(retried(one), refused(b'{"why": "bad order"}'), "retried")
    await noting.written()
    (told,) = await attempts_of(noting.log, one.record.id, clock=clock)
    assert told.sent is not None
    request = exchanges.request_of(one.record, told.request, told.sent, is_replay=False)
    assert request["line"] == "POST https://hooks.example.com/…"
    shown = dict(request["headers"])
    assert (shown["authorization"], shown["x-shard"], shown["host"]) == (HIDDEN, HIDDEN, "hooks.example.com")
    assert (shown["webhook-id"], shown["webhook-timestamp"]) == (one.record.id, "1760000000")
    assert shown["webhook-signature"] == "v1,c2lnbmF…"
    assert shown["traceparent"].split("-")[2] == "a" * 16
    assert "gateway-replay" not in shown
    again = exchanges.request_of(one.record, told.request, told.sent, is_replay=True)
    assert [*request["headers"], ["gateway-replay", "true"]] == again["headers"]
    assert told.answer == {
        "detail": "answered 422",
        "headers": [["Content-Type", "text/plain"]],
        "body": '{"why": "bad order"}',
        "is_cut": False,
    }


async def test_of_successes_only_those_that_say_something_have_an_answer() -> None:
    """The first, one a minute, replays, and the one that ends failures; the others have their request only."""
    clock = ManualClock()
    noting = Noting(clock)
    taken = refused(b"ok", status=200)
    jobs = [job(number, "k") for number in range(6)]
    for one in jobs:
        one.attempts = 1
    jobs[3].is_replay = True
    jobs[4].attempts = 2
    for number, one in enumerate(jobs):
        if number == 5:
            clock.advance(61.0)
        noting.attempts.delivered(one, taken)
    (record,) = await noting.written()
    answered = [bool(of_event(record, one.record.id)[0].answer) for one in jobs]
    assert answered == [True, False, False, True, True, True]
    assert all(attempt.sent for attempt in read(record))


async def test_no_secret_is_written() -> None:
    """Neither address, header, cookie nor what an answer repeats of them, also where the body is cut in the middle."""
    clock = ManualClock()
    noting = Noting(clock)
    echo = f"you sent Bearer {SECRET} and ".encode()
    cut = echo + b"x" * (HEAD_BYTES - len(echo) - 10) + SECRET[:10].encode()
    fields = f"\r\nSet-Cookie: sid=C00KIE\r\nX-Api-Key: AP1KEY\r\nX-Echo: {SECRET}\r\n".encode()
    noting.attempts.failed(retried(job(1, "k")), refused(cut, fields), "retried")
    (record,) = await noting.written()
    for secret in (SECRET, SECRET[:10], "T0KEN", "K3Y", "C00KIE", "AP1KEY", "c2lnbmF0dXJlIG9m"):
        assert secret.encode() not in record.value
    assert orjson.loads(record.value)["answers"]["0"]["is_cut"]


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_any_answer_can_be_kept(fields: bytes, head: bytes) -> None:
    """Whatever a subscriber sends becomes JSON that can be shown, and never an error."""
    kept = answer_of(refused(head, fields), SHAPE.secrets)
    shown = orjson.loads(orjson.dumps(kept))
    assert all((name and name.isprintable()) or "\t" in name for name, _ in shown["headers"])


async def test_a_storm_of_failures_keeps_few_answers() -> None:
    """At once a mebibyte, then some kilobytes a second; every attempt is recorded all the same."""
    clock = ManualClock()
    noting = Noting(clock)
    big = refused(b"x" * HEAD_BYTES)
    for number in range(1000):
        noting.attempts.failed(retried(job(number, "k")), big, "retried")
    records = await noting.written()
    assert sum(len(read(record)) for record in records) == 1000
    assert 200 < sum(len(orjson.loads(record.value).get("answers", {})) for record in records) < 260
    assert sum(len(record.value) for record in records) < 1.5 * 1024 * 1024


def test_the_budget_fills_again() -> None:
    budget = Budget()
    assert budget.takes(1024 * 1024, 100.0)
    assert not budget.takes(4096, 100.5)
    assert budget.takes(4096, 101.0)
