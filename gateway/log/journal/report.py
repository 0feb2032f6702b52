"""What an inspection found."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Damage:
    """Offsets that cannot be read.

    Args:
        stream: its name.
        first: offset of the first record.
        last: offset of the last record.
        reason: what is wrong with them.
    """

    stream: str
    first: int
    last: int
    reason: str

    def __str__(self) -> str:
        return f"{self.stream} offsets {self.first} to {self.last}: {self.reason}"


@dataclass(slots=True)
class StreamReport:
    """One stream.

    Args:
        name: its name; made from its records when the table of names is damaged.
        floor: first offset that was not trimmed.
        head: offset behind the last one known.
        records: how many can be read.
        size_bytes: of those.
        damages: in order of offsets.
    """

    name: str
    floor: int
    head: int
    records: int = 0
    size_bytes: int = 0
    damages: list[Damage] = field(default_factory=list)


@dataclass(slots=True)
class Report:
    """A whole journal.

    Args:
        streams: in the order of their numbers.
        problems: what is wrong with the file beyond single records, one sentence each.
        notes: what may be damage, or may be what a commit that failed left behind; no success was told of that one.
        cursors: durable positions, or None when they cannot be read.
    """

    streams: list[StreamReport] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    cursors: dict[tuple[str, str], int] | None = None

    @property
    def damages(self) -> list[Damage]:
        """Of all streams."""
        return [damage for stream in self.streams for damage in stream.damages]

    @property
    def is_sound(self) -> bool:
        """Everything that was stored can be read."""
        return not self.problems and not self.damages
