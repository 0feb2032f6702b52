"""Signatures of other senders: the vectors that they publish, and what is refused."""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.callbacks import CallbackRequest
from gateway.callbacks.payload import read
from gateway.callbacks.sender_signatures import PRESETS, stripe_signature, twilio_signature, verify
from gateway.callbacks.signature import SignaturePolicy
from gateway.errors import CallbackRejected, Unauthenticated
from gateway.signing import Signer, public_key
from tests.rows import rows

STANDARD = SignaturePolicy(
    "standard-webhooks", ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",), header="webhook", window_s=300
)
STRIPE = SignaturePolicy("stripe", ("whsec_test",), window_s=300)
SLACK = SignaturePolicy("slack", ("8f742231b10e8888abcd99yyyzzz85a5",), window_s=300)
TWILIO = SignaturePolicy("twilio", ("12345",), url="https://mycompany.com/myapp.php?foo=1&bar=2")
SLACK_BODY = (
    b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&"
    b"channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&"
    b"response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&"
    b"trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
)
CALL = {
    "CallSid": "CA1234567890ABCDE",
    "Caller": "+14158675309",
    "Digits": "1234",
    "From": "+14158675309",
    "To": "+18005551212",
}


def preset(name: str, secret: str) -> SignaturePolicy:
    header, digest, encoding, prefix = PRESETS[name]
    return SignaturePolicy("hmac", (secret,), header=header, digest=digest, encoding=encoding, prefix=prefix)


def request(body: bytes, **headers: str) -> CallbackRequest:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return CallbackRequest("POST", "/callbacks/x", b"", named, body, datetime.now(UTC))


#: Policy, request and time: by Standard Webhooks' specification, GitHub's "Validating webhook deliveries" (Meta signs
#: alike), Slack's "Verifying requests from Slack", and the tests of Twilio's own libraries.
VECTORS = {
    "standard-webhooks": (
        STANDARD,
        request(
            b'{"test": 2432232314}',
            webhook_id="msg_p5jXN8AQM9LWM0D4loKWxJek",
            webhook_timestamp="1614265330",
            webhook_signature="v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        ),
        1614265330,
    ),
    "svix": (
        replace(STANDARD, header="svix"),
        request(
            b'{"test": 2432232314}',
            svix_id="msg_p5jXN8AQM9LWM0D4loKWxJek",
            svix_timestamp="1614265330",
            svix_signature="v1,bm9ldHU= v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        ),
        1614265330,
    ),
    "github": (
        preset("github", "It's a Secret to Everybody"),
        request(
            b"Hello, World!",
            x_hub_signature_256="sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17",
        ),
        0,
    ),
    "slack": (
        SLACK,
        request(
            SLACK_BODY,
            x_slack_request_timestamp="1531420618",
            x_slack_signature="v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
        ),
        1531420618,
    ),
    "twilio-form": (TWILIO, request(urlencode(CALL).encode(), x_twilio_signature="RSOYDt4T1cUTdK1PDd93/VVr8B8="), 0),
    "twilio-json": (
        TWILIO,
        request(b'{"property": "value", "boolean": true}', x_twilio_signature="a9nBmqA0ju/hNViExpshrM61xv4="),
        0,
    ),
}


@rows("name", VECTORS)
def test_published_vectors(name: str) -> None:
    """What the sender's documents print is accepted, and neither with another body nor with another secret."""
    policy, sent, at = VECTORS[name]
    now = datetime.fromtimestamp(at, UTC)
    assert sent.body == verify(policy, sent, now).body
    wrong = "whsec_" + base64.b64encode(bytes(24)).decode()
    for changed, by in (
        (sent._replace(body=sent.body[:-1] + b"?"), policy),
        (sent, replace(policy, secrets=(wrong,))),
        (sent._replace(headers={}), policy),
    ):
        with pytest.raises(Unauthenticated):
            verify(by, changed, now)
    assert sent.body == verify(replace(policy, secrets=(wrong, *policy.secrets)), sent, now).body


@pytest.mark.parametrize("name", ["standard-webhooks", "slack"])
def test_the_window(name: str) -> None:
    """A time that was signed may be as far off as configured, either way; without a window as far as it likes."""
    policy, sent, at = VECTORS[name]
    now = datetime.fromtimestamp(at, UTC)
    for seconds in (-300, 300):
        verify(policy, sent, now + timedelta(seconds=seconds))
    for seconds in (-301, 301):
        with pytest.raises(Unauthenticated, match=r"off by|window"):
            verify(policy, sent, now + timedelta(seconds=seconds))
        verify(replace(policy, window_s=None), sent, now + timedelta(seconds=seconds))


def stripe(*parts: str, body: bytes = b"{}", at: int = 1000) -> None:
    verify(STRIPE, request(body, stripe_signature=",".join(parts)), datetime.fromtimestamp(at, UTC))


def test_the_header_of_stripe() -> None:
    """Any of several signatures; one time, which is signed; other schemes (v0) and no scheme count for nothing."""
    right = "v1=" + stripe_signature("whsec_test", "1000", b"{}")
    stripe("t=1000", right)
    stripe("t=1000", "v1=" + "0" * 64, right, "v0=1")
    stripe("t=1000", right, at=1300)
    for parts in (
        ["t=1000", right.replace("v1", "v0")],
        ["t=1000", right.removeprefix("v1=")],
        ["t=1001", right],
        ["t=1000", "t=1001", right],
        [right],
        ["t=", right],
        ["t=1000"],
        ["t=1000", "v1="],
        ["t=1000", *["v1=0"] * 20, right],
    ):
        with pytest.raises(Unauthenticated):
            stripe(*parts)
    with pytest.raises(Unauthenticated, match="window"):
        stripe("t=1000", right, at=1301)


@rows("stamp", ["", "soon", "-1", "1.5", "9" * 5000, "٣"])
def test_a_time_is_digits_and_short(stamp: str) -> None:
    """A hostile time is refused, never an error of ours."""
    slack = request(b"{}", x_slack_request_timestamp=stamp, x_slack_signature="v0=00")
    standard = request(b"{}", webhook_id="a", webhook_timestamp=stamp, webhook_signature="v1,00")
    for policy, sent in ((SLACK, slack), (STANDARD, standard)):
        with pytest.raises(Unauthenticated):
            verify(policy, sent, datetime.now(UTC))
    with pytest.raises(Unauthenticated):
        stripe(f"t={stamp}", "v1=00")


def test_an_id_cannot_hold_the_time() -> None:
    """The text id.time.body has one reading: a full stop in the id would move its end."""
    signature = Signer(STANDARD.secrets).sign("a", 1000, b"1000.{}")
    now = datetime.fromtimestamp(1000, UTC)
    headers = {"webhook_timestamp": "1000", "webhook_signature": signature}
    verify(STANDARD, request(b"1000.{}", webhook_id="a", **headers), now)
    with pytest.raises(Unauthenticated, match="full stop"):
        verify(STANDARD, request(b"{}", webhook_id="a.1000", **headers), now)


def test_a_public_key_verifies() -> None:
    """Ed25519 (v1a): the sender signs with whsk_, the gateway knows whpk_."""
    seed = bytes(range(32))
    public = "whpk_" + base64.b64encode(public_key(seed)).decode()
    signature = Signer(["whsk_" + base64.b64encode(seed).decode()]).sign("a", 1000, b"{}")
    sent = request(b"{}", webhook_id="a", webhook_timestamp="1000", webhook_signature=signature)
    now = datetime.fromtimestamp(1000, UTC)
    assert {"webhook-id": "a"} == verify(replace(STANDARD, secrets=(public,)), sent, now).headers
    with pytest.raises(Unauthenticated):
        verify(replace(STANDARD, secrets=(public,)), sent._replace(body=b"{ }"), now)


NAMES = st.text("ABCabc_.-0 {[%:\"'=&\n", max_size=6)


@given(st.lists(st.tuples(NAMES, st.text(max_size=6)), max_size=5), st.booleans())
def test_what_twilio_signed_is_read_as_a_form_and_as_nothing_else(pairs: list[tuple[str, str]], is_raw: bool) -> None:
    """Whatever names and values a body has: the fields that are decoded are those in the text, or it is refused."""
    body = "&".join(f"{name}={value}" for name, value in pairs) if is_raw else urlencode(pairs)
    sent = request(body.encode("utf-8", "replace"))
    try:
        sign = twilio_signature("12345", "https://a.example/x", sent.body)
    except Unauthenticated:
        return
    policy = SignaturePolicy("twilio", ("12345",), url="https://a.example/x")
    signed = verify(policy, sent._replace(headers={"x-twilio-signature": sign}), datetime.now(UTC))
    if sent.body[:1] in (b"{", b"["):
        return
    try:
        fields = read(signed, "form", frozenset()).fields
    except CallbackRejected:
        pytest.fail("a signed form cannot be read")
    text = "https://a.example/x" + "".join(name + fields[name] for name in sorted(fields))
    expected = base64.b64encode(hmac.digest(b"12345", text.encode(), "sha1")).decode()
    assert expected == sign


def test_the_hash_of_a_json_body_is_the_last_of_the_query() -> None:
    """With a query ``&`` joins it, without one ``?`` does."""
    body = b'{"property": "value", "boolean": true}'
    assert "0a1ff7634d9ab3b95db5c9a2dfe9416e41502b283a80c7cf19632632f96e6620" == hashlib.sha256(body).hexdigest()
    bare = twilio_signature("12345", "https://a.example/x", body)
    assert bare != twilio_signature("12345", "https://a.example/x?", body)
