"""What the records of finished calls have in common, whichever product they come from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.callbacks.fields import Scope


def tell_answered(data: dict[str, Any], source: Mapping[str, Any], scope: Scope) -> None:
    """Whether the call was answered, where its record does not say so itself: a finish of its shape.

    With the time of an answer it was. Without one it was not, if the record tells of its end: the vendor leaves the
    time empty, null or out as often as it sends 0. A call that lasted and names no time contradicts itself (in the
    pages' examples the duration is that of the conversation), so nothing is said of it; nor of a record cut short.

    For shapes that have ``answered_at`` only: a record that never names that time would always be "not answered".
    """
    if "answered" in data:
        return
    if "answered_at" in data:
        data["answered"] = True
    elif not data.get("duration_s") and ("duration_s" in data or "ended_at" in data):
        data["answered"] = False
