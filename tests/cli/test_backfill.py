"""``gateway backfill``: callbacks that were lost come back through the normal path, once."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, NamedTuple

import aiohttp
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from gateway.backfill import FIELDS, queries
from gateway.config.loading import loads
from gateway.errors import ConfigError
from tests.callbacks.samples import FOLDER, load
from tests.cli.platform_history import ACCESS_KEY, APP_KEY, PHONE, SECRET, ZONE, PlatformHistory, platform_history
from tests.gateway.conftest import MakeGateway, gateway
from tests.gateway.process import GatewayProcess
from tests.rows import rows

__all__ = ["gateway"]

SIGNED = {"signature": {"secret": SECRET, "access_key": ACCESS_KEY}}
NOW = datetime.now(UTC)
DAYS: dict[str, Any] = {
    "min_value": datetime(2026, 1, 1),  # noqa: DTZ001 - hypothesis adds the zone
    "max_value": datetime(2026, 1, 3),  # noqa: DTZ001
}


class Ended(NamedTuple):
    """A command's end."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """What ``--json`` printed."""
        found = json.loads(self.out)
        assert isinstance(found, dict)
        return found


@pytest.fixture
async def platform() -> AsyncIterator[PlatformHistory]:
    """The platform, with one callback of each kind from the last days, and two that are no callbacks of WhatsApp."""
    async with platform_history() as one:
        one.kept = [
            ("account_update", NOW - timedelta(days=3), sample("account-banned")),
            ("smb_message_echoes", NOW - timedelta(hours=30), sample("app-echo")),
            ("history", NOW - timedelta(hours=2), sample("app-sync-history")),
            ("smb_app_state_sync", NOW - timedelta(hours=1), sample("app-sync-contact")),
        ]
        yield one


def sample(name: str) -> str:
    return load(FOLDER / "whatsapp" / name).request.body.decode()


def whatsapp(platform: PlatformHistory, **more: Any) -> dict[str, Any]:
    """The section of the callback."""
    return {"auth": SIGNED, "backfill": {"url": platform.url, "app_key": APP_KEY, "business_phone": PHONE}, **more}


async def start(gateway: MakeGateway, section: Any) -> GatewayProcess:
    return await gateway(ingest={"port": 0, "callbacks": {"whatsapp": section}})


async def backfill(one: GatewayProcess, *arguments: str) -> Ended:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", "backfill", "whatsapp", "-c", str(one.path), *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode is not None
    return Ended(process.returncode, out.decode(), err.decode())


async def stored(one: GatewayProcess) -> list[str]:
    """Types of the events that the gateway has."""
    async with aiohttp.ClientSession() as session, session.get(f"{one.admin_url}/api/search") as response:
        return sorted(event["type"] for event in (await response.json())["events"])


async def test_lost_callbacks_come_back_once(gateway: MakeGateway, platform: PlatformHistory) -> None:
    """A dry run stores nothing and counts what the run then stores; a second run stores nothing again."""
    one = await start(gateway, whatsapp(platform))
    dry = await backfill(one, "--since", "6d", "--dry-run", "--json")
    assert (0, "") == (dry.code, dry.err)
    assert (True, 4, 0) == (dry.document["dry_run"], dry.document["callbacks"], dry.document["already_stored"])
    assert [] == await stored(one)
    run = await backfill(one, "--since", "6d", "--json")
    assert 0 == run.code, run.err
    assert dry.document["by_type"] == run.document["by_type"]
    assert sum(run.document["by_type"].values()) == run.document["events"] == len(await stored(one))
    again = await backfill(one, "--since", "6d", "--json")
    assert (0, 0, run.document["events"]) == (again.code, again.document["events"], again.document["already_stored"])
    assert run.document["events"] == len(await stored(one))


async def test_what_was_pushed_is_recognised(gateway: MakeGateway, platform: PlatformHistory) -> None:
    """A callback that did arrive gives the same id again, also past the window of known ids and a restart."""
    section = whatsapp(platform, auth={"token": "t-123456"})
    section["backfill"] |= {"access_key": ACCESS_KEY, "secret": SECRET}
    one = await gateway(ingest={"port": 0, "dedup_window": 0, "callbacks": {"whatsapp": section}})
    pushed = f"{one.url}/callbacks/whatsapp?token=t-123456"
    async with aiohttp.ClientSession() as session, session.post(pushed, data=sample("account-banned")) as response:
        assert 200 == response.status
    await one.kill()
    await one.start()
    run = await backfill(one, "--since", "6d", "--json", "--field", "account_update", "--field", "history")
    assert (0, 2, 1) == (run.code, run.document["callbacks"], run.document["already_stored"]), run.err
    assert {"account_update", "history"} == {question["field"] for question in platform.questions}


async def test_range_is_kept(gateway: MakeGateway, platform: PlatformHistory) -> None:
    """Only callbacks between ``--since`` and ``--until`` come back."""
    one = await start(gateway, whatsapp(platform))
    run = await backfill(one, "--since", "2d", "--until", "1d", "--json")
    assert (0, 1) == (run.code, run.document["callbacks"]), run.err


async def test_callback_that_is_not_understood_is_kept(gateway: MakeGateway, platform: PlatformHistory) -> None:
    """It is stored among the rejected ones, counted with its reason, and does not stop the others."""
    platform.kept.insert(0, ("history", NOW - timedelta(days=4), '{"what": "is this"}'))
    one = await start(gateway, whatsapp(platform))
    run = await backfill(one, "--since", "6d")
    assert 0 == run.code, run.err
    assert "5 callbacks" in run.out
    assert "1  callbacks not understood; they are kept in callbacks.rejected" in run.out
    assert "nxcloud.callback.rejected" in await stored(one)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (web.Response(status=502, text="bad gateway"), "answers 502: bad gateway"),
        (web.Response(text="<html>"), "is not JSON: <html>"),
        (web.json_response({"code": 5, "message": "no such app"}), "no such app"),
        (web.json_response({"code": 0, "data": [{"no": "text"}]}), "no list of texts"),
        (web.json_response([]), "refused the request"),
    ],
    ids=["502", "html", "refusal", "objects", "list"],
)
async def test_answer_that_is_none_ends_the_run(
    gateway: MakeGateway, platform: PlatformHistory, answer: web.Response, said: str
) -> None:
    """The reason is the platform's own, the exit code 1."""
    one = await start(gateway, whatsapp(platform))
    platform.answer = answer
    run = await backfill(one, "--since", "1h")
    assert 1 == run.code
    assert said in run.err
    assert 1 == run.err.count("Error")


async def test_gateway_or_platform_away(gateway: MakeGateway, platform: PlatformHistory) -> None:
    """Each is named; nothing is asked of the platform's store in vain but what the gateway could not take."""
    one = await start(gateway, whatsapp(platform))
    await one.terminate()
    run = await backfill(one, "--since", "6d")
    assert (1, True) == (run.code, "no gateway answers" in run.err), run.err
    one.config["ingest"]["callbacks"]["whatsapp"]["backfill"]["url"] = "http://127.0.0.1:1/"
    await one.start()
    run = await backfill(one, "--since", "6d")
    assert (1, True) == (run.code, "http://127.0.0.1:1/ does not answer" in run.err), run.err


async def test_wrong_credentials_are_named(gateway: MakeGateway, platform: PlatformHistory) -> None:
    """Of the platform by the platform's word; of the gateway with advice."""
    section = whatsapp(platform)
    section["backfill"]["secret"] = "wrong"
    one = await start(gateway, section)
    run = await backfill(one, "--since", "1d")
    assert (1, True) == (run.code, "sign is wrong" in run.err)
    section["backfill"]["secret"] = SECRET
    section["auth"] = {"signature": {"secret": "another", "access_key": ACCESS_KEY}}
    one.write()  # the running gateway still has the old secret: it reads paths at start only
    run = await backfill(one, "--since", "6d")
    assert (1, True) == (run.code, "401" in run.err and "differs from this configuration" in run.err), run.err


async def test_several_accounts_need_a_name(gateway: MakeGateway, platform: PlatformHistory) -> None:
    """Without ``--account`` the command names the accounts; with it the events carry the account."""
    rows = [whatsapp(platform, account=name, path=f"/callbacks/wa-{name}") for name in ("east", "west")]
    one = await start(gateway, rows)
    run = await backfill(one, "--since", "1d")
    assert (2, True) == (run.code, "east, west" in run.err)
    run = await backfill(one, "--since", "1d", "--account", "north")
    assert (2, True) == (run.code, "east, west" in run.err)
    run = await backfill(one, "--since", "6d", "--account", "west", "--json")
    assert (0, "west") == (run.code, run.document["account"]), run.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--since", "8d"), "keeps callbacks for 7 days; the earliest is"),
        (("--since", "1h", "--until", "2h"), "must lie before"),
        (("--since", "1h", "--field", "messages"), "account_update"),
        ((), "--since"),
    ],
)
async def test_wrong_use_is_said(
    gateway: MakeGateway, platform: PlatformHistory, arguments: tuple[str, ...], said: str
) -> None:
    """Exit code 2, and a sentence with what would be right."""
    run = await backfill(await start(gateway, whatsapp(platform)), *arguments)
    assert (2, True) == (run.code, said in run.err), run.err
    assert [] == platform.questions


@rows(
    ("text", "said"),
    [
        ("sms-dr: {backfill: {app_key: a, business_phone: '1', access_key: k, secret: s}}", "only whatsapp has it"),
        ("shop: {decoder: json, topic: t, key: $.id, backfill: {app_key: a, business_phone: '1'}}", "only whatsapp"),
        ("whatsapp: {backfill: {app_key: a, business_phone: '1', access_key: k}}", "secret: is needed"),
        ("whatsapp: {backfill: {app_key: a, business_phone: '1', secret: s}}", "access_key: is needed"),
        ("whatsapp: {backfill: {access_key: k, secret: s}}", "app_key"),
    ],
)
def test_wrong_configuration_is_refused(text: str, said: str) -> None:
    """With the key path, before anything is asked."""
    with pytest.raises(ConfigError, match=said):
        loads(f"ingest: {{callbacks: {{{text}}}}}", {})


@given(
    begin=st.datetimes(timezones=st.just(ZONE), **DAYS),
    length=st.timedeltas(timedelta(), timedelta(days=7)),
)
def test_questions_cover_the_range_without_gap_or_overlap(begin: datetime, length: timedelta) -> None:
    """Every second of the range is in exactly one question of each kind, and no question is longer than a day."""
    found = [query for query in queries(FIELDS, [PHONE], begin, begin + length) if query.field == FIELDS[0]]
    assert found[0].since == begin.replace(microsecond=0)
    assert timedelta() <= found[-1].until - (begin + length) < timedelta(seconds=1)
    for query, following in pairwise(found):
        assert query.until + timedelta(seconds=1) == following.since
    assert all(timedelta() <= query.until - query.since < timedelta(days=1) for query in found)
    assert len(FIELDS) * len(found) == len(list(queries(FIELDS, [PHONE], begin, begin + length)))
