"""Credentials of simulated requests: the token, and the platform's or another sender's signature."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from random import Random
from typing import Final

from gateway.callbacks.sender_signatures import (
    SLACK_TIME,
    hmac_signature,
    slack_signature,
    stripe_signature,
    twilio_signature,
)
from gateway.callbacks.signature import Algorithm, SignaturePolicy, callbot_signature, general_signature
from gateway.config.settings import Auth, Signature
from gateway.ingest.endpoints import sender_policy
from gateway.signing import Signer
from gateway.traffic.simulator import TrafficRequest

Headers = list[tuple[str, str]]

#: For a request whose layout has no signature, at a path that requires one: the sample value of the vendor's table,
#: which does not distinguish a receipt from an incoming message (protocol.md, section 3).
_ACTION: Final = "mtsend"


@dataclass(frozen=True, slots=True)
class RequestSigner:
    """Signs requests as the platform does, with the credentials of a path in ``config.yaml``.

    Args:
        auth: of the path; its first secret and token are used.
        scheme: ``general``, ``callbot``, ``hmac`` for another sender with further configuration, or None for a callback
            without a signature.
        rng: source of request ids.
        clock: returns the signed time.
    """

    auth: Auth
    scheme: str | None
    rng: Random
    clock: Callable[[], datetime]
    _secrets: list[str] = field(init=False)
    _tokens: list[str] = field(init=False)

    def __post_init__(self) -> None:
        signature = self.auth.signature
        object.__setattr__(self, "_secrets", signature.all_secrets if signature else [])
        object.__setattr__(self, "_tokens", self.auth.all_tokens)

    def headers(self, request: TrafficRequest) -> Headers:
        """Return the headers of a request, in lower case as in the platform's samples."""
        found: Headers = []
        if self._tokens:
            found.append(("token", self._tokens[0]))
        if self._secrets and self.scheme is not None and self.auth.signature is not None:
            if self.scheme == "general":
                found += self._general(request, self.auth.signature)
            elif self.scheme == "callbot":
                found += self._callbot(request, self.auth.signature)
            else:
                own_id = f"msg_{self.rng.getrandbits(96):024x}"
                found += sender_headers(
                    sender_policy(self.auth.signature), request.body, int(self.clock().timestamp()), own_id
                )
        return found

    def _general(self, request: TrafficRequest, signature: Signature) -> Headers:
        access_key, action = signature.access_key or "demoAK01", request.action or _ACTION
        ts = str(int(self.clock().timestamp() * 1000))
        algorithm = _algorithm(signature)
        sign = general_signature(
            self._secrets[0],
            access_key=access_key,
            action=action,
            biz_type=request.biz_type,
            ts=ts,
            body=request.body,
            algorithm=algorithm,
        )
        found = [("accesskey", access_key), ("action", action), ("biztype", request.biz_type), ("ts", ts)]
        return [*found, ("sign", sign), *([("algorithm", algorithm)] if algorithm != "md5" else [])]

    def _callbot(self, request: TrafficRequest, signature: Signature) -> Headers:
        request_id, create_ts = f"{self.rng.getrandbits(128):032x}", str(int(self.clock().timestamp()))
        sign = callbot_signature(
            self._secrets[0],
            request_id=request_id,
            uuid="demoUuid0001",
            create_ts=create_ts,
            body=request.body,
            algorithm=_algorithm(signature),
        )
        return [("requestid", request_id), ("uuid", "demoUuid0001"), ("createts", create_ts), ("sign", sign)]


def _algorithm(signature: Signature) -> Algorithm:
    return "sha256" if signature.algorithm == "sha256" else "md5"


def sender_headers(policy: SignaturePolicy, body: bytes, time: int, own_id: str) -> Headers:
    """Return the signature headers of another sender, with the first secret.

    Args:
        policy: of the path.
        body: signed body.
        time: Unix seconds, for schemes that sign the time.
        own_id: message id, for schemes that sign it.

    Raises:
        ConfigError: the secret is a public key.
        Unauthenticated: Twilio would not send this body.
    """
    secret, stamp = policy.secrets[0], str(time)
    if policy.scheme == "standard-webhooks":
        sign = Signer([secret]).sign(own_id, time, body)
        names = (f"{policy.header}-{part}" for part in ("id", "timestamp", "signature"))
        return list(zip(names, (own_id, stamp, sign), strict=True))
    if policy.scheme == "stripe":
        return [(policy.signature_header, f"t={stamp},v1={stripe_signature(secret, stamp, body)}")]
    if policy.scheme == "slack":
        return [(SLACK_TIME, stamp), (policy.signature_header, slack_signature(secret, stamp, body))]
    if policy.scheme == "twilio":
        return [(policy.signature_header, twilio_signature(secret, policy.url, body))]
    return [(policy.signature_header, policy.prefix + hmac_signature(policy, secret, body))]
