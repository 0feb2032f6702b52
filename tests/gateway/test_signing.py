from __future__ import annotations

import base64
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from gateway.errors import ConfigError, Unauthenticated
from gateway.signing import Signer, problem, public_key, verify
from tests.rows import rows

OLD = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
NEW = "whsec_" + base64.b64encode(bytes(range(32))).decode()
SEED = bytes(range(32))
PRIVATE = "whsk_" + base64.b64encode(SEED).decode()
PUBLIC = "whpk_" + base64.b64encode(public_key(SEED)).decode()
NOW = 1_760_000_000
BODY = b'{"id":"e1"}'


def clock() -> int:
    """The present second: the package reads the clock itself, and tests may run long after they were collected."""
    return int(datetime.now(UTC).timestamp())


def headers(signature: str, *, event_id: str = "e1", at: int = NOW) -> dict[str, str]:
    return {"webhook-id": event_id, "webhook-timestamp": str(at), "webhook-signature": signature}


@given(body=st.dictionaries(st.text(), st.text()), event_id=st.text("0123456789abcdef", min_size=1, max_size=32))
def test_signature_is_verified_by_the_standardwebhooks_package(body: dict[str, str], event_id: str) -> None:
    """What we sign, the specification's own library accepts."""
    raw = json.dumps(body).encode()
    now = clock()
    signed = headers(Signer([OLD]).sign(event_id, now, raw), event_id=event_id, at=now)
    assert body == Webhook(OLD).verify(raw, signed)


@pytest.mark.parametrize("secret", [OLD, NEW])
def test_rotation_gives_one_signature_for_each_secret(secret: str) -> None:
    """While a secret is rotated, receivers with either accept."""
    now = clock()
    signature = Signer([OLD, NEW]).sign("e1", now, BODY)
    assert 2 == len(signature.split(" "))
    assert {"id": "e1"} == Webhook(secret).verify(BODY, headers(signature, at=now))
    verify([secret], headers(signature, at=now), BODY, now, 300)


def test_a_secret_without_prefix_is_the_same_secret() -> None:
    """Libraries of the specification take both forms, and so do we."""
    assert Signer([OLD]).sign("e1", NOW, BODY) == Signer([OLD.removeprefix("whsec_")]).sign("e1", NOW, BODY)


@given(st.binary(min_size=16, max_size=64))
def test_a_secret_is_its_bytes_in_either_alphabet_with_or_without_padding(raw: bytes) -> None:
    """Every spelling of base64 is accepted, and signs the same."""
    standard, url_safe = base64.b64encode(raw).decode(), base64.urlsafe_b64encode(raw).decode()
    spellings = [f"whsec_{one}" for text in (standard, url_safe) for one in (text, text.rstrip("="))]
    assert [None] * 4 == [problem(one) for one in spellings]
    assert 1 == len({Signer([one]).sign("e1", NOW, BODY) for one in spellings})
    verify(spellings[3:], headers(Signer(spellings[:1]).sign("e1", NOW, BODY)), BODY, NOW, 300)


def test_asymmetric_key_signs_v1a_beside_v1() -> None:
    """A whsk_ key gives v1a; who has the public key verifies, who has another does not."""
    signature = Signer([OLD, PRIVATE]).sign("e1", NOW, BODY)
    assert ["v1", "v1a"] == [part.split(",")[0] for part in signature.split(" ")]
    verify([PUBLIC], headers(signature), BODY, NOW, 300)
    verify([PRIVATE], headers(signature), BODY, NOW, 300)
    other = "whpk_" + base64.b64encode(public_key(bytes(32))).decode()
    with pytest.raises(Unauthenticated):
        verify([other], headers(signature), BODY, NOW, 300)


@rows(
    ("changed", "body", "now"),
    [
        ({"webhook-id": "e2"}, BODY, NOW),
        ({"webhook-timestamp": str(NOW + 1)}, BODY, NOW),
        ({"webhook-timestamp": "soon"}, BODY, NOW),
        ({"webhook-signature": "v1,AAAA"}, BODY, NOW),
        ({"webhook-signature": "v1a,€ v2,x"}, BODY, NOW),
        ({"webhook-signature": ""}, BODY, NOW),
        ({}, BODY + b" ", NOW),
        ({}, BODY, NOW + 301),
        ({}, BODY, NOW - 301),
    ],
)
def test_anything_changed_is_refused(changed: dict[str, str], body: bytes, now: float) -> None:
    """Id, time, body and signature are all covered, and an old request is not taken again."""
    signed = headers(Signer([OLD]).sign("e1", NOW, BODY))
    verify([OLD], signed, BODY, NOW, 300)
    with pytest.raises(Unauthenticated):
        verify([OLD, PUBLIC], {**signed, **changed}, body, now, 300)


def test_our_signature_is_refused_by_the_package_under_another_secret() -> None:
    """The check of the package can fail at all."""
    now = clock()
    with pytest.raises(WebhookVerificationError, match="No matching signature"):
        Webhook(NEW).verify(BODY, headers(Signer([OLD]).sign("e1", now, BODY), at=now))


@rows(
    ("secret", "said"),
    [
        ("whsec_not base64", "followed by base64"),
        ("correct horse battery staple", "followed by base64"),
        ("whsec_c2hvcnQ=", "holds 5 bytes"),
        ("whsk_c2hvcnQ=", "32 or 64 bytes"),
        (PUBLIC, "cannot sign"),
    ],
)
def test_bad_secrets_are_named_without_being_shown(secret: str, said: str) -> None:
    """A secret that no receiver could verify with is found at configuration time."""
    with pytest.raises(ConfigError) as caught:
        Signer([OLD, secret])
    assert 1 == len(caught.value.problems)
    assert said in caught.value.problems[0]
    assert caught.value.problems[0].startswith("secrets[1]: ")
    assert secret not in str(caught.value)
    assert problem(OLD) is None
