"""Lists of events: outcomes, conditions, and what was sent and answered."""

from __future__ import annotations

from pathlib import Path

import orjson
from aiohttp import web

from gateway.admin.monitor import RecentAttempts
from gateway.admin.outcomes import OUTCOMES, worst
from gateway.fanout.attempts import Attempt
from tests.admin.running import Running, running, webhook
from tests.gateway.subscriber import Subscriber

SECRET = "s3cret-token-of-crm"


async def test_the_newest_events_come_with_their_outcomes(gateway: Running) -> None:
    """Without conditions the newest; the worst outcome, how many have which; of one subscriber, its own."""
    for number in range(3):
        await gateway.sms(number)
    await gateway.indexed()
    found = await gateway.until(
        "/api/search", lambda found: {one["outcome"] for one in found["events"]} == {"dead_lettered"}
    )
    assert [one["subject"] for one in found["events"]] == ["m-2", "m-1", "m-0"]
    settled = await gateway.until(
        "/api/search", lambda found: all(one["outcomes"].get("delivered") for one in found["events"])
    )
    assert settled["events"][0]["outcomes"] == {"delivered": 1, "dead_lettered": 1, "skipped": 1, "fetched": 1}
    of_billing = await gateway.get("/api/search", subscriber="billing")
    assert {one["outcome"] for one in of_billing["events"]} == {"delivered"}
    await gateway.send("voice-dr", 1)
    await gateway.indexed()
    (other,) = (await gateway.get("/api/search", limit=1))["events"]
    assert (other["outcome"], other["outcomes"]) == (None, {})


async def test_events_are_found_by_outcome_key_and_time(gateway: Running) -> None:
    for number in range(12):
        await gateway.sms(number)
    await gateway.send("voice-dr", 2)
    await gateway.indexed()
    await gateway.until("/api/search", lambda found: len(found["events"]) == 12, outcome="dead_lettered")
    for condition, subjects in (
        ({"subscriber": "broken", "outcome": "delivered"}, []),
        ({"subscriber": "picky", "outcome": "skipped", "key_prefix": "m-1"}, ["m-11", "m-10", "m-1"]),
        ({"key_prefix": "M-11"}, ["m-11"]),
        ({"key_prefix": "m-1", "until": 1}, []),
        ({"outcome": "lost"}, []),
        ({"subscriber": "feed", "outcome": "fetched", "limit": 2}, ["m-11", "m-10"]),
    ):
        found = await gateway.get("/api/search", **condition)
        assert [one["subject"] for one in found["events"]] == subjects, condition
    newest = await gateway.get("/api/search", subscriber="billing", limit=5)
    older = await gateway.get("/api/search", subscriber="billing", limit=5, before=newest["next"])
    again = await gateway.get("/api/search", subscriber="billing", limit=5, after=older["newer"])
    assert [one["id"] for one in again["events"]] == [one["id"] for one in newest["events"]]


async def test_conditions_that_cannot_be(gateway: Running) -> None:
    for query, status in (
        ({"outcome": "fine"}, 400),
        ({"subscriber": "nobody"}, 404),
        ({"before": 3, "after": 1}, 400),
        ({"after": "x"}, 400),
    ):
        assert (await gateway.get("/api/search", status, **query))["error"]


async def test_an_attempt_shows_its_request_and_its_answer(tmp_path: Path) -> None:
    """As the subscriber got it and answered, without the secret of either."""
    got: list[dict[str, str]] = []

    async def answer(request: web.BaseRequest) -> web.Response:
        got.append({name.lower(): value for name, value in request.headers.items()})
        text = orjson.dumps({"error": "unknown order", "you": request.headers["X-Key"]}).decode()
        return web.Response(status=422, text=text, headers={"X-Trace": "t-1", "Set-Cookie": "sid=1"})

    runner = web.ServerRunner(web.Server(answer, access_log=None))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    crm = webhook("crm", url, headers={"X-Key": SECRET}, secrets=["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"])
    async with running(tmp_path, subscribers=[crm]) as gateway:
        await gateway.sms(1)
        await gateway.indexed()
        (event,) = (await gateway.get("/api/search", q="m-1"))["events"]
        story = await gateway.until(
            f"/api/events/{event['id']}", lambda story: len(story["subscribers"][0]["attempts"]) == 2
        )
    await runner.cleanup()
    for attempt, request in zip(story["subscribers"][0]["attempts"], got, strict=True):
        shown = dict(attempt["request"]["headers"])
        assert shown.pop("x-key") == "(hidden)"
        signature = shown.pop("webhook-signature")
        assert request["webhook-signature"].startswith(signature.removesuffix("…"))
        assert len(signature) < 12
        assert shown == {name: value for name, value in request.items() if name in shown}
        assert request.keys() - shown.keys() == {"x-key", "webhook-signature", "content-length"}
        answered = attempt["answer"]
        assert dict(answered["headers"])["X-Trace"] == "t-1"
        assert dict(answered["headers"])["Set-Cookie"] == "(hidden)"
        assert "unknown order" in answered["body"]
    assert SECRET not in orjson.dumps(story).decode()
    files = b"".join(path.read_bytes() for path in (tmp_path / "data").glob("*.sqlite*"))
    assert b"unknown order" in files
    assert SECRET.encode() not in files


async def test_attempts_are_shown_for_as_long_as_the_configuration_says(tmp_path: Path) -> None:
    async with Subscriber() as well:
        config = {"subscribers": [webhook("billing", well.url)], "admin": {"attempts_retention": "1ms"}}
        async with running(tmp_path, **config) as gateway:
            await gateway.sms(1)
            await well.until(lambda: len(well.ids) == 1)
            await gateway.indexed()
            (event,) = (await gateway.get("/api/search", q="m-1"))["events"]
            await gateway.until("/api/search", lambda found: found["events"][0]["outcome"] == "delivered")
            story = await gateway.get(f"/api/events/{event['id']}")
            assert story["subscribers"][0]["attempts"] == []


def test_every_outcome_has_its_place_among_the_others() -> None:
    assert [worst({"a": one, "b": "skipped"}) for one in OUTCOMES] == list(OUTCOMES)
    assert worst({}) is None


def test_recent_attempts_have_a_bound() -> None:
    """With Kafka: the newest events, and since when all attempts are known."""
    recent = RecentAttempts(kept=4)
    assert recent.since == float("inf")
    recent.begin(5.0)
    for at in range(10, 16):
        recent.add(Attempt("billing", f"e-{at // 2}", float(at), "delivered", "200", 1, 1))
    assert recent.since == 11.0
    assert [len(recent.of(f"e-{number}")) for number in (5, 6, 7)] == [0, 2, 2]
