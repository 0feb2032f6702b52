"""Records of stored subscribers: what one says, and which of two counts. See :mod:`gateway.fanout.subscriber_store`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from gateway.fanout.sealing import CannotOpen, Sealer, fingerprint


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
