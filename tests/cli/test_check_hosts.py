"""``gateway check`` and the hosts of subscribers: real servers, and each thing that can be wrong with one."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from gateway.cli import checking
from gateway.cli.subscriber_hosts import look
from gateway.config.settings import Settings, Subscriber
from gateway.finding import Finding
from tests.fanout.authority import Authority
from tests.fanout.receiver import Receiver
from tests.fanout.running import SECRET
from tests.ports import free_port
from tests.rows import rows

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def webhook(url: str, **more: Any) -> Subscriber:
    return Subscriber.model_validate(
        {"name": "billing", "topics": ["sms.dr"], "url": url, "secrets": [SECRET], "allow_private": True, **more}
    )


async def one(url: str, **more: Any) -> tuple[str, str]:
    """Level and words of the only finding."""
    (found,) = await look(3, webhook(url, **more))
    assert "subscribers[3].url" == found.path
    return found.level, f"{found.text}; {found.advice}"


@asynccontextmanager
async def talking(talk: Talk, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A server that does to each connection as the test says; its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await talk(reader, writer)
        except OSError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield server.sockets[0].getsockname()[1]


def saying(answer: bytes) -> Talk:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()

    return talk


async def closing(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
    """Say nothing at all."""


async def hanging(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    await reader.read()


def dated(at: float, status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\ndate: {formatdate(at, usegmt=True)}\r\nContent-Length: 0\r\n\r\n".encode()


def server_tls(file: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(file)
    return context


async def test_a_subscriber_that_answers_is_good_and_gets_no_event() -> None:
    """One HEAD without a body, without credentials; any status will do."""
    asked: list[web.BaseRequest] = []
    async with Receiver() as receiver:

        async def serve(request: web.BaseRequest) -> web.StreamResponse:
            asked.append(request)
            return web.Response(status=405)

        runner = web.ServerRunner(web.Server(serve), shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port = runner.addresses[0][1]
        level, text = await one(f"http://127.0.0.1:{port}/hook?x=%2F", headers={"Authorization": "Bearer hidden"})
        await runner.cleanup()
        assert ("ok", True) == (level, "agrees with this machine's" in text)
        assert [] == receiver.posts
    (request,) = asked
    assert ("HEAD", "/hook?x=%2F", False) == (request.method, request.raw_path, request.can_read_body)
    assert "Authorization" not in request.headers
    assert not any(name.lower().startswith("webhook-") for name in request.headers)


async def test_a_private_address_is_refused_before_anything_connects() -> None:
    """The rule is a delivery's: only ``allow_private`` or ``allow`` lets it through."""
    came: list[int] = []

    async def talk(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
        came.append(1)

    async with talking(talk) as port:
        level, text = await one(f"http://127.0.0.1:{port}/", allow_private=False)
        assert "problem" == level
        assert "127.0.0.1 is 127.0.0.1, a loopback address, and refused; set allow_private" in text
        assert [] == came
        level, _ = await one(f"http://127.0.0.1:{port}/", allow_private=False, allow=["127.0.0.0/8"])
        assert "problem" != level
        assert [] != came


@pytest.mark.parametrize(
    ("hours", "level", "said"),
    [
        (-1.0, "problem", "has expired; its owner has to renew it"),
        (24.0 * 5, "warning", "expires in 4 days"),
        (24.0 * 90, "ok", "is good for 89 more days"),
    ],
)
async def test_the_end_of_a_certificate_is_told_in_time(tmp_path: Path, hours: float, level: str, said: str) -> None:
    """Expired fails, soon warns, later is told in days."""
    authority = Authority(tmp_path, "authority")
    async with talking(saying(dated(time.time())), server_tls(authority.issue("server", hours=hours))) as port:
        found = await look(0, webhook(f"https://127.0.0.1:{port}/", tls={"ca_file": str(authority.file)}))
    assert level == found[0].level
    assert said in f"{found[0].text}; {found[0].advice}"


async def test_a_certificate_of_another_name_and_one_that_is_not_trusted(tmp_path: Path) -> None:
    """Two reasons, and two things to do."""
    authority, other = Authority(tmp_path, "authority"), Authority(tmp_path, "other")
    file = authority.issue("server", address="127.0.0.2")
    async with talking(saying(dated(time.time())), server_tls(file)) as port:
        level, text = await one(f"https://127.0.0.1:{port}/", tls={"ca_file": str(authority.file)})
        assert ("problem", True) == (level, "is for another name" in text)
        level, text = await one(f"https://127.0.0.1:{port}/", tls={"ca_file": str(other.file)})
        assert ("problem", True) == (level, "is not trusted" in text and "give its authority in tls.ca_file" in text)


async def test_a_receiver_that_asks_for_our_certificate(tmp_path: Path) -> None:
    """TLS 1.3 says so only after the handshake; with the certificate all is well."""
    authority = Authority(tmp_path, "authority")
    context = server_tls(authority.issue("server", hours=24 * 90))
    context.load_verify_locations(authority.file)
    context.verify_mode = ssl.CERT_REQUIRED
    ours = {"ca_file": str(authority.file)}
    async with talking(saying(dated(time.time())), context) as port:
        level, text = await one(f"https://127.0.0.1:{port}/", tls=ours)
        assert ("problem", True) == (
            level,
            "ends the connection after the TLS handshake" in text and "tls.cert_file" in text,
        )
        mine = {**ours, "cert_file": str(authority.issue("gateway"))}
        found = await look(0, webhook(f"https://127.0.0.1:{port}/", tls=mine))
    assert {"ok"} == {finding.level for finding in found}


async def test_the_wrong_scheme_is_told_either_way(tmp_path: Path) -> None:
    """TLS against plain HTTP, and the reverse."""
    authority = Authority(tmp_path, "authority")
    async with talking(saying(dated(time.time()))) as port:
        level, text = await one(f"https://127.0.0.1:{port}/")
        assert ("problem", True) == (level, "speaks without TLS; write http://" in text)
    async with talking(saying(dated(time.time())), server_tls(authority.issue("server"))) as port:
        level, text = await one(f"http://127.0.0.1:{port}/")
        assert ("problem", True) == (level, "speaks TLS, and the url says http; write https://" in text)


@rows(
    ("off_s", "secrets", "level"),
    [(0.0, [SECRET], "ok"), (60.0, [SECRET], "warning"), (-3600.0, [SECRET], "problem"), (3600.0, [], "warning")],
)
async def test_a_clock_that_is_off_is_told_by_how_much(off_s: float, secrets: list[str], level: str) -> None:
    """Past five minutes a receiver that checks signatures refuses them all; without secrets nothing is signed."""
    async with talking(saying(dated(time.time() + off_s, "404 Not Found"))) as port:
        found, text = await one(f"http://127.0.0.1:{port}/", secrets=secrets)
    assert level == found
    if level != "ok":
        direction = "ahead of" if off_s > 0 else "behind"
        seconds = int(text.partition(" is ")[2].partition(" s ")[0])
        assert abs(off_s) - 30 < seconds <= abs(off_s) + 1
        assert f"{direction} this machine's" in text


@rows(
    ("talk", "level", "said"),
    [
        (closing, "unknown", "its clock is not known"),
        (hanging, "unknown", "its clock is not known"),
        (saying(b"HTTP/1.0 200 OK\r\n\r\n"), "unknown", "the answer has no Date"),
        (saying(b"HTTP/1.0 200 OK\r\nDate: yesterday\r\n\r\n"), "unknown", "the answer has no Date"),
        (saying(b"220 mail.example.com ESMTP\r\n\r\n"), "problem", "something that is not HTTP"),
        (saying(b"x" * 200_000), "unknown", "its clock is not known"),
        (saying(b"HTTP/1.1 200 OK\r\nx: " + b"x" * 200_000), "unknown", "its clock is not known"),
    ],
)
async def test_what_is_not_known_is_never_good(talk: Talk, level: str, said: str) -> None:
    """A host that can be connected to and says nothing of use is unknown; what is no web server is a problem."""
    async with talking(talk) as port:
        found, text = await one(f"http://127.0.0.1:{port}/")
    assert level == found
    assert said in text


async def test_nobody_there() -> None:
    """A closed port, and a name that there is not."""
    assert "connection refused; nothing listens there" in (await one(f"http://127.0.0.1:{free_port()}/"))[1]
    assert "the name nobody.invalid cannot be resolved" in (await one("https://nobody.invalid/"))[1]


async def test_findings_are_in_the_order_of_the_file_and_hosts_are_looked_at_together() -> None:
    """Forty hosts that hang take no longer than one."""
    async with talking(hanging) as port:
        subscribers = [webhook(f"http://127.0.0.1:{port}/{number}", name=f"s{number}") for number in range(40)]
        began = time.monotonic()
        found = await checking.look(Settings(subscribers=subscribers), "run", None)
        assert time.monotonic() - began < checking.CHECK_S
    paths = [one.path for one in checking.in_order(found) if one.path.startswith("subscribers")]
    assert [f"subscribers[{number}].url" for number in range(40)] == paths


async def test_roles_reach_only_what_they_use(tmp_path: Path) -> None:
    """``serve`` delivers nothing, ``fanout`` has no journal."""
    settings = Settings(subscribers=[webhook(f"http://127.0.0.1:{free_port()}/")])

    async def sections(role: Any) -> set[str]:
        return {one.path.partition("[")[0].partition(".")[0] for one in await checking.look(settings, role, None)}

    assert {"journal"} == await sections("serve")
    assert {"subscribers"} == await sections("fanout")
    assert {"journal", "subscribers"} == await sections("run")


async def test_streams_and_files_have_no_host(tmp_path: Path) -> None:
    """A stream is fetched; the folder of a file has to be there to be written."""
    stream = Subscriber.model_validate({"name": "a", "topics": ["sms.dr"], "kind": "stream"})
    (tmp_path / "taken").write_text("")
    good, bad = (
        Subscriber.model_validate({"name": name, "topics": ["sms.dr"], "kind": "file", "path": str(tmp_path / path)})
        for name, path in (("b", "out/events.jsonl"), ("c", "taken/events.jsonl"))
    )
    found = await checking.look(Settings(subscribers=[stream, good, bad]), "fanout", None)
    assert [("subscribers[0]", "ok"), ("subscribers[1].path", "ok"), ("subscribers[2].path", "problem")] == [
        (one.path, one.level) for one in found
    ]


def test_order_is_by_section_then_by_place() -> None:
    """Ten stands behind nine, and a section that nobody knows at the end."""
    paths = ["subscribers[10].url", "elsewhere", "subscribers[9].url", "kafka.security", "ingest.callbacks"]
    shown = [one.path for one in checking.in_order(Finding("ok", path, "x") for path in paths)]
    assert ["ingest.callbacks", "kafka.security", "subscribers[9].url", "subscribers[10].url", "elsewhere"] == shown
