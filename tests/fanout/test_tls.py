from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from aiohttp import web

from gateway.config.sections import ClientTls
from gateway.errors import ConfigError
from gateway.fanout.tls import context
from gateway.log import Record
from tests.fanout.authority import Authority
from tests.fanout.events import entry
from tests.fanout.running import webhook

RECORD = Record("p", 0, 0.0, *entry(1))


async def attempt(tmp_path: Path, tls: ClientTls, server: ssl.SSLContext) -> tuple[int | None, str | None]:
    async def answer(_: web.BaseRequest) -> web.StreamResponse:
        return web.Response()

    runner = web.ServerRunner(web.Server(answer), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=server).start()
    sink = webhook(f"https://127.0.0.1:{runner.addresses[0][1]}/", tls=context(tls))
    result = await sink.attempt(RECORD, is_replay=False)
    await sink.close()
    await runner.cleanup()
    return result.status, result.error


async def test_certificates_are_checked_against_the_subscribers_authority(tmp_path: Path) -> None:
    """With its ``ca_file`` a private certificate is good; without, or with another one, it is not."""
    ours, other = Authority(tmp_path, "ours"), Authority(tmp_path, "other")
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(ours.issue("server"))
    assert await attempt(tmp_path, ClientTls(ca_file=str(ours.file)), server) == (200, None)
    assert await attempt(tmp_path, ClientTls(ca_file=str(other.file)), server) == (None, "tls")
    assert await attempt(tmp_path, ClientTls(), server) == (None, "tls")


async def test_mutual_tls_shows_our_certificate(tmp_path: Path) -> None:
    """A receiver that asks for a certificate gets ours, and refuses us without."""
    authority = Authority(tmp_path, "authority")
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(authority.file))
    server.verify_mode = ssl.CERT_REQUIRED
    server.load_cert_chain(authority.issue("server"))
    mine = str(authority.issue("gateway"))
    assert await attempt(tmp_path, ClientTls(ca_file=str(authority.file), cert_file=mine), server) == (200, None)
    status, error = await attempt(tmp_path, ClientTls(ca_file=str(authority.file)), server)
    assert status is None
    assert error in {"tls", "disconnected"}


@pytest.mark.parametrize("key", ["ca_file", "cert_file"])
def test_files_that_cannot_be_used_are_named(tmp_path: Path, key: str) -> None:
    """Missing or with something else in them: a sentence with the key, at configuration time."""
    (tmp_path / "junk.pem").write_text("junk")
    for path in (tmp_path / "junk.pem", tmp_path / "missing.pem"):
        with pytest.raises(ConfigError, match=f"tls.{key}: .*{path.name}"):
            context(ClientTls(**{key: str(path)}))
