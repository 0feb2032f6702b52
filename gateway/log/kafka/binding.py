"""Events as Kafka records, and back: the CloudEvents Kafka protocol binding 1.0.2.

*Structured* (section 3.3): the value is the event's own bytes, ``content-type`` names the format.
*Binary* (section 3.2): attributes are headers ``ce_<name>``, the value is ``data``, ``content-type`` is that
of the data. In both the record's key is ``partitionkey`` (section 3.1).

Bytes survive both ways. Structured is trivial. Binary cuts our own bytes in two (``data`` is written last, see
:data:`gateway.event.ATTRIBUTES`) and reading puts them together again in the same order with the same
serialiser, so what a subscriber is sent is the very bytes that were journalled, and signatures and replays
stay equal. A binary record written by somebody else gets its attributes in our order, then theirs by name: not the
writer's bytes, as there never were any, but the same ones every time.

Values that are not our events (dead letters of other programs, say) travel as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import orjson

from gateway.event import ATTRIBUTES, CONTENT_TYPE
from gateway.log import Headers

KafkaHeaders = list[tuple[str, bytes]]

_TYPE: Final = "content-type"
_STRUCTURED: Final = CONTENT_TYPE.encode()
#: Headers of a structured record that carries nothing beside the event. Shared: do not change it.
STRUCTURED_ONLY: Final[KafkaHeaders] = [(_TYPE, _STRUCTURED)]
_PREFIX: Final = "ce_"
_ID_HEAD: Final = b'{"specversion":"1.0","id":"'
_ID_START: Final = len(_ID_HEAD)
_ID_END: Final = _ID_START + 32
#: Carries the id of an entry whose value does not begin as our events do.
_ID: Final = "gateway-id"
#: The seam between attributes and data in the bytes of :meth:`gateway.event.Event.to_json`.
_SEAM: Final = b',"data":'
_TYPE_SEAM: Final = b',"datacontenttype":"application/json","data":'


def is_plain(value: bytes, id_: str, headers: Headers) -> bool:
    """Whether a structured-mode record needs no header of its own: its id is where our events have it."""
    return not headers and value[_ID_START:_ID_END] == id_.encode()


def structured(value: bytes, id_: str, headers: Headers) -> tuple[bytes, KafkaHeaders]:
    """Value and headers of a structured-mode record."""
    made = [*STRUCTURED_ONLY, *((name, text.encode()) for name, text in headers)]
    if value[_ID_START:_ID_END] != id_.encode():
        made.append((_ID, id_.encode()))
    return value, made


def binary(value: bytes, id_: str, headers: Headers) -> tuple[bytes, KafkaHeaders]:
    """Value and headers of a binary-mode record; structured where the value cannot be cut in two and put together."""
    seam = value.find(_TYPE_SEAM)
    if seam < 0:
        return structured(value, id_, headers)
    try:
        attributes = orjson.loads(value[:seam] + b"}")
    except orjson.JSONDecodeError:
        return structured(value, id_, headers)
    if not all(isinstance(text, str) for text in attributes.values()):
        return structured(value, id_, headers)
    made = [(_TYPE, b"application/json")]
    made += [(_PREFIX + name, text.encode()) for name, text in attributes.items()]
    made += [(name, text.encode()) for name, text in headers]
    return value[seam + len(_TYPE_SEAM) : -1], made


def read(value: bytes | None, headers: Sequence[tuple[str, bytes | None]]) -> tuple[bytes, Headers, str]:
    """The event's bytes, the headers beside it, and the id if a header has it, from a record of either mode."""
    if len(headers) == 1 and headers[0][1] == _STRUCTURED:
        return value or b"", (), ""
    content_type = b""
    id_ = ""
    attributes: dict[str, str] = {}
    beside: list[tuple[str, str]] = []
    for name, raw in headers:
        if name == _TYPE:
            content_type = raw or b""
        elif name == _ID:
            id_ = (raw or b"").decode(errors="replace")
        elif name.startswith(_PREFIX):
            attributes[name.removeprefix(_PREFIX)] = (raw or b"").decode(errors="replace")
        else:
            beside.append((name, (raw or b"").decode(errors="replace")))
    if content_type.startswith(b"application/cloudevents") or "id" not in attributes:
        return value or b"", tuple(beside), id_
    attributes["datacontenttype"] = content_type.decode(errors="replace") or "application/json"
    id_ = attributes["id"]
    return _joined(attributes, value or b"null"), tuple(beside), id_


def event_id(value: bytes) -> str:
    """The id in an event's bytes; empty when there is none. Ours is at a fixed place, so no parsing is needed."""
    if value.startswith(_ID_HEAD):
        found = value[_ID_START : value.find(b'"', _ID_START)]
        if b"\\" not in found:
            return found.decode(errors="replace")
    try:
        attributes = orjson.loads(value)
        return str(attributes.get("id", "")) if isinstance(attributes, dict) else ""
    except orjson.JSONDecodeError:
        return ""


def _joined(attributes: dict[str, str], data: bytes) -> bytes:
    ordered: dict[str, str] = {name: attributes.pop(name) for name in ATTRIBUTES if name in attributes}
    ordered |= dict(sorted(attributes.items()))
    # ``datacontenttype`` stands directly before the data, whatever extensions there are.
    ordered["datacontenttype"] = ordered.pop("datacontenttype")
    return orjson.dumps(ordered)[:-1] + _SEAM + data + b"}"
