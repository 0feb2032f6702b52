"""The vendor's signatures: its own vectors, and that one flipped bit refuses."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gateway.callbacks import CallbackRequest
from gateway.callbacks.sender_signatures import verify
from gateway.callbacks.signature import SignaturePolicy, callbot_signature, general_signature
from gateway.errors import Unauthenticated
from tests.callbacks.samples import FOLDER, load
from tests.rows import rows

NOW = datetime(2024, 12, 24, 0, 31, 40, tzinfo=UTC)  # 1735000300


@pytest.mark.parametrize(
    ("body", "sign"),
    [
        ('{"name":"牛小信","id":10001}', "87c3560d3331ae23f1021e2025722354"),
        ('{"id":10001,"name":"牛小信"}', "7750759da06333f20d0640be09355e34"),
        ('{"id": 10001, "name": "牛小信"}', "d0c24a9886c629330d7f3f2056c65bc2"),
    ],
)
def test_the_vendors_vectors_of_the_general_signature(body: str, sign: str) -> None:
    """The vendor's published numbers come out; order of keys and blanks in the body matter."""
    made = general_signature(
        "abciiiko2k3", access_key="fme2na3kdi3ki", action="send", biz_type="1", ts="1655710885431", body=body.encode()
    )
    assert sign == made


@pytest.mark.parametrize(
    ("algorithm", "sign"),
    [
        ("md5", "5bd8116a210dc2a37eb5f4b05cda6616"),
        ("sha256", "6f5f91deaf87db7dc2c37f3a2628206feb69e42a9dfecd9fd9d852d30226aaf7"),
    ],
)
def test_the_did_vectors(algorithm: str, sign: str) -> None:
    """The signed DID example verifies with both hashes, announced, pinned, or told by its length alone."""
    request = load(FOLDER / "did-sms" / "signed-incoming").request
    for headers, pinned in (({"algorithm": algorithm}, None), ({}, algorithm), ({}, None)):
        policy = SignaturePolicy("general", ("demoAS01",), algorithm=pinned)  # type: ignore[arg-type]
        verify(policy, request._replace(headers={**request.headers, **headers, "sign": sign}), NOW)


@pytest.mark.parametrize(
    ("algorithm", "sign"),
    [
        ("MD5", "06B5259CBC9DC3432952C6DB1CB30FDD"),
        ("SHA256", "58E4549C3150C7D10520CA80C577CFC4427792934D9C31D6B9014243A7C30BA7"),
    ],
)
def test_the_callbot_vectors(algorithm: str, sign: str) -> None:
    """The Callbot task example verifies with both hashes, announced, pinned, or told by its length alone."""
    request = load(FOLDER / "callbot-task" / "completed").request
    for headers, pinned in (({"algorithm": algorithm}, None), ({}, algorithm.lower()), ({}, None)):
        policy = SignaturePolicy("callbot", ("demoSecretKey0001",), algorithm=pinned)  # type: ignore[arg-type]
        verify(policy, request._replace(headers={**request.headers, **headers, "sign": sign}), NOW)


def test_the_whatsapp_vector() -> None:
    """The signed WhatsApp example verifies."""
    request = load(FOLDER / "whatsapp" / "status-delivered").request
    verify(SignaturePolicy("general", ("demoAS01",), access_key="demoAK01"), request, NOW)


@pytest.mark.parametrize(
    ("case", "algorithm", "sign"),
    [
        ("upper-hex-sha256", "sha256", "A31966C1594F5D0B1DA954BC4189513570CA0577CA0576D9C4F5309772DB4F14"),
        ("other-algorithm", "default", "e29c04e8251432abde7b96972759df40"),
    ],
)
def test_whatsapp_as_its_verifier_takes_it(case: str, algorithm: str, sign: str) -> None:
    """Upper-case hex, and a word for the algorithm that is none: the vendor's own verifier accepts both."""
    body = (
        b'{"business_phone":"85230000001","statuses":[{"id":"sgn-sign-CASE","status":"sent","timestamp":"1660019986",'
        b'"recipient_id":"628110000001"}]}'
    ).replace(b"CASE", case.encode())
    headers = {"accesskey": "demoAK01", "action": "webhook", "biztype": "2", "ts": "1735000011000"}
    headers |= {"sign": sign, "algorithm": algorithm}
    request = CallbackRequest("POST", "/", b"", headers, body, NOW)
    verify(SignaturePolicy("general", ("demoAS01",)), request, NOW)


def signed() -> Iterator[tuple[SignaturePolicy, CallbackRequest, tuple[str, ...]]]:
    """One rightly signed request of each scheme, with the headers that the signature covers."""
    general = load(FOLDER / "did-sms" / "signed-incoming").request
    callbot = load(FOLDER / "callbot-task" / "completed").request
    yield SignaturePolicy("general", ("demoAS01",)), general, ("accesskey", "action", "biztype", "ts", "sign")
    yield SignaturePolicy("callbot", ("demoSecretKey0001",)), callbot, ("requestid", "uuid", "createts", "sign")
    for encoding, prefix in (("hex", "sha256="), ("base64", "")):
        digest = hmac.digest(b"s3cret", callbot.body, "sha256")
        text = digest.hex() if encoding == "hex" else base64.b64encode(digest).decode()
        yield (
            SignaturePolicy("hmac", ("s3cret",), header="X-Sign-256", encoding=encoding, prefix=prefix),  # type: ignore[arg-type]
            callbot._replace(headers={"x-sign-256": prefix + text}),
            ("x-sign-256",),
        )


SIGNED = rows(("policy", "request_", "covered"), list(signed()), ids=["general", "callbot", "hex", "base64"])


def flipped(value: bytes) -> Iterator[bytes]:
    """The value with each of its bits flipped, one at a time."""
    for index in range(len(value)):
        for bit in range(8):
            yield value[:index] + bytes([value[index] ^ 1 << bit]) + value[index + 1 :]


@SIGNED
def test_the_unchanged_request_passes(
    policy: SignaturePolicy, request_: CallbackRequest, covered: tuple[str, ...]
) -> None:
    """What the following tests change verifies before the change, under any of several secrets too."""
    verify(policy, request_, NOW)
    verify(replace(policy, secrets=("old", *policy.secrets)), request_, NOW)
    verify(replace(policy, secrets=(*policy.secrets, "new")), request_, NOW)


@SIGNED
def test_a_flipped_bit_in_the_body_refuses(
    policy: SignaturePolicy, request_: CallbackRequest, covered: tuple[str, ...]
) -> None:
    """Every single bit of the body counts."""
    for body in flipped(request_.body):
        with pytest.raises(Unauthenticated):
            verify(policy, request_._replace(body=body), NOW)


@SIGNED
def test_a_flipped_bit_in_a_header_refuses(
    policy: SignaturePolicy, request_: CallbackRequest, covered: tuple[str, ...]
) -> None:
    """Every single bit of every covered header counts, except the letter case of a signature in hex."""
    for name in covered:
        is_hex = name == covered[-1] and policy.encoding == "hex"
        for value in flipped(request_.headers[name].encode()):
            text = value.decode("utf-8", "surrogateescape")
            headers = {**request_.headers, name: text}
            prefix, given = text[: len(policy.prefix)], text[len(policy.prefix) :]
            if is_hex and policy.prefix + given.lower() == request_.headers[name].lower() and prefix == policy.prefix:
                verify(policy, request_._replace(headers=headers), NOW)
                continue
            with pytest.raises(Unauthenticated):
                verify(policy, request_._replace(headers=headers), NOW)


@SIGNED
def test_spaces_around_a_header_do_not_count(
    policy: SignaturePolicy, request_: CallbackRequest, covered: tuple[str, ...]
) -> None:
    """They are no part of a header's value (RFC 9110, 5.5)."""
    for name in covered:
        verify(policy, request_._replace(headers={**request_.headers, name: f" \t{request_.headers[name]} "}), NOW)


@SIGNED
def test_a_flipped_bit_in_the_secret_refuses(
    policy: SignaturePolicy, request_: CallbackRequest, covered: tuple[str, ...]
) -> None:
    """Every single bit of the secret counts."""
    for secret in flipped(policy.secrets[0].encode()):
        with pytest.raises(Unauthenticated):
            verify(replace(policy, secrets=(secret.decode("utf-8", "surrogateescape"),)), request_, NOW)


@SIGNED
def test_a_missing_header_refuses(policy: SignaturePolicy, request_: CallbackRequest, covered: tuple[str, ...]) -> None:
    """Without any one of its headers a signature is none, and the refusal names it."""
    for name in covered:
        headers = {key: value for key, value in request_.headers.items() if key != name}
        with pytest.raises(Unauthenticated, match=name):
            verify(policy, request_._replace(headers=headers), NOW)


def test_the_window() -> None:
    """A signed time outside the window is refused, in both schemes; without a window it is not looked at."""
    for policy, request, _ in list(signed())[:2]:
        stamp = int(request.headers.get("createts") or int(request.headers["ts"]) // 1000)
        moment = datetime.fromtimestamp(stamp, UTC)
        narrow = replace(policy, window_s=60.0)
        for offset_s in (-60, 0, 59):
            verify(narrow, request, moment + timedelta(seconds=offset_s))
        for offset_s in (-61, 62):
            with pytest.raises(Unauthenticated, match="window"):
                verify(narrow, request, moment + timedelta(seconds=offset_s))
        verify(policy, request, moment + timedelta(days=365))


def test_a_signed_time_that_is_no_number() -> None:
    """A rightly signed text in the place of the time is refused, with a window and without: it could hold a body."""
    body = b"{}"
    sign = callbot_signature("s", request_id="r", uuid="u", create_ts="soon", body=body)
    headers = {"requestid": "r", "uuid": "u", "createts": "soon", "sign": sign}
    request = CallbackRequest("POST", "/", b"", headers, body, NOW)
    for window_s in (None, 60.0):
        with pytest.raises(Unauthenticated, match="number"):
            verify(SignaturePolicy("callbot", ("s",), window_s=window_s), request, NOW)


def test_a_signed_time_past_all_time() -> None:
    """More digits than a time has are outside of any window, and nothing else."""
    sign = general_signature("s", access_key="k", action="a", biz_type="1", ts="9" * 5000, body=b"{}")
    headers = {"accesskey": "k", "action": "a", "biztype": "1", "ts": "9" * 5000, "sign": sign}
    request = CallbackRequest("POST", "/", b"", headers, b"{}", NOW)
    verify(SignaturePolicy("general", ("s",)), request, NOW)
    with pytest.raises(Unauthenticated, match="window"):
        verify(SignaturePolicy("general", ("s",), window_s=60), request, NOW)


@rows("content_type", [None, "multipart/form-data; boundary=x", "MULTIPART/FORM-DATA"])
@rows("body", [b"", b"--x--", b"{}"])
def test_the_body_is_left_out_of_the_text_only_when_it_is_empty(content_type: str | None, body: bytes) -> None:
    """Whatever the content type says, a body that is there must be signed."""
    text = b"accessKey=k&action=dr&bizType=4&ts=1&accessSecret=s"
    headers = {"accesskey": "k", "action": "dr", "biztype": "4", "ts": "1", "sign": hashlib.md5(text).hexdigest()}
    if content_type:
        headers["content-type"] = content_type
    request = CallbackRequest("POST", "/", b"", headers, body, NOW)
    if not body:
        verify(SignaturePolicy("general", ("s",)), request, NOW)
        return
    with pytest.raises(Unauthenticated, match="signature is wrong"):
        verify(SignaturePolicy("general", ("s",)), request, NOW)


@rows("digest", ["md5", "sha1", "sha256", "sha512"])
@rows("written", [str.lower, str.upper, str.title])
def test_every_digest_of_other_senders(digest: str, written: Callable[[str], str]) -> None:
    """The four digests verify, in hex of any letter case."""
    headers = {"x-signature": written(hmac.new(b"s", b"body", digest).hexdigest())}
    policy = SignaturePolicy("hmac", ("s",), digest=digest)  # type: ignore[arg-type]
    verify(policy, CallbackRequest("POST", "/", b"", headers, b"body", NOW), NOW)


@rows("written", [str.lower, str.upper, str.title])
@rows(
    ("announced", "algorithm"),
    [("sha256", "sha256"), ("Sha256", "sha256"), ("SHA256 ", "sha256"), ("sHA256", "sha256"), ("md5", "md5"),
     ("MD5", "md5"), ("default", "md5"), ("sha1", "md5"), ("sha-256", "md5"), ("", "md5"), (None, "md5"),
     (None, "sha256"), ("SHA-256", "sha256")],
)  # fmt: skip
@rows("scheme", ["general", "callbot"])
def test_the_vendors_own_verifier_is_no_more_lenient(
    scheme: str, announced: str | None, algorithm: Any, written: Callable[[str], str]
) -> None:
    """SHA-256 in any letter case, MD5 for any other word, and the signature in any letter case; as long as SHA-256 is
    by its length alone nothing else, it is that whatever the word.
    """
    if scheme == "general":
        headers = {"accesskey": "k", "action": "a", "biztype": "2", "ts": "1"}
        sign = general_signature("s", access_key="k", action="a", biz_type="2", ts="1", body=b"{}", algorithm=algorithm)
    else:
        headers = {"requestid": "r", "uuid": "u", "createts": "1"}
        sign = callbot_signature("s", request_id="r", uuid="u", create_ts="1", body=b"{}", algorithm=algorithm)
    headers |= {"sign": written(sign)} | ({"algorithm": announced} if announced is not None else {})
    request = CallbackRequest("POST", "/", b"", headers, b"{}", NOW)
    verify(SignaturePolicy(scheme, ("s",)), request, NOW)  # type: ignore[arg-type]
    other = "md5" if algorithm == "sha256" else "sha256"
    verify(SignaturePolicy(scheme, ("s",), algorithm=algorithm), request, NOW)  # type: ignore[arg-type]
    with pytest.raises(Unauthenticated):
        verify(SignaturePolicy(scheme, ("s",), algorithm=other), request, NOW)  # type: ignore[arg-type]


def test_an_announced_sha256_is_not_an_md5() -> None:
    """As in the vendor's own verifier."""
    policy, request, _ = next(signed())
    with pytest.raises(Unauthenticated):
        verify(policy, request._replace(headers={**request.headers, "algorithm": "sha256"}), NOW)


@rows("sign", ["", " ", "0" * 32, "0" * 64, "é" * 32, "\udcff", "ﬀ" * 16])
def test_what_is_no_signature_is_refused(sign: str) -> None:
    """Any text in its place is a refusal, not a fault of ours."""
    for policy, request, covered in signed():
        with pytest.raises(Unauthenticated):
            verify(policy, request._replace(headers={**request.headers, covered[-1]: sign}), NOW)


def test_another_access_key() -> None:
    """A key pair other than the configured one is refused, even rightly signed."""
    for policy, request, _ in list(signed())[:2]:
        with pytest.raises(Unauthenticated, match="is not the one configured"):
            verify(replace(policy, access_key="other"), request, NOW)


@pytest.mark.parametrize("secrets", [(), ("",), ("a", "")])
def test_a_policy_without_a_secret(secrets: tuple[str, ...]) -> None:
    """A policy that could never refuse, or never accept, cannot be made."""
    with pytest.raises(ValueError, match="secret"):
        SignaturePolicy("general", secrets)
