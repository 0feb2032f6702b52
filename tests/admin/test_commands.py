"""explain, replay, dlq and subscribers against a running gateway, by the command line."""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path

import orjson
import pytest
import structlog
import yaml
from click.testing import CliRunner, Result

from gateway.cli import main
from tests.admin.running import Running
from tests.gateway.subscriber import Subscriber, accept


@pytest.fixture(autouse=True)
def _quiet(_logs_as_before: None) -> None:
    """The gateway runs in this process: its lines would stand among what a command prints."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


@pytest.fixture
async def config(gateway: Running, refusing: Subscriber, tmp_path: Path) -> Path:
    """Three events: delivered to one subscriber, given up for another; and a callback that was not understood."""
    path = tmp_path / "console.yaml"
    path.write_text(yaml.safe_dump({"admin": {"port": gateway.app.admin.port}}))
    for number in range(3):
        await gateway.sms(number)
    await gateway.sms(9, messageid="")
    await gateway.until("/api/dead-letters", lambda found: len(found["letters"]) == 3)
    await gateway.indexed()
    return path


async def run(config: Path, *arguments: str) -> Result:
    """The command in a thread: it blocks, and the gateway that it asks runs here.

    A process for each would spend most of a test's time on a busy machine with starting Python.
    """
    return await asyncio.to_thread(CliRunner().invoke, main, [*arguments, "-c", str(config)])


async def test_a_process_asks_as_well(config: Path) -> None:
    """As a user does: standard output has the document and nothing else."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", "subscribers", "list", "--json", "-c", str(config),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, errors = await process.communicate()
    assert (process.returncode, errors) == (0, b"")
    assert {"billing", "broken", "picky", "feed"} == {one["name"] for one in orjson.loads(out)["subscribers"]}


async def test_explain_tells_the_story_by_id_and_by_anything_else(config: Path) -> None:
    async with asyncio.timeout(20):  # attempts are kept once a second
        while "attempt 2" not in (found := await run(config, "explain", "m-1")).output:
            assert found.exit_code == 0, found.output
    for text in ("nxcloud.sms.dr", "m-1", "answered", "billing", "delivered", "broken", "attempt 2", "422", "picky"):
        assert text in found.output
    story = orjson.loads((await run(config, "explain", "m-1", "--json")).stdout)
    assert orjson.loads((await run(config, "explain", story["id"].upper(), "--json")).stdout)["id"] == story["id"]
    missing = await run(config, "explain", "0" * 32)
    assert (missing.exit_code, "no such event" in missing.output) == (1, True)


async def test_events_are_listed_with_their_outcomes_and_found_by_them(config: Path) -> None:
    """The newest first; the conditions have the names of the interface; a list is continued where it ended."""
    async with asyncio.timeout(20):  # attempts are kept once a second
        while (found := await run(config, "events", "--topic", "sms.dr")).output.count("dead_lettered") < 3:
            assert found.exit_code == 0, found.output
    assert [line.split()[3] for line in found.stdout.splitlines()[1:]] == ["m-2", "m-1", "m-0"]
    asked = ("events", "--subscriber", "broken", "--outcome", "dead_lettered", "--key-prefix", "M-", "--json")
    first = await run(config, *asked, "--limit", "2")
    page = orjson.loads(first.stdout)
    assert f"--before {page['next']} continues" in first.stderr
    second = await run(config, *asked, "--before", str(page["next"]))
    assert [one["key"] for one in page["events"] + orjson.loads(second.stdout)["events"]] == ["m-2", "m-1", "m-0"]
    none = await run(config, "events", "--key-prefix", "no-such")
    assert (none.exit_code, none.stdout, "no stored event meets" in none.stderr) == (1, "", True)
    wrong = await run(config, "events", "--outcome", "fine")
    assert (wrong.exit_code, "outcome: one of delivered, retrying" in wrong.stderr) == (1, True)


async def test_replay_counts_first_and_then_delivers(config: Path, refusing: Subscriber) -> None:
    refusing.behave = accept
    dry = await run(config, "replay", "--subscriber", "broken", "--dlq", "--dry-run")
    assert (dry.exit_code, "3 events would be" in dry.output) == (0, True)
    letters = await run(config, "dlq", "replay", "--subscriber", "broken", "--dry-run")
    assert (letters.exit_code, letters.output) == (0, dry.output)
    none = await run(config, "dlq", "replay", "--subscriber", "broken", "--id", "0" * 32)
    assert (none.exit_code, none.stdout) == (1, "")
    assert "nothing of broken is what was asked for (3 looked at)" in none.stderr
    absent = await run(config, "replay", "--subscriber", "broken", "--since", "1h", "--type", "no.such", "--json")
    assert (absent.exit_code, orjson.loads(absent.stdout)["events"]) == (1, 0)
    done = await run(config, "replay", "--subscriber", "broken", "--since", "1h", "--json")
    assert orjson.loads(done.stdout)["events"] == 3
    await refusing.until(lambda: len(refusing.ids) == 3)
    rejected = await run(config, "replay", "--rejected", "--dry-run")
    assert "0 of 1 rejected callbacks" in rejected.output
    assert "identifying field" in rejected.output


async def test_replays_that_make_no_sense(tmp_path: Path) -> None:
    """Told before anything is asked, with how to say it."""
    broken = ["--subscriber", "broken"]
    for arguments in (
        broken,
        ["--since", "1h"],
        [*broken, "--since", "1h", "--reason", "age"],
        ["--rejected", *broken],
        [*broken, "--since", "lately"],
        [*broken, "--since", "1h", "--callback", "sms-dr"],
        [*broken, "--since", "1h", "--as", "sms-dr"],
        [*broken, "--since", "1h", "--state", "all"],
        [*broken, "--since", "1h", "--unauthenticated"],
    ):
        assert (await run(tmp_path / "none.yaml", "replay", *arguments)).exit_code == 2


async def test_dead_letters(config: Path) -> None:
    listed = await run(config, "dlq", "list")
    assert (listed.exit_code, listed.output.count("broken"), "422" in listed.output) == (0, 3, True)
    letters = orjson.loads((await run(config, "dlq", "list", "--subscriber", "broken", "--json")).stdout)["letters"]
    shown = await run(config, "dlq", "show", letters[0]["id"])
    assert (shown.exit_code, letters[0]["key"] in shown.output) == (0, True)
    assert (await run(config, "dlq", "show", "0" * 32)).exit_code == 1
    assert "no dead letter is open" in (await run(config, "dlq", "list", "--subscriber", "billing")).output
    unknown = await run(config, "dlq", "list", "--reason", "agee")
    assert (unknown.exit_code, "no dead letter has the reason agee; there are: attempts" in unknown.stderr) == (1, True)


async def test_dead_letters_are_resolved(config: Path) -> None:
    """With a note, by id and all at once; a second time nothing is left, and that is no failure."""
    letters = orjson.loads((await run(config, "dlq", "list", "--json")).stdout)["letters"]
    note = ["--note", "sent by hand"]
    for arguments, words in (
        (["--id", letters[0]["id"], "--id", "0" * 32, *note], "1 dead letter of broken resolved"),
        (["--reason", "attempts", *note], "2 dead letters of broken resolved"),
        (["--all", *note], "0 dead letters of broken resolved"),
    ):
        done = await run(config, "dlq", "resolve", "--subscriber", "broken", *arguments)
        assert (0, f"{words}\n") == (done.exit_code, done.stdout)
    assert "no dead letter is open" in (await run(config, "dlq", "list")).output
    listed = await run(config, "dlq", "list", "--state", "resolved")
    assert 3 == listed.stdout.count("by anonymous: sent by hand")
    assert 3 == len(orjson.loads((await run(config, "dlq", "list", "--all", "--json")).stdout)["letters"])
    assert "resolved" in (await run(config, "dlq", "show", letters[0]["id"])).stdout
    for wrong in ([*note], ["--all", *note, "--id", letters[0]["id"]], ["--all"]):
        assert 2 == (await run(config, "dlq", "resolve", "--subscriber", "broken", *wrong)).exit_code


async def test_replays_are_listed_watched_cancelled_and_resumed(config: Path, refusing: Subscriber) -> None:
    refusing.behave = accept
    assert "there are no replays" in (await run(config, "replay", "list")).output
    watched = await run(config, "replay", "--subscriber", "broken", "--dlq", "--watch")
    assert (watched.exit_code, 3) == (0, len(refusing.ids)), watched.output
    assert "3 events are stored for delivery to broken by replay r-1" in watched.stdout
    assert "of 3 stored: 3 delivered" in watched.stdout
    assert "no dead letter is open" in (await run(config, "dlq", "list")).output
    slow = await run(config, "replay", "--subscriber", "broken", "--since", "1h", "--rate", "0.1", "--json")
    assert "r-2" == orjson.loads(slow.stdout)["name"]
    cancelled = await run(config, "replay", "cancel", "r-2")
    assert (0, True) == (cancelled.exit_code, cancelled.stdout.startswith("r-2 is cancelled after"))
    gone = await run(config, "replay", "watch", "r-2")
    assert (1, True) == (gone.exit_code, "the replay r-2 is cancelled after 3 events" in gone.output)
    assert "cancelled" in (await run(config, "replay", "show", "2")).stdout
    resumed = orjson.loads((await run(config, "replay", "resume", "r-2", "--json")).stdout)
    assert ("r-3", "r-2") == (resumed["name"], resumed["resumes"])
    listed = (await run(config, "replay", "list")).stdout.splitlines()
    assert ["r-3", "r-2", "r-1"] == [line.split()[0] for line in listed[1:]]
    failed_only = await run(config, "replay", "--subscriber", "billing", "--since", "1h", "--failed-only")
    assert (1, True) == (failed_only.exit_code, "3 events were delivered already" in failed_only.stderr)
    assert 1 == (await run(config, "replay", "cancel", "r-99")).exit_code
    assert 1 == (await run(config, "replay", "cancel", "r-1")).exit_code


async def test_top_once_says_what_the_overview_says(config: Path, gateway: Running) -> None:
    """The names of the API; what is not known is unknown and never 0; the one that needs a person comes first."""
    await gateway.until("/api/overview", lambda found: found["topics"] and found["intake"]["callbacks"])
    document = orjson.loads((await run(config, "top", "--once", "--json")).stdout)
    overview = await gateway.get("/api/overview")
    assert document.keys() < overview.keys()
    assert [one.keys() for one in overview["subscribers"]] == [one.keys() for one in document["subscribers"]]
    await gateway.until("/api/overview", lambda found: found["subscribers"][0]["state"] == "healthy")
    shown = (await run(config, "top", "--once")).stdout
    rows = {line.split()[0]: line for line in shown.splitlines() if line.strip()}
    assert {"billing", "broken", "picky", "feed", "sms.dr", "sms-dr"} <= rows.keys()
    assert rows["billing"].split()[1] == "healthy"
    assert len({len(line.rstrip()) > 80 for line in shown.splitlines()}) == 2  # not cut to 80 columns


async def test_subscribers(config: Path, gateway: Running) -> None:
    await gateway.until("/api/subscribers", lambda found: found["subscribers"][0]["state"] == "healthy")
    listed = await run(config, "subscribers", "list")
    assert all(name in listed.output for name in ("billing", "broken", "picky", "feed"))
    assert "billing is paused" in (await run(config, "subscribers", "pause", "billing")).output
    assert "billing is healthy" in (await run(config, "subscribers", "resume", "billing")).output
    unknown = await run(config, "subscribers", "pause", "nobody")
    assert (unknown.exit_code, "nobody" in unknown.output) == (1, True)
    for arguments in (("subscribers", "pause", "\udcff"), ("dlq", "list", "--subscriber", "\udcff")):  # any bytes
        undecodable = await run(config, *arguments)
        assert (undecodable.exit_code, undecodable.output[:6]) == (1, "Error:")


async def test_no_gateway_is_one_clear_sentence(tmp_path: Path) -> None:
    """Not started, port 0, a wrong token, not a gateway: what is wrong and what to do."""
    path = tmp_path / "console.yaml"
    for admin, words in (({"port": 1}, "no gateway answers"), ({"port": 0}, "--admin")):
        path.write_text(yaml.safe_dump({"admin": admin}))
        found = await run(path, "subscribers", "list")
        assert (found.exit_code, words in found.output, found.output.count("\n")) == (1, True, 1)
