"""What waits for one topic: the queues of its partitions, how much that is, and why it cannot be written. No I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from gateway.log.kafka.errors import Problem, first_word
from gateway.log.kafka.options import Backoff
from gateway.log.kafka.record_format import KafkaHeaders
from gateway.log.kafka.send_queue import SendQueue, Waiting, without_cancelled

#: In place of a partition, for what concerns the whole topic: it is missing, or may not be seen.
WHOLE: Final = -1


@dataclass(slots=True)
class TopicQueue:
    """One topic; ``partitions`` is empty until they are known.

    Args:
        name: without the prefix.
        registered: see :class:`.SendQueue`.
        unplaced: records that came before the partitions were known.
        bytes: what waits or is on its way.
        is_full: there is no room for more.
        max_batch_bytes: learned from a broker that refused a batch for its size; 0: no limit but ours.
        troubles: why nothing is written, by partition, or :data:`WHOLE`.
        troubled_at: the monotonic time of the newest trouble.
        resolve_at: the monotonic time before which its partitions are not asked for.
    """

    name: str
    registered: KafkaHeaders = field(default_factory=list)
    partitions: list[SendQueue] = field(default_factory=list)
    unplaced: list[Waiting] = field(default_factory=list)
    bytes: int = 0
    is_full: bool = False
    max_batch_bytes: int = 0
    troubles: dict[int, Problem] = field(default_factory=dict)
    troubled_at: float = 0.0
    resolve_at: float = 0.0
    #: Between looks for its partitions, which cost nobody else anything.
    resolving: Backoff = field(default_factory=lambda: Backoff(first_s=0.2, last_s=2.0))

    @property
    def is_idle(self) -> bool:
        """Nothing of it waits or is on its way."""
        return not self.unplaced and all(queue.is_idle for queue in self.partitions)

    @property
    def trouble(self) -> Problem | None:
        """Why not all of it can be written; None when it can."""
        if not self.troubles:
            return None
        first = first_word(problem.word for problem in self.troubles.values())
        numbers = sorted(number for number, problem in self.troubles.items() if problem.word == first)
        problem = self.troubles[numbers[0]]
        if numbers[0] == WHOLE or len(numbers) == len(self.partitions):
            return problem
        which = f"partition {numbers[0]}" if len(numbers) == 1 else f"partitions {', '.join(map(str, numbers))}"
        return Problem(first, f"{which}: {problem.text}")

    def drop_cancelled(self) -> int:
        """Forget what waits and whose senders have given up; return how much that was in bytes."""
        self.unplaced, size = without_cancelled(self.unplaced)
        return size + sum(queue.drop_cancelled() for queue in self.partitions)
