"""Findings: what ``gateway check`` looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partialmethod
from typing import Final, Literal

#: A line names at most so many topics or groups, and the number of the others.
_MOST_NAMED: Final = 5

#: ``unknown``: it could not be asked; it is never shown as good, and does not make the check fail.
Level = Literal["ok", "unknown", "warning", "problem"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Args:
        level: ``problem`` makes ``gateway check`` fail.
        path: key path of the configuration at which it can be mended.
        text: what was seen, one sentence without a full stop.
        advice: what to do; empty where nothing is to be done.
    """

    level: Level
    path: str
    text: str
    advice: str = ""


class Gathered:
    """Findings; topics or groups with the same problem share a line."""

    def __init__(self) -> None:
        self._found: dict[tuple[Level, str, str, str, str], list[str]] = {}

    def add(self, level: Level, path: str, text: str, advice: str = "", *, of: str = "", noun: str = "topic") -> None:
        """Add a finding.

        Args:
            level: its severity; :attr:`ok` and so on add one with their own.
            path: key path of the setting.
            text: with ``of``, the end of a sentence behind its name.
            advice: what to do.
            of: name of the topic or group; empty if the text is a whole sentence.
            noun: kind of ``of``.
        """
        names = self._found.setdefault((level, path, text, advice, noun if of else ""), [])
        if of and of not in names:
            names.append(of)

    ok = partialmethod(add, "ok")
    unknown = partialmethod(add, "unknown")
    warning = partialmethod(add, "warning")
    problem = partialmethod(add, "problem")

    def findings(self) -> list[Finding]:
        """Return the findings in the order in which the first of each was added."""
        return [
            Finding(level, path, f"{listed(noun, names)}: {text}" if names else text, advice)
            for (level, path, text, advice, noun), names in self._found.items()
        ]


def listed(noun: str, names: Sequence[str]) -> str:
    """Return ``topic a``, or ``topics a, b and 7 more``."""
    shown = ", ".join(names[:_MOST_NAMED])
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return f"{noun}{'s' if len(names) > 1 else ''} {shown}{more}"
