"""The newest records in memory against a list."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given, settings

from gateway.log import Entry, Record
from gateway.log.journal import batch_format
from gateway.log.journal.batch_format import Commit, StreamCache

NOW = 1_700_000_000.0
sizes = st.sampled_from([0, 1, 40, 700, 3000, 20_000])
shares = st.floats(0, 1)
steps = st.one_of(
    st.tuples(st.just("stored"), st.lists(sizes, min_size=1, max_size=8)),
    st.tuples(st.just("missed"), st.integers(1, 5)),
    st.tuples(st.just("skipped"), st.integers(0, 5)),
    st.tuples(st.just("slice"), st.tuples(shares, st.integers(1, 40))),
)


class Model:
    """``records`` are all that were ever stored, None where the cache never had their bytes."""

    def __init__(self, first: int, most: int) -> None:
        self.first, self.most = first, most
        self.cache = StreamCache(first, most)
        self.records: list[Record | None] = []
        #: Nothing before it may be in the cache: offsets there are contiguous.
        self.gap = first

    @property
    def head(self) -> int:
        return self.first + len(self.records)

    def stored(self, values: list[int]) -> None:
        base = self.head
        entries = [
            Entry(f"sms.{base}", f"k{at}", f"{base + at:032x}", bytes([at]) * size, (("at", str(at)),) * (at % 2))
            for at, size in enumerate(values)
        ]
        self.cache.extend(
            Commit("events", base, len(values), NOW + base, b"".join(batch_format.encode(one) for one in entries))
        )
        self.records += [Record("events", base + at, NOW + base, *one) for at, one in enumerate(entries)]
        assert self.cache.head == self.head
        self.is_kept_as_far_as_it_fits()

    def missed(self, count: int) -> None:
        """A commit that the cache was not given: the next one has a gap before it."""
        self._lack(count)

    def skipped(self, count: int) -> None:
        self._lack(count)
        self.cache.skip(self.head)

    def _lack(self, count: int) -> None:
        self.records += [None] * count
        self.gap = self.head

    def slice(self, share: float, limit: int) -> None:
        position = self.cache.first + round((self.cache.head - self.cache.first) * share)
        expected = self.records[position - self.first : self.cache.head - self.first][:limit]
        found = self.cache.slice(position, limit)
        assert expected == found
        found.clear()  # the caller's own
        assert expected == self.cache.slice(position, limit)

    def is_kept_as_far_as_it_fits(self) -> None:
        """Memory is bounded, and nothing is dropped as long as twice the records would fit."""
        assert self.gap <= self.cache.first
        held = [one for one in self.records[self.cache.first - self.first :] if one is not None]
        assert len(held) == self.cache.head - self.cache.first
        assert sum(len(one.value) + 500 for one in held) <= self.most
        since_gap = [one for one in self.records[self.gap - self.first :] if one is not None]
        if sum(len(one.value) + 1000 for one in since_gap) <= self.most:
            assert self.cache.first == self.gap


@settings(deadline=None)
@given(
    first=st.sampled_from([0, 7, 1 << 40]),
    most=st.sampled_from([2500, 12_000, 1 << 30]),
    done=st.lists(steps, max_size=20),
)
def test_any_sequence_of_commits_gaps_and_slices_is_a_list(
    first: int, most: int, done: list[tuple[str, object]]
) -> None:
    model = Model(first, most)
    for step, argument in done:
        match step:
            case "stored":
                model.stored(argument)  # type: ignore[arg-type]
            case "missed":
                model.missed(argument)  # type: ignore[arg-type]
            case "skipped":
                model.skipped(argument)  # type: ignore[arg-type]
            case "slice":
                model.slice(*argument)  # type: ignore[misc]
    for share in (0.0, 0.5, 1.0):
        model.slice(share, 1 << 20)
