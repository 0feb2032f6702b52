"""What a request must carry to be let in by a path: the token, and the platform's or another sender's signature."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from random import Random
from typing import Final

from gateway.callbacks.signature import Algorithm, callbot_signature, general_signature
from gateway.config.settings import Auth, Signature
from gateway.traffic.draw import millis, unix
from gateway.traffic.request import TrafficRequest

Headers = list[tuple[str, str]]

#: Of a request whose layout carries no signature, at a path that asks for one: the sample value of the vendor's table,
#: which does not tell a receipt from an incoming message (protocol.md, section 3).
_ACTION: Final = "mtsend"


@dataclass(frozen=True, slots=True)
class Credentials:
    """Signs requests as the platform does, with what ``config.yaml`` says of the path.

    Args:
        auth: of the path; its first secret and token are used.
        scheme: ``general``, ``callbot``, ``hmac``, or None where the callback carries no signature.
        rng: makes request ids.
        clock: the time that is signed.
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
        """Headers to send, in lower case as the platform's own samples have them."""
        found: Headers = []
        if self._tokens:
            found.append(("token", self._tokens[0]))
        if self._secrets and self.scheme is not None and self.auth.signature is not None:
            if self.scheme == "general":
                found += self._general(request, self.auth.signature)
            elif self.scheme == "callbot":
                found += self._callbot(request, self.auth.signature)
            elif self.scheme == "hmac":
                found.append(_hmac(request, self.auth.signature, self._secrets[0]))
        return found

    def _general(self, request: TrafficRequest, signature: Signature) -> Headers:
        access_key, action = signature.access_key or "demoAK01", request.action or _ACTION
        ts = str(millis(self.clock()))
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
        request_id, create_ts = f"{self.rng.getrandbits(128):032x}", str(unix(self.clock()))
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


def _hmac(request: TrafficRequest, signature: Signature, secret: str) -> tuple[str, str]:
    digest = hmac.digest(secret.encode(), request.body, signature.algorithm or "sha256")
    text = digest.hex() if signature.encoding == "hex" else base64.b64encode(digest).decode()
    return (signature.header or "x-signature").lower(), signature.prefix + text
