"""Dead letters have a life, and replays can be followed, cancelled and resumed: by the interface of the admin port."""

from __future__ import annotations

from pathlib import Path

from tests.admin.running import Running, running, webhook
from tests.admin.test_api import given_up
from tests.gateway.subscriber import Subscriber, accept


async def test_dead_letters_have_a_life(gateway: Running, refusing: Subscriber) -> None:
    """Open, delivered by a replay, resolved with a note: lists, counts, overview, metric and story agree."""
    for number in range(4):
        await gateway.sms(number)
    letters = await given_up(gateway, 4)
    first, second, third, _ = (str(one["id"]) for one in letters)
    refusing.behave = accept
    job = await gateway.post("/api/replay", {"subscriber": "broken", "from_dlq": True, "ids": [first]}, 202)
    await gateway.until("/api/dead-letters", lambda found: len(found["letters"]) == 3, subscriber="broken")
    note = {"subscriber": "broken", "note": "sent by hand, ticket 4711"}
    for _ in range(2):
        resolved = await gateway.post("/api/dead-letters/resolve", {**note, "ids": [first, second, "0" * 32]})
        assert resolved["resolved"] in (1, 0)
    assert resolved == {"subscriber": "broken", "resolved": 0}
    states = {
        state: await gateway.get("/api/dead-letters", subscriber="broken", state=state)
        for state in ("open", "delivered", "resolved", "all")
    }
    counts = {state: found["counts"]["broken"] for state, found in states.items()}
    assert counts == {state: {"attempts": n} for state, n in zip(counts, (2, 1, 1, 4), strict=True)}
    (delivered,), (closed,) = states["delivered"]["letters"], states["resolved"]["letters"]
    assert (first, job["name"], "") == (delivered["id"], delivered["closed"]["replay"], delivered["closed"]["by"])
    assert (second, "anonymous", note["note"]) == (closed["id"], closed["closed"]["by"], closed["closed"]["note"])
    overview = await gateway.until("/api/overview", lambda found: found["subscribers"][1]["dead_letters"] == 2)
    assert [0, 2, 0, 0] == [one["dead_letters"] for one in overview["subscribers"]]
    async with gateway.session.get(f"{gateway.url}/metrics") as response:
        assert 'gateway_dead_letters_open{reason="attempts",subscriber="broken"} 2.0' in await response.text()
    stories = {}
    for event_id in (first, second, third):
        story = await gateway.until(
            f"/api/events/{event_id}",
            lambda story: len(story["subscribers"][1]["attempts"]) == 2 + (story["id"] == first),
        )
        stories[event_id] = story["subscribers"][1]
    given = (
        "given up after 2 attempts; the last one: answered 422 Unprocessable Entity: it refuses this event: "
        "see its answer, and its log"
    )
    assert {
        first: ("delivered", f"{given}; delivered by replay {job['name']}"),
        second: ("resolved", f"{given}; resolved by anonymous: {note['note']}"),
        third: ("dead_lettered", given),
    } == {event_id: (one["outcome"], one["why"]) for event_id, one in stories.items()}
    assert (await gateway.post("/api/dead-letters/resolve", {**note, "all": True}))["resolved"] == 2
    nothing = await gateway.post("/api/replay", {"subscriber": "broken", "from_dlq": True, "dry_run": True})
    assert nothing["events"] == 0
    for body in (
        note,
        {**note, "all": "yes"},
        {"subscriber": "broken", "all": True},
        {**note, "all": True, "note": " "},
    ):
        assert (await gateway.post("/api/dead-letters/resolve", body, 400))["error"]
    assert (await gateway.get("/api/dead-letters", 400, state="closed"))["error"]


async def test_a_replay_that_was_resumed_delivers_what_is_left(tmp_path: Path) -> None:
    """Cancelled after some were delivered: each event comes again exactly once by the two replays together."""
    async with Subscriber() as well, running(tmp_path, subscribers=[webhook("billing", well.url)]) as gateway:
        for number in range(12):
            await gateway.sms(number)
        await well.until(lambda: len(well.ids) == 12)
        slow = await gateway.post("/api/replay", {"subscriber": "billing", "since": 0, "rate": 4}, 202)
        path = f"/api/replays/{slow['number']}"
        await gateway.until(path, lambda job: job["delivered"] >= 3)
        await gateway.post(f"{path}/cancel", {})
        ended = await gateway.until(path, lambda job: job["waiting"] == 0)
        assert (12, ended["stored"]) == (ended["delivered"] + ended["withdrawn"], 12)
        for event_id in [event_id for event_id, times in well.ids.items() if times == 2]:  # attempts: once a second
            await gateway.until(
                f"/api/events/{event_id}",
                lambda story: any(one["replay"] for one in story["subscribers"][0]["attempts"]),
            )
        again = await gateway.post(f"{path}/resume", {}, 202)
        rest = await gateway.until(
            f"/api/replays/{again['number']}", lambda job: job["state"] == "done" and not job["waiting"]
        )
        assert {2} == set(well.ids.values())
        assert (ended["withdrawn"], ended["delivered"]) == (rest["delivered"], rest["delivered_already"])
        assert (await gateway.post(f"/api/replays/{again['number']}/cancel", {}, 409))["error"]
        assert (await gateway.post(f"/api/replays/{again['number']}/resume", {}, 409))["error"]
        failed_only = {"subscriber": "billing", "since": 0, "failed_only": True, "dry_run": True}
        counted = await gateway.post("/api/replay", failed_only)
        assert (0, 12) == (counted["events"], counted["delivered_already"])


async def test_replays_outlive_a_restart(tmp_path: Path) -> None:
    """They are listed with what became of them, and the next has a new number."""
    async with Subscriber() as well:
        config = {"subscribers": [webhook("billing", well.url)]}
        async with running(tmp_path, **config) as gateway:
            await gateway.sms(1)
            await well.until(lambda: len(well.ids) == 1)
            await gateway.post("/api/replay", {"subscriber": "billing", "since": 0}, 202)
            before = await gateway.until("/api/replays/1", lambda job: job["delivered"] == 1)
        async with running(tmp_path, **config) as gateway:
            assert before == await gateway.get("/api/replays/r-1")
            assert (await gateway.post("/api/replay", {"subscriber": "billing", "since": 0}, 202))["name"] == "r-2"
