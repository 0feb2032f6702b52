"""Paths into an event: ``type``, ``account``, ``data.to``, ``data.raw.statuses.0.id``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

#: CloudEvents 1.0.2, "Naming conventions": lower-case ASCII letters and digits.
_ATTRIBUTE: Final = re.compile(r"^[a-z0-9]{1,64}$")

Path = tuple[str, ...]


class Missing:
    """The type of :data:`MISSING`: nothing is there, which is not the same as null."""


MISSING: Final = Missing()


def parse(text: str) -> Path:
    """Split a path at its dots.

    Raises:
        ValueError: neither an attribute of CloudEvents nor a path that begins with ``data.``.
    """
    head, *rest = text.split(".")
    if head == "data" and rest and all(rest):
        return (head, *rest)
    if not rest and head != "data" and _ATTRIBUTE.match(head):
        return (head,)
    raise ValueError("name an attribute such as type or subject, or a path such as data.to")


def find(event: Mapping[str, Any], path: Path) -> Any:
    """Return the value at ``path``, or :data:`MISSING`. A number is an index of a list."""
    value: Any = event
    for step in path:
        if isinstance(value, dict):
            value = value.get(step, MISSING)
        elif isinstance(value, list) and step.isascii() and step.isdigit() and len(step) < 6:
            value = value[int(step)] if int(step) < len(value) else MISSING
        else:
            return MISSING
    return value
