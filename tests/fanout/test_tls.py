from __future__ import annotations

import datetime as dt
import ssl
from ipaddress import ip_address
from pathlib import Path

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gateway.config.settings import ClientTls
from gateway.errors import ConfigError
from gateway.fanout.tls import context
from gateway.log import Record
from tests.fanout.events import entry
from tests.fanout.running import webhook

#: Python 3.13 verifies by RFC 5280 to the letter: section 4.2.1.3 asks an authority's certificate for it.
_SIGNS_CERTIFICATES = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)
RECORD = Record("p", 0, 0.0, *entry(1))


class Authority:
    """A certificate authority for one test."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.certificate = self._sign(self.name, self.key.public_key(), is_authority=True)
        self.file = folder / f"{name}.pem"
        self.file.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))

    def issue(self, name: str) -> Path:
        """A certificate and its key in one file."""
        key = ec.generate_private_key(ec.SECP256R1())
        made = self._sign(
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), key.public_key(), is_authority=False
        )
        file = self.folder / f"{name}.pem"
        file.write_bytes(
            made.public_bytes(serialization.Encoding.PEM)
            + key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return file

    def _sign(self, subject: x509.Name, key: ec.EllipticCurvePublicKey, *, is_authority: bool) -> x509.Certificate:
        now = dt.datetime.now(dt.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
        )
        if is_authority:
            builder = builder.add_extension(_SIGNS_CERTIFICATES, critical=True)
        return builder.sign(self.key, hashes.SHA256())


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
