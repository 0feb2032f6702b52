"""The event: what one callback item becomes, once, at the edge (CloudEvents 1.0, JSON format).

From here on only its bytes travel: they are made once, stored, published and delivered unchanged.

Sources: CloudEvents 1.0.2 (attributes, JSON event format), its ``partitioning`` and ``recordedtime``
extensions.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Any, Final, NamedTuple

import orjson

from gateway.errors import GatewayError

CONTENT_TYPE: Final = "application/cloudevents+json; charset=utf-8"

#: Attributes in the order they are written; ``data`` is last: an event's first bytes have the other attributes.
ATTRIBUTES: Final = (
    "specversion",
    "id",
    "source",
    "type",
    "subject",
    "time",
    "recordedtime",
    "partitionkey",
    "account",
    "dataschema",
    "datacontenttype",
)

#: Version of the model of events: what the names in ``data`` mean. It changes when one of them does.
MODEL_VERSION: Final = 1


#: Attributes that an event of any producer must have, in addition to ``specversion``.
_REQUIRED: Final = ("id", "source", "type")


class NotAnEvent(GatewayError):
    """Bytes that should hold a CloudEvents JSON event do not."""


class Event(NamedTuple):
    """One typed event. A named tuple, as one is made for every item: a frozen dataclass costs a microsecond more.

    Args:
        id: 32 hex digits, see :func:`event_id`.
        source: ``/nxcloud/<callback name>``.
        type: one per shape, such as ``nxcloud.sms.dr``.
        topic: the family's topic, without the configured prefix. It routes; it is not in the bytes.
        subject: the thing the event is about; never empty.
        partitionkey: events of one key keep their order everywhere.
        time: when it happened by the sender's word, arrival where the sender gives none; RFC 3339, UTC, microseconds.
        recordedtime: arrival, RFC 3339, UTC, microseconds.
        data: normalised fields plus ``raw``. Values may be ``orjson.Fragment`` (bytes kept as they came).
        account: the account of the path it came in by, or None.
        dataschema: address or urn of the schema of ``data``; None for webhooks of the user's own.
    """

    id: str
    source: str
    type: str
    topic: str
    subject: str
    partitionkey: str
    time: str
    recordedtime: str
    data: dict[str, Any]
    account: str | None = None
    dataschema: str | None = None

    def to_json(self) -> bytes:
        """Return the event in CloudEvents JSON format: the bytes that are stored, published and delivered."""
        id_, source, type_, _, subject, key, time, recorded, data, account, schema = self  # a read of a name costs more
        attributes: dict[str, Any] = {
            "specversion": "1.0",
            "id": id_,
            "source": source,
            "type": type_,
            "subject": subject,
            "time": time,
            "recordedtime": recorded,
            "partitionkey": key,
        }
        if account is not None:
            attributes["account"] = account
        if schema is not None:
            attributes["dataschema"] = schema
        attributes["datacontenttype"] = "application/json"
        attributes["data"] = data
        return orjson.dumps(attributes)


def parse(value: bytes) -> dict[str, Any]:
    """Return the members of a CloudEvents 1.0 JSON event of the gateway or another producer. The only parser of events.

    Raises:
        NotAnEvent: not a JSON object, or ``specversion``, ``id``, ``source`` or ``type`` is not what section 3.1 of the
            specification asks for. The text names the reason and holds nothing of the value.
    """
    try:
        event = orjson.loads(value)
    except orjson.JSONDecodeError as exc:
        raise NotAnEvent("the value is not JSON" if value else "the value is empty") from exc
    if not isinstance(event, dict):
        raise NotAnEvent("the value is JSON, but no object")
    if event.get("specversion") != "1.0":
        raise NotAnEvent("the value is JSON, but no CloudEvents 1.0 event: specversion is missing, or is not 1.0")
    for name in _REQUIRED:
        found = event.get(name)
        if not isinstance(found, str) or not found:
            raise NotAnEvent(f"the value is JSON, but no CloudEvents 1.0 event: {name} is missing, or no text")
    return event


def from_json(value: bytes, topic: str = "") -> Event:
    """Return an event that the gateway serialised. Its bytes do not contain the topic, so the caller passes it.

    Raises:
        NotAnEvent: not JSON, or a required attribute is missing or of the wrong type.
    """
    attributes = parse(value)
    try:
        return Event(
            id=attributes["id"],
            source=attributes["source"],
            type=attributes["type"],
            topic=topic,
            subject=attributes["subject"],
            partitionkey=attributes["partitionkey"],
            time=attributes["time"],
            recordedtime=attributes["recordedtime"],
            data=attributes["data"],
            account=attributes.get("account"),
            dataschema=attributes.get("dataschema"),
        )
    except KeyError as exc:
        raise NotAnEvent(f"the attribute {exc} of our events is missing") from exc


def event_id(callback: str, account: str | None, position: int, canonical: bytes) -> str:
    """Return the id of one item of one callback: the same callback again gives the same id, on any machine.

    Args:
        callback: its name, such as ``sms-dr``.
        account: part of the id where one is configured: two accounts may push equal bodies about different things.
        position: index of the item in the callback, 0 for the first.
        canonical: the callback's payload in canonical form.

    A 128-bit BLAKE2b. Two different payloads of a window of 10^9 events collide with odds below 10^-20.
    """
    found = _id_begun(callback, account, position).copy()
    found.update(canonical)
    return found.hexdigest()


@lru_cache(maxsize=1024)
def _id_begun(callback: str, account: str | None, position: int) -> hashlib.blake2b:
    """Return the hash as it is before the payload; to be copied, as making one with a size costs more."""
    return hashlib.blake2b(f"{callback}\0{account or ''}\0{position}\0".encode(), digest_size=16)


def schema_urn(event_type: str) -> str:
    """Return the name of a type's schema, for events of a gateway whose schemas are published nowhere."""
    return f"urn:nxcloud-gateway:schema:{event_type}:{MODEL_VERSION}"


@lru_cache(maxsize=256)
def schema_url(base_url: str, topic: str) -> str:
    """Return the address of a topic's schema.

    Args:
        base_url: address below which the schemas of topics are published, without a slash at its end.
        topic: without the configured prefix.
    """
    return f"{base_url}/v{MODEL_VERSION}/{topic}.json"
