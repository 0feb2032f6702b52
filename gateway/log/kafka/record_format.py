"""Events as Kafka records, and back: value and headers by the CloudEvents Kafka protocol binding 1.0.2; partition.

*Structured* (section 3.3): the value is the event's own bytes, ``content-type`` names the format.
*Binary* (section 3.2): attributes are headers ``ce_<name>``, the value is ``data``, ``content-type`` is that
of the data. In both the record's key is ``partitionkey`` (section 3.1).

Both modes preserve the bytes. Structured is trivial. Binary cuts the gateway's own bytes in two (``data`` is written
last, see :data:`gateway.event.ATTRIBUTES`) and reading joins them in the same order with the same serialiser, so a
subscriber receives exactly the bytes in the journal, and signatures and replays stay equal. An event from a binary
record of another producer has its attributes in the gateway's order, then the producer's by name: there are no original
bytes, but the bytes are the same every time.

Topics are open to other producers. Their records are read by the same rule (:func:`gateway.event.parse`): a valid
CloudEvent in either mode is an event, with any type and source; any other record is read with a flaw, unchanged.

Key → partition, as Kafka's own default partitioner does it: murmur2 of the key's bytes (``Utils.murmur2`` and
``toPositive`` of ``org.apache.kafka.common.utils``). So topics that the gateway wrote can be joined with topics that
others wrote (Kafka Streams, Flink). CRC32 would be almost free in Python, but only librdkafka uses it. In plain Python
murmur2 costs as much as all else of publishing an event (3.5 µs for a key of 32 bytes; aiokafka's own twice that). So
many keys are hashed at once: one long integer holds a 64-bit place for each key, with a 32-bit number in it.
Multiplying it by a 32-bit constant, and masking, then does one step for all keys; no product reaches into the next
place. That is 0.4 µs a key for a thousand keys.
"""

from __future__ import annotations

import base64
import re
import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, NamedTuple
from uuid import UUID

import orjson

from gateway.event import ATTRIBUTES, CONTENT_TYPE, NotAnEvent, parse
from gateway.log import TOMBSTONE, Headers

KafkaHeaders = list[tuple[str, bytes]]

_TYPE: Final = "content-type"
_STRUCTURED: Final = CONTENT_TYPE.encode()
#: Headers of a structured record that carries only the event. Shared: do not change it.
STRUCTURED_ONLY: Final[KafkaHeaders] = [(_TYPE, _STRUCTURED)]
_PREFIX: Final = "ce_"
_ID_HEAD: Final = b'{"specversion":"1.0","id":"'
_ID_START: Final = len(_ID_HEAD)
_ID_END: Final = _ID_START + 32
#: Header with the id of an entry whose value does not begin as the gateway's events do.
_ID: Final = "gateway-id"
#: Carries the id of the value's schema in a registry. Confluent's deserializers look for it (HeaderSchemaIdSerializer):
#: 0 and the id in four bytes, or 1 and the schema's GUID.
SCHEMA_ID: Final = "__value_schema_id"
_STRUCTURED_HEADER: Final = (_TYPE, _STRUCTURED)
#: Names of attributes (specification, section 3.1), behind the prefix.
_ATTRIBUTE: Final = re.compile(r"[a-z0-9]+")
_OUR_ID: Final = re.compile(rb"[0-9a-f]{32}")
#: Of that form, and no attributes: members of the JSON format.
_NOT_ATTRIBUTES: Final = frozenset({"ce_data", "ce_datacontenttype"})
#: The seam between attributes and data in the bytes of :meth:`gateway.event.Event.to_json`.
_SEAM: Final = b',"data":'
_TYPE_SEAM: Final = b',"datacontenttype":"application/json","data":'


def is_plain(value: bytes, id_: str, headers: Headers) -> bool:
    """Return whether a structured-mode record needs no additional header: its id is at the usual place."""
    return not headers and value[_ID_START:_ID_END] == id_.encode()


def schema_id_header(registered: int | UUID) -> tuple[str, bytes]:
    """Return the header of records whose topic has a registered schema.

    Args:
        registered: the schema's id in the registry, or its GUID.
    """
    if isinstance(registered, int):
        return SCHEMA_ID, b"\0" + registered.to_bytes(4, "big")
    return SCHEMA_ID, b"\1" + registered.bytes


def structured(value: bytes, id_: str, headers: Headers) -> tuple[bytes, KafkaHeaders]:
    """Return value and headers of a structured-mode record; only an event is declared as one."""
    metadata = [(name, text.encode()) for name, text in headers]
    if is_plain(value, id_, ()):
        return value, [*STRUCTURED_ONLY, *metadata]
    metadata.append((_ID, id_.encode()))
    return value, metadata if _checked(value)[1] else [*STRUCTURED_ONLY, *metadata]


def binary(value: bytes, id_: str, headers: Headers) -> tuple[bytes, KafkaHeaders]:
    """Return value and headers of a binary-mode record; of a structured one if the value cannot be cut and rejoined."""
    seam = value.find(_TYPE_SEAM)
    if seam < 0:
        return structured(value, id_, headers)
    try:
        attributes = orjson.loads(value[:seam] + b"}")
    except orjson.JSONDecodeError:
        return structured(value, id_, headers)
    data = value[seam + len(_TYPE_SEAM) : -1]
    if not all(isinstance(text, str) for text in attributes.values()) or value != _joined(
        {**attributes, "datacontenttype": "application/json"}, _SEAM + data
    ):
        return structured(value, id_, headers)
    made = [(_TYPE, b"application/json")]
    made += [(_PREFIX + name, text.encode()) for name, text in attributes.items()]
    made += [(name, text.encode()) for name, text in headers]
    return data, made


class RecordContent(NamedTuple):
    """The content of a record.

    Args:
        value: the event's bytes; those of the record if it has no event.
        headers: metadata stored with the event.
        id: that of the event; without one, the id that the gateway gave the record, otherwise empty.
        flaw: see :attr:`gateway.log.Record.flaw`.
    """

    value: bytes
    headers: Headers
    id: str
    flaw: str


def read(
    value: bytes | None, headers: Sequence[tuple[str, bytes | None]], *, holds_events: bool = True
) -> RecordContent:
    """Read a record of either mode, of the gateway or of another producer.

    Args:
        value: of the record.
        headers: of the record.
        holds_events: False for topics of the gateway with other contents, such as the states of subscribers.
    """
    if headers and headers[0] == _STRUCTURED_HEADER and (len(headers) == 1 or _has_schema_id_only(headers)):
        return _found(value, (), "", holds_events)
    content_type = b""
    id_ = ""
    attributes: dict[str, bytes] = {}
    metadata: list[tuple[str, str]] = []
    for name, raw in headers:
        if name == _TYPE:
            content_type = raw or b""
        elif name == _ID:
            id_ = _text(raw)
        elif name == SCHEMA_ID:
            continue  # of this record in this topic; it says nothing of the event
        elif name.startswith(_PREFIX) and _ATTRIBUTE.fullmatch(name, len(_PREFIX)) and name not in _NOT_ATTRIBUTES:
            attributes[name.removeprefix(_PREFIX)] = raw or b""
        else:
            metadata.append((name, _text(raw)))
    if content_type.startswith(b"application/cloudevents") or "id" not in attributes:
        return _found(value, tuple(metadata), id_, holds_events)
    try:
        joined = _joined(_decoded(attributes, content_type), _data(value, content_type))
    except UnicodeDecodeError:
        return RecordContent(value or b"", tuple(metadata), id_, "a ce_ header is not UTF-8")
    return _found(joined, tuple(metadata), id_, holds_events)


def _has_schema_id_only(headers: Sequence[tuple[str, bytes | None]]) -> bool:
    return len(headers) == 2 and headers[1][0] == SCHEMA_ID


def _found(value: bytes | None, headers: Headers, id_: str, holds_events: bool) -> RecordContent:
    if value is None:
        return RecordContent(b"", headers, id_, TOMBSTONE if holds_events else "")
    if not holds_events:
        return RecordContent(value, headers, id_, "")
    own_id, flaw = _checked(value)
    return RecordContent(value, headers, own_id or id_ or _id_in_place(value), flaw)


def _id_in_place(value: bytes) -> str:
    """Return the id for which :func:`structured` wrote no header, as the value begins like the gateway's events."""
    found = value[_ID_START:_ID_END] if value.startswith(_ID_HEAD) else b""
    return found.decode() if _OUR_ID.fullmatch(found) else ""


def _checked(value: bytes) -> tuple[str, str]:
    """Return the event's id and no flaw, or no id and the flaw."""
    try:
        return parse(value)["id"], ""
    except NotAnEvent as exc:
        return "", str(exc)


def _decoded(attributes: dict[str, bytes], content_type: bytes) -> dict[str, str]:
    """Return the attributes as text, ``datacontenttype`` last.

    Raises:
        UnicodeDecodeError: one is not UTF-8 (binding, section 3.2.3.2).
    """
    texts = {name: raw.decode() for name, raw in attributes.items()}
    texts["datacontenttype"] = content_type.decode() or "application/json"
    return texts


def _data(value: bytes | None, content_type: bytes) -> bytes:
    """Return the member that holds the data, after a comma (JSON format, section 3.1.1); empty without data."""
    if value is None:
        return b""
    media_type = content_type.partition(b";")[0].strip().lower()
    if media_type in {b"", b"application/json", b"text/json"} or media_type.endswith(b"+json"):
        return _SEAM + value
    try:
        return _SEAM + orjson.dumps(value.decode())
    except UnicodeDecodeError:
        return b',"data_base64":' + orjson.dumps(base64.b64encode(value).decode())


def _text(raw: bytes | None) -> str:
    return (raw or b"").decode(errors="replace")


def _joined(attributes: dict[str, str], data: bytes) -> bytes:
    ordered: dict[str, str] = {name: attributes.pop(name) for name in ATTRIBUTES if name in attributes}
    ordered |= dict(sorted(attributes.items()))
    # ``datacontenttype`` is directly before the data, with any extensions.
    ordered["datacontenttype"] = ordered.pop("datacontenttype")
    return orjson.dumps(ordered)[:-1] + data + b"}"


# -- partitions ------------------------------------------------------------------------------------------------------

_M: Final = 0x5BD1E995
_MASK: Final = 0xFFFFFFFF
_SEED: Final = 0x9747B28C
#: Below this many keys of one length the single way is the faster one (measured: 4 to 6).
_FEW: Final = 6


def partition_of(key: bytes, partitions: int) -> int:
    """Return the partition, 0 to ``partitions - 1``, of records with this key."""
    return hash_of(key) % partitions


def hash_of(key: bytes) -> int:
    """Return Kafka's hash of a key, 31 bits."""
    length = len(key)
    count = length >> 2
    hashed = _SEED ^ length
    for word in struct.unpack_from(f"<{count}I", key):
        word = word * _M & _MASK
        hashed = (hashed * _M ^ (word ^ word >> 24) * _M) & _MASK
    if rest := key[count * 4 :]:
        hashed = (hashed ^ int.from_bytes(rest, "little")) * _M & _MASK
    hashed ^= hashed >> 13
    hashed = hashed * _M & _MASK
    return (hashed ^ hashed >> 15) & 0x7FFFFFFF


def hashes_of(keys: Sequence[bytes]) -> list[int]:
    """Return :func:`hash_of` each key, in order. Fast if many keys have the same length, as ids of one kind have."""
    if len(keys) < _FEW:
        return [hash_of(key) for key in keys]
    lengths = set(map(len, keys))
    if len(lengths) == 1:
        return _same_length(keys, len(keys[0]))
    found = [0] * len(keys)
    for length in lengths:
        places = [place for place, key in enumerate(keys) if len(key) == length]
        alike = [keys[place] for place in places]
        hashed = _same_length(alike, length) if len(alike) >= _FEW else [hash_of(key) for key in alike]
        for place, number in zip(places, hashed, strict=True):
            found[place] = number
    return found


def _same_length(keys: Sequence[bytes], length: int) -> list[int]:
    count = len(keys)
    joined = b"".join(keys)
    ones, mask = _constants(count)
    hashed = ones * (_SEED ^ length)
    whole = length & ~3
    for start in range(0, whole, 4):
        word = _column(joined, length, count, start, 4) * _M & mask
        # The right shift brings bits of the neighbour into the upper half of a place; the mask removes them.
        word ^= word >> 24 & mask
        hashed = (hashed * _M & mask) ^ (word * _M & mask)
    if length > whole:
        hashed = (hashed ^ _column(joined, length, count, whole, length - whole)) * _M & mask
    hashed ^= hashed >> 13 & mask
    hashed = hashed * _M & mask
    hashed ^= hashed >> 15 & mask
    hashed &= ones * 0x7FFFFFFF
    return list(struct.unpack(f"<{count}Q", hashed.to_bytes(count * 8, "little")))


def _column(joined: bytes, length: int, count: int, start: int, width: int) -> int:
    """Return bytes ``start`` to ``start + width`` of each key, as little-endian numbers in 64-bit places."""
    places = bytearray(count * 8)
    for byte in range(width):
        places[byte::8] = joined[start + byte :: length]
    return int.from_bytes(places, "little")


@lru_cache(maxsize=64)
def _constants(count: int) -> tuple[int, int]:
    """Return the number 1, and 32 bits set, in each of so many places."""
    return (
        int.from_bytes(b"\1\0\0\0\0\0\0\0" * count, "little"),
        int.from_bytes(b"\xff\xff\xff\xff\0\0\0\0" * count, "little"),
    )
