"""An event in a line: what lists and the live tail show. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from gateway.log import Record
from gateway.search.keys import callback_of, parsed

#: The most informative fields of ``data``, in display order.
_INFORMATIVE: Final = (
    "status",
    "state",
    "outcome",
    "kind",
    "channel",
    "direction",
    "from",
    "to",
    "phone",
    "call_id",
    "task_id",
    "order_id",
    "callback",
    "reason",
    "field",
)
_MAX_TEXT: Final = 120


def event_summary(record: Record, event: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the attributes and the most informative fields; ``event`` is the record's value if already parsed."""
    event = parsed(record.value) if event is None else event
    data = event.get("data")
    return {
        "id": record.id,
        "topic": record.topic,
        "type": event.get("type"),
        "callback": callback_of(event),
        "account": event.get("account"),
        "key": record.key,
        "subject": event.get("subject"),
        "time": event.get("time"),
        "recordedtime": event.get("recordedtime"),
        "stored_at": record.appended_at,
        "offset": record.offset,
        "fields": _fields(data) if isinstance(data, dict) else {},
    }


def _fields(data: Mapping[str, Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in _INFORMATIVE:
        value = data.get(name)
        if isinstance(value, (str, int)) and not isinstance(value, bool) and value != "":
            found[name] = str(value)[:_MAX_TEXT]
    return found
