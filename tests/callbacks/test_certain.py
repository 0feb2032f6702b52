"""Facts that are certain from the vendor's pages, and inputs that once went wrong, field by field.

``certain/cases.json`` and ``certain/reported.json``: a request, and under ``expect`` paths into the event with the
value that must be there; ``__absent__`` where none may be. Times compare as moments.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.callbacks import CALLBACKS, CallbackRequest, DecodeContext
from gateway.callbacks.credentials import Credentials
from gateway.callbacks.signature import SignaturePolicy
from gateway.errors import CallbackRejected
from tests.rows import rows

FOLDER = Path(__file__).parent / "certain"
CASES = [case for name in ("cases", "reported") for case in json.loads((FOLDER / f"{name}.json").read_text("utf-8"))]
NOW = datetime(2026, 3, 4, 5, 6, 7, 890123, tzinfo=UTC)
ABSENT = "__absent__"


def member(event: dict[str, Any], path: str) -> Any:
    """Return what is at ``a.b[0].c`` in an event."""
    found: Any = event
    for name, index in re.findall(r"([^.\[\]]+)|\[(\d+)\]", path):
        if index:
            found = found[int(index)]
        elif name not in found:
            return ABSENT
        else:
            found = found[name]
    return found


def moment(value: Any) -> Any:
    """A time as its instant, anything else as it is."""
    if isinstance(value, str) and re.match(r"\d{4}-\d\d-\d\dT", value):
        return datetime.fromisoformat(value)
    return value


@rows("case", CASES, ids=lambda case: case["name"])
def test_what_is_certain(case: dict[str, Any]) -> None:
    """Each request becomes an event of the family, with exactly these values at these places."""
    request = CallbackRequest(
        "POST", f"/callbacks/{case['callback']}", case["query"].encode(), case["headers"], case["body"].encode(), NOW
    )
    callback = CALLBACKS[case["callback"]]
    if "secret" in case:
        assert callback.signature == "general"
        Credentials(signature=SignaturePolicy("general", (case["secret"],))).check(request, NOW)
    if case.get("rejected"):
        with pytest.raises(CallbackRejected):
            callback.decode(request, DecodeContext())
        return
    (event,) = callback.decode(request, DecodeContext()).events
    document = orjson.loads(event.to_json())
    assert case.get("topic", event.topic) == event.topic
    found = {path: member(document, path) for path in case["expect"]}
    assert {path: moment(value) for path, value in case["expect"].items()} == {
        path: moment(value) for path, value in found.items()
    }


def test_there_are_enough_cases() -> None:
    """A file that lost its cases would pass."""
    assert 71 + 24 == len(CASES)
