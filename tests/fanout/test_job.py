from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.fanout.job import Watermark


@given(data=st.data())
def test_committable_is_behind_everything_that_is_not_done(data: st.DataObject) -> None:
    """Any gaps, any records passed over, any order of completions, any moment: against a plain list."""
    gaps = data.draw(st.lists(st.tuples(st.integers(1, 5), st.booleans()), min_size=1, max_size=40))
    mark = Watermark()
    offset, read, open_ = -1, [], []
    while gaps or open_:
        if gaps and (not open_ or data.draw(st.booleans())):
            step, is_tracked = gaps.pop(0)
            offset += step
            read.append(offset)
            if is_tracked:
                mark.track(offset)
                open_.append(offset)
            else:
                mark.pass_over(offset)
        else:
            done = data.draw(st.sampled_from(open_))
            before, span = mark.committable, mark.span
            open_.remove(done)
            moved = mark.done(done)
            assert span - mark.span == moved
            assert bool(moved) == (mark.committable != before)
        assert (min(open_) if open_ else read[-1] + 1) == mark.committable
    assert 0 == mark.span


def test_nothing_read_commits_nothing() -> None:
    """There is no offset before the first record."""
    assert Watermark().committable is None


def test_span_counts_what_a_crash_repeats() -> None:
    """One event that waits keeps everything behind it from being committed, and that is counted."""
    mark = Watermark()
    for offset in range(10):
        mark.track(offset)
    for offset in range(1, 10):
        mark.done(offset)
    assert (10, 0) == (mark.span, mark.committable)
    mark.done(0)
    assert (0, 10) == (mark.span, mark.committable)
