"""The outstanding events of one subscriber in one partition, and the position below which all are done."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.fanout.job import Job, Watermark


@dataclass(frozen=True, slots=True)
class Window:
    """How much of what a subscriber reads may be in memory.

    Args:
        max_events: number of outstanding events. A thousand keeps any concurrency busy; ten times more only costs
            memory, ten times less lets one busy key hold up the others.
        max_bytes: bytes of their values.
        max_span: records at and above the watermark, done or not: a crash repeats at most so many, and other events
            may continue so far while one event waits.
    """

    max_events: int = 2000
    max_bytes: int = 8 * 1024 * 1024
    max_span: int = 20_000


class PartitionQueue:
    """Bookkeeping of one partition for as long as it is ours.

    Args:
        name: of the partition.
        next_offset: the first record that was not looked at.
    """

    __slots__ = ("committed", "is_ours", "jobs", "mark", "name", "next")

    def __init__(self, name: str, next_offset: int = 0) -> None:
        self.name = name
        self.mark = Watermark()
        self.jobs: dict[int, Job] = {}
        self.next = next_offset
        self.committed: int | None = None
        self.is_ours = True

    def track(self, job: Job) -> None:
        """Add a job whose record is the next one; it holds the watermark until it is done."""
        offset = job.record.offset
        self.next = offset + 1
        self.jobs[offset] = job
        self.mark.track(offset)

    def pass_to(self, offset: int) -> None:
        """Skip the records before ``offset``, which need no delivery; an offset that was passed is ignored."""
        if offset > self.next:
            self.next = offset
            self.mark.pass_over(offset - 1)
