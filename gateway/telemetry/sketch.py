"""Durations counted in buckets that are 2 % wide: quantiles that are right to 1 %, whatever the durations are.

This is DDSketch (Masson, Rim, Lee, VLDB 2019) for values between a microsecond and eleven days, so that the number of
buckets has a bound by itself. A sketch is a ``dict`` from bucket to count: adding two of them up is the sketch of both,
and the difference of two readings of one is the sketch of what happened in between. The package ``ddsketch`` has the
first and not the second.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, log
from typing import Final

#: Upper bound of a bucket by that of the one before it. With 1.2 a 3 s time-out would be shown as 2.7 to 3.3 s.
_GAMMA: Final = 1.02
_PER_LOG: Final = 1 / log(_GAMMA)
_LEAST_S: Final = 1e-6
_MOST_S: Final = 1e6


def bucket(seconds: float) -> int:
    """Return the bucket of a duration."""
    return ceil(log(min(max(seconds, _LEAST_S), _MOST_S)) * _PER_LOG)


def quantile(counts: Mapping[int, int], share: float) -> float | None:
    """Return the duration in seconds that this share of all is not longer than; None when nothing was counted.

    Args:
        counts: by bucket.
        share: above 0, up to 1.
    """
    wanted = share * sum(counts.values())
    seen = 0
    for number in sorted(counts):
        seen += counts[number]
        if seen >= wanted and seen:
            # The value that is nearest to both ends of the bucket in proportion.
            return 2 * _GAMMA**number / (_GAMMA + 1)
    return None
