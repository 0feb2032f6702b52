from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from gateway.admin import auth
from gateway.admin.auth import PAUSE_S, WRONG_TOKENS, WrongTokens
from gateway.admin.server import files
from gateway.telemetry.metrics import METRICS
from tests.admin.running import Running, running, webhook
from tests.gateway.subscriber import Subscriber, refuse
from tests.waiting import turn

TOKEN = "sesame-4d1f"
SECRETS = {
    "url": "path-secret-81c2",
    "query": "query-secret-5b7a",
    "signing": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "header": "header-secret-90ab",
    "callback": "callback-secret-77e0",
    "vendor": "vendor-secret-1c3d",
    "admin": TOKEN,
    "stream": "stream-secret-3fe9",
}
READ = [
    "/api/overview",
    "/api/subscribers",
    "/api/search",
    "/api/search?q=m-1",
    "/api/dead-letters",
    "/api/replays",
    "/api/rejected",
    "/metrics",
]


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[Running]:
    """Secrets wherever the configuration takes one, and a subscriber that fails."""
    async with Subscriber(refuse) as receiver:
        url = f"{receiver.url}/{SECRETS['url']}?key={SECRETS['query']}"
        config: dict[str, Any] = {
            "admin": {"token": TOKEN},
            "ingest": {
                "callbacks": {
                    "sms-dr": {"auth": {"token": SECRETS["callback"]}},
                    "whatsapp": {"auth": {"signature": {"secret": SECRETS["vendor"]}}},
                }
            },
            "subscribers": [
                webhook("billing", url, secrets=[SECRETS["signing"]], headers={"X-Team": SECRETS["header"]}),
                {"name": "feed", "topics": ["sms.dr"], "kind": "stream", "token": SECRETS["stream"]},
                {"name": "plain", "topics": ["sms.dr"], "kind": "stream"},
            ],
        }
        async with running(tmp_path, **config) as started:
            started.headers["Authorization"] = f"Bearer {TOKEN}"
            yield started


async def raw(gateway: Running, method: str, path: str, **headers: str) -> tuple[int, str, dict[str, str]]:
    async with gateway.session.request(method, gateway.url + path, headers=headers) as response:
        return response.status, await response.text(), dict(response.headers)


async def test_nothing_without_the_token(guarded: Running) -> None:
    """Neither data nor whether something exists is told to who has no token."""
    for path in (*READ, "/api/events", "/api/events/" + "0" * 32, "/api/streams/billing", "/nothing"):
        for given in ("", "Bearer", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer \xe9"):
            status, text, headers = await raw(guarded, "GET", path, **({"Authorization": given} if given else {}))
            assert (status, headers["WWW-Authenticate"]) == (401, "Bearer")
            assert TOKEN not in text


async def test_a_streams_token_reads_that_stream_and_nothing_else(guarded: Running) -> None:
    """The admin token reads it too; a token of another kind, another stream or another request does not."""

    async def status(path: str, token: str, method: str = "GET") -> int:
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        async with guarded.session.request(method, guarded.url + path, headers=headers) as response:
            return response.status

    feed, own = "/api/streams/feed", SECRETS["stream"]
    assert (await status(feed, own), await status(feed, TOKEN)) == (200, 200)
    for path in (*READ, "/api/events", "/api/streams/plain", "/api/streams/billing", "/api/streams/nobody", f"{feed}/"):
        assert await status(path, own) == 401, path
    for token in ("", own[:-1], own + "x", own.upper(), "\xe9"):
        assert await status(feed, token) == 401
    for path in (feed, "/api/subscribers/feed/pause"):
        assert await status(path, own, "POST") == 401


async def test_a_streams_token_is_asked_for_where_there_is_no_admin_token(tmp_path: Path) -> None:
    """Whoever set one meant it; what has none stays open on loopback."""
    streams = [
        {"name": "feed", "topics": ["sms.dr"], "kind": "stream", "token": SECRETS["stream"]},
        {"name": "plain", "topics": ["sms.dr"], "kind": "stream"},
    ]
    async with running(tmp_path, subscribers=streams) as gateway:
        for path, token, wanted in (
            ("/api/streams/feed", "", 401),
            ("/api/streams/feed", SECRETS["stream"], 200),
            ("/api/streams/plain", "", 200),
            ("/api/overview", "", 200),
        ):
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            async with gateway.session.get(gateway.url + path, headers=headers) as response:
                assert response.status == wanted, path


async def test_wrong_tokens_are_slow_and_loud_and_right_ones_are_neither(guarded: Running) -> None:
    """Five hundred guesses at a time: counted and answered, few of them at once; the right token gets its answer."""

    def counted() -> float:
        return METRICS.registry.get_sample_value("gateway_admin_unauthenticated_total") or 0.0

    async def guess() -> tuple[int, float]:
        started = time.monotonic()
        status, _, _ = await raw(guarded, "GET", "/api/subscribers", Authorization="Bearer guess")
        return status, time.monotonic() - started

    before, tasks = counted(), len(asyncio.all_tasks())
    with structlog.testing.capture_logs() as lines:
        guesses = asyncio.gather(*(guess() for _ in range(500)))
        await turn()
        right = await raw(guarded, "GET", "/api/subscribers", Authorization=f"Bearer {TOKEN}")
        assert right[0] == 200
        answers = await guesses
    late = [took for status, took in answers if status == 401]
    assert {401, 429} == {status for status, _ in answers}
    assert min(late) >= PAUSE_S
    assert counted() - before == 500
    assert len([line for line in lines if line["event"] == "admin.unauthenticated"]) <= 1
    assert WRONG_TOKENS.waiting == 0
    assert len(asyncio.all_tasks()) < tasks + 400


async def test_a_wrong_token_is_logged_with_its_address_and_without_itself() -> None:
    """The first at once, the next ones as a number."""
    wrong = WrongTokens()
    with structlog.testing.capture_logs() as lines:
        await asyncio.gather(*(wrong.slow_down("192.0.2.1") for _ in range(3)))
    assert [("admin.unauthenticated", "192.0.2.1", 1)] == [
        (line["event"], line["peer"], line["attempts"]) for line in lines
    ]


async def test_no_token_is_no_wrong_token(guarded: Running) -> None:
    """The console's first request has none: it is answered at once and not counted."""
    async with asyncio.timeout(PAUSE_S * 20):
        for _ in range(40):
            assert (await raw(guarded, "GET", "/api/overview"))[0] == 401


async def test_probes_and_the_empty_page_need_none(guarded: Running) -> None:
    """Probes have no token, and a browser cannot send one for a page."""
    for path in ("/healthz", "/readyz", "/", *(f"/static/{name}" for name in files())):
        assert (await raw(guarded, "GET", path))[0] == 200
    assert (await raw(guarded, "POST", "/healthz"))[0] == 401
    assert (await raw(guarded, "GET", "/static/..%2fserver.py", Authorization=f"Bearer {TOKEN}"))[0] == 404


async def test_the_token_is_compared_in_constant_time(guarded: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """By ``hmac.compare_digest``, whole against whole, and by nothing else."""
    compared: list[tuple[bytes, bytes]] = []
    ordinary = hmac.compare_digest

    def spying(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return ordinary(one, other)

    monkeypatch.setattr(auth.hmac, "compare_digest", spying)
    assert (await raw(guarded, "GET", "/api/overview", Authorization="Bearer guess"))[0] == 401
    assert compared == [(b"guess", TOKEN.encode())]
    compared.clear()
    assert (await raw(guarded, "GET", "/api/streams/feed", Authorization="Bearer guess"))[0] == 401
    assert compared == [(b"guess", TOKEN.encode()), (b"guess", SECRETS["stream"].encode())]


async def test_other_sites_change_nothing(gateway: Running) -> None:
    """Without a token, on loopback: no form and no script of another site can pause a subscriber."""
    json = {"Content-Type": "application/json"}
    for headers, status in (
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "multipart/form-data; boundary=x"}, 415),
        ({}, 415),
        ({**json, "Sec-Fetch-Site": "cross-site"}, 403),
        ({**json, "Sec-Fetch-Site": "same-site"}, 403),
        ({**json, "Origin": "https://evil.example"}, 403),
        ({**json, "Origin": "null"}, 403),
    ):
        assert (await raw(gateway, "POST", "/api/subscribers/billing/pause", **headers))[0] == status
    assert (await gateway.get("/api/subscribers"))["subscribers"][0]["state"] != "paused"
    for headers in (json, {**json, "Sec-Fetch-Site": "same-origin", "Origin": gateway.url}):
        assert (await raw(gateway, "POST", "/api/subscribers/billing/pause", **headers))[0] == 200
    preflight = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    _, _, answered = await raw(gateway, "OPTIONS", "/api/subscribers/billing/pause", **preflight)
    assert not any(name.lower().startswith("access-control") for name in answered)


async def test_loopback_is_the_same_for_the_token_and_for_names(tmp_path: Path) -> None:
    """A host that needs no token, as only this machine reaches it, looks at names, however it is written."""
    async with running(tmp_path, admin={"host": "LocalHost"}) as gateway:
        gateway.url = f"http://localhost:{gateway.app.admin.port}"
        assert (await raw(gateway, "GET", "/api/overview"))[0] == 200
        assert (await raw(gateway, "GET", "/api/overview", Host="evil.example"))[0] == 403


async def test_names_that_were_made_to_point_here_are_refused(gateway: Running) -> None:
    """DNS rebinding: on loopback only names of this machine are answered, whatever is asked for."""
    ours = ("127.0.0.1:8081", "localhost:8081", "[::1]:8081", "console.localhost", "10.1.2.3:8081")
    others = ("evil.example:8081", "127.0.0.1.evil.example", "localhost.evil.example", "")
    for path in ("/", "/api/overview", "/metrics"):
        for host in ours:
            assert (await raw(gateway, "GET", path, Host=host))[0] == 200
        for host in others:
            assert (await raw(gateway, "GET", path, Host=host))[0] == 403


async def test_every_answer_is_locked_down(guarded: Running) -> None:
    """Pages, documents, streams and errors carry the same headers; caches keep nothing but the console's files."""
    token = {"Authorization": f"Bearer {TOKEN}"}
    for method, path, more in (
        ("GET", "/", {}),
        ("GET", "/static/console.js", {}),
        ("GET", "/api/overview", token),
        ("GET", "/api/overview", {}),
        ("GET", "/nothing", token),
        ("DELETE", "/api/overview", token),
        ("GET", "/healthz", {}),
    ):
        _, _, headers = await raw(guarded, method, path, **more)
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert (headers["X-Frame-Options"], headers["X-Content-Type-Options"]) == ("DENY", "nosniff")
        assert headers["Cache-Control"] == ("no-cache" if path in ("/", "/static/console.js") else "no-store")
        assert headers["Server"] == "gateway"
    async with guarded.session.get(f"{guarded.url}/api/events", headers=token) as stream:
        assert stream.headers["X-Frame-Options"] == "DENY"


async def test_no_secret_is_readable_anywhere(guarded: Running) -> None:
    """Every document, error and log-like text, with secrets in all places of the configuration."""
    token = {"Authorization": f"Bearer {TOKEN}"}
    form = {"messageid": "m-1", "phone": "6281234567890", "result": "DELIVRD", "status": "1"}
    for message_id in ("m-1", ""):
        url = f"{guarded.ingest_url}/callbacks/sms-dr?token={SECRETS['callback']}"
        async with guarded.session.post(url, data={**form, "messageid": message_id}) as response:
            assert response.status == (200 if message_id else 400)
    letters = await guarded.until("/api/dead-letters", lambda found: found["letters"])
    await guarded.indexed()
    (rejected,) = (await guarded.get("/api/rejected"))["rejected"]
    event_id = letters["letters"][0]["id"]
    seen = [
        (await raw(guarded, "GET", path, **token))[1]
        for path in (
            *READ,
            f"/api/events/{event_id}",
            f"/api/events/{rejected['id']}",
            f"/api/dead-letters/billing/{event_id}",
            "/healthz",
            "/readyz",
            "/",
            "/nothing",
            "/api/streams/nobody",
        )
    ]
    for path, body in (
        ("/api/replay", {"subscriber": "billing", "since": 0, "dry_run": True}),
        ("/api/replay", {"subscriber": "nobody"}),
        ("/api/rejected/replay", {"dry_run": True}),
        ("/api/subscribers/billing/pause", {}),
    ):
        async with guarded.session.post(guarded.url + path, json=body, headers=token) as response:
            seen.append(await response.text())
    for name, secret in SECRETS.items():
        for text in seen:
            assert secret not in text, name
            assert secret.removeprefix("whsec_") not in text, name


async def test_large_bodies_and_odd_ones_are_refused(guarded: Running) -> None:
    token = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    for body, status in ((b"[" * 300_000, 413), (b"{", 400), (b"null", 400), (b"\xff", 400), (b"[" * 20_000, 400)):
        async with guarded.session.post(f"{guarded.url}/api/replay", data=body, headers=token) as response:
            assert response.status == status


async def test_a_slow_reader_of_the_live_tail_costs_nothing(gateway: Running) -> None:
    """What it does not read is passed over, and nobody waits for it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.app.admin.port, limit=1024)
    writer.write(b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert b"200" in await reader.readline()
    for number in range(300):
        assert await gateway.sms(number, result="x" * 2000) == 200
    writer.close()


async def test_what_is_no_http_is_refused_without_a_trace(guarded: Running, caplog: pytest.LogCaptureFixture) -> None:
    """Anyone can send such bytes: they do not fill the log with errors."""
    address = guarded.url.removeprefix("http://").split(":")
    for data in (
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"\x16\x03\x01\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\n\r\n",
    ):
        reader, writer = await asyncio.open_connection(address[0], int(address[1]))
        writer.write(data)
        assert b" 400 " in await reader.readline()
        writer.close()
    assert [] == [record for record in caplog.records if record.levelname == "ERROR"]
