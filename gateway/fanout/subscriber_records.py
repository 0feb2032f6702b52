"""Records of stored subscribers: what one says, which of two counts, and their encryption.

See :mod:`gateway.fanout.subscriber_store`. Records are encrypted with Fernet, of ``cryptography``: AES-128-CBC with
HMAC-SHA256 (its specification: github.com/fernet/spec). A text that was changed, or made without a key, is refused. A
record is sealed as a whole, with its name, so that a program that can write to the log cannot move the secrets of one
subscriber to another address.

The keys are ``admin.secrets_key``: the first encrypts, all decrypt. What another key than the first one sealed is
written again, so that an old key can go after a day.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import orjson
from cryptography.fernet import Fernet, InvalidToken

from gateway.errors import GatewayError

_KEY_BYTES: Final = 32
HOW_TO_MAKE: Final = "`openssl rand -base64 32` makes one; keep it in the environment, and set admin.secrets_key"


class CannotOpen(GatewayError):
    """A stored subscriber was sealed with a key that is not in ``admin.secrets_key``, or its record was changed."""


def key_problem(key: str) -> str | None:
    """Return what is wrong with a key, without showing it; None when it is good."""
    raw = _raw(key)
    if raw is None or len(raw) != _KEY_BYTES:
        return "a key is base64 of 32 bytes; `openssl rand -base64 32` makes one"
    return None


def fingerprint(secret: str) -> str:
    """Return what a secret for signing is called where it is not shown: the beginning of its SHA-256."""
    return hashlib.sha256(secret.encode()).hexdigest()[:12]


class Sealer:
    """Seals and opens texts.

    Args:
        keys: as :func:`key_problem` accepts them; none: nothing can be sealed or opened.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        self._keys = [Fernet(base64.urlsafe_b64encode(raw)) for key in keys if (raw := _raw(key)) is not None]

    def __bool__(self) -> bool:
        return bool(self._keys)

    def seal(self, text: bytes) -> str:
        """Return the text, readable with the first key only. Needs a key."""
        return self._keys[0].encrypt(text).decode()

    def open(self, sealed: str) -> tuple[bytes, bool]:
        """Return the text, and whether the first key sealed it.

        Raises:
            CannotOpen: none of the keys did.
        """
        for position, key in enumerate(self._keys):
            try:
                return key.decrypt(sealed), position == 0
            except InvalidToken:
                continue
        raise CannotOpen("it is sealed with a key that is not in admin.secrets_key; add that key behind the first one")


@dataclass(frozen=True, slots=True)
class SubscriberDocument:
    """A stored version of a subscriber.

    Args:
        settings: its keys as they were given, secrets included.
        retiring: Unix seconds at which a secret ends, by its fingerprint.
        created_at: Unix seconds.
        changed_at: Unix seconds.
        changed_by: name of a token.
    """

    settings: dict[str, Any]
    retiring: Mapping[str, float] = field(default_factory=dict)
    created_at: float = 0.0
    changed_at: float = 0.0
    changed_by: str = ""

    def at(self, now: float) -> SubscriberDocument:
        """Return the document without the secrets that have ended."""
        ended = {mark for mark, until in self.retiring.items() if until <= now}
        if not ended:
            return self
        secrets = [secret for secret in listed(self.settings.get("secrets")) if fingerprint(secret) not in ended]
        retiring = {mark: until for mark, until in self.retiring.items() if mark not in ended}
        return replace(self, settings={**self.settings, "secrets": secrets}, retiring=retiring)


@dataclass(frozen=True, slots=True)
class Kept:
    """The record of a name that counts.

    Args:
        version: number of the change.
        change: its id.
        document: None: the subscriber was removed, or ``problem`` says why it cannot be read.
        problem: one sentence.
    """

    version: int
    change: str
    document: SubscriberDocument | None = None
    problem: str = ""

    @property
    def rank(self) -> tuple[int, str]:
        """Of two records of a name, the one with the higher rank counts."""
        return self.version, self.change

    @property
    def is_there(self) -> bool:
        """Whether it is a subscriber, be it readable or not."""
        return self.document is not None or bool(self.problem)

    @property
    def etag(self) -> str:
        """The version of the subscriber as an entity tag."""
        return f"{self.version}-{self.change[:8]}"


def encoded(name: str, kept: Kept, sealer: Sealer) -> bytes:
    """Return the value of a record; sealed as a whole if there is a key."""
    value: dict[str, Any] = {"version": kept.version, "change": kept.change}
    if kept.document is None:
        return orjson.dumps({**value, "removed": True})
    if sealer:
        text = orjson.dumps({"name": name, "rank": kept.rank, "document": kept.document})
        return orjson.dumps({**value, "sealed": sealer.seal(text)})
    return orjson.dumps({**value, "document": kept.document})


def decoded(name: str, value: bytes, sealer: Sealer) -> tuple[Kept, bool]:
    """Return what a record says, and whether it is sealed as this process would seal it.

    Raises:
        orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError: it says nothing.
    """
    found = orjson.loads(value)
    kept = Kept(int(found["version"]), str(found["change"]))
    if found.get("removed"):
        return kept, True
    if "sealed" not in found:
        return replace(kept, document=SubscriberDocument(**found["document"])), not sealer
    try:
        text, is_current = sealer.open(found["sealed"])
    except CannotOpen as exc:
        return replace(kept, problem=str(exc)), True
    inner = orjson.loads(text)
    if inner["name"] != name or inner["rank"] != list(kept.rank):
        raise ValueError("it was sealed for another name")
    return replace(kept, document=SubscriberDocument(**inner["document"])), is_current


def listed(secrets: Any) -> list[str]:
    """Return the secrets of some settings: a list, one alone, or none."""
    return [str(one) for one in (secrets if isinstance(secrets, list) else [secrets]) if one]


def _raw(key: str) -> bytes | None:
    """Read base64 of either alphabet: tools that make keys differ."""
    try:
        return base64.b64decode(key.strip().replace("-", "+").replace("_", "/"), validate=True)
    except (binascii.Error, ValueError):
        return None
