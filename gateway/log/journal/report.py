"""The result of an inspection."""

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
        name: its name; derived from its records if the table of names is damaged.
        floor: first offset that was not trimmed.
        head: offset behind the last known record.
        records: number of readable records.
        size_bytes: bytes of the readable records.
        damages: damaged ranges in the order of offsets.
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
        notes: findings that may be damage, or remains of a failed commit, whose callbacks were not answered with
            success.
        cursors: durable positions, or None if they cannot be read.
    """

    streams: list[StreamReport] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    cursors: dict[tuple[str, str], int] | None = None

    @property
    def damages(self) -> list[Damage]:
        """Damaged ranges of all streams."""
        return [damage for stream in self.streams for damage in stream.damages]

    @property
    def is_sound(self) -> bool:
        """Whether everything that was stored can be read."""
        return not self.problems and not self.damages
