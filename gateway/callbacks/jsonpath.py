"""Paths to one value, for configurations of other senders' webhooks."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.callbacks.fields import as_text

_STEP: Final = re.compile(r"""\.([^.\[\]'"\s]+)|\[(\d{1,6})\]|\['([^']+)'\]|\["([^"]+)"\]""")


@dataclass(frozen=True, slots=True)
class JsonPath:
    """A path to one value: ``$.order.id``, ``$.items[0].sku``, ``$['order id']``. No wildcards, no filters.

    With a list of items (``each``), ``$`` is the item and ``$$`` the whole body: ``$$.account``.

    Raises:
        ValueError: the text is not such a path.
    """

    text: str
    steps: tuple[str | int, ...] = field(init=False, repr=False)
    is_of_body: bool = field(init=False, repr=False)

    def __post_init__(self) -> None:
        steps: list[str | int] = []
        is_of_body = self.text.startswith("$$")
        at = 2 if is_of_body else 1
        while at < len(self.text) and (step := _STEP.match(self.text, at)):
            name, index, single, double = step.groups()
            steps.append(int(index) if index is not None else name or single or double)
            at = step.end()
        if not self.text.startswith("$") or at != len(self.text) or not steps:
            raise ValueError(f"{self.text!r} is not a path such as $.order.id")
        object.__setattr__(self, "steps", tuple(steps))
        object.__setattr__(self, "is_of_body", is_of_body)

    @property
    def name(self) -> str:
        """The path without the root, in the sender's notation: ``order.id``."""
        return self.text.lstrip("$").removeprefix(".")

    def value(self, fields: Any) -> Any:
        """Return the value; None if it is absent."""
        for step in self.steps:
            if isinstance(step, int) and isinstance(fields, list):
                fields = fields[step] if step < len(fields) else None
            elif isinstance(fields, dict):
                fields = fields.get(str(step))
            else:
                return None
        return fields

    def find(self, fields: Any) -> str:
        """Return the value as text; empty if it is absent, null, an object or a list."""
        try:
            return as_text(self.value(fields))
        except ValueError:
            return ""
