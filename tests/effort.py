"""How much a run looks at: a change waits for the short one, the nightly one looks for what it missed.

``TESTS_NIGHTLY=1 python -m tests`` makes it the nightly one: properties with ten times the examples, drawn anew each
night; every fault of each scenario of the loss proof; each fuzz target for five minutes; all parts of the benchmarks;
and what is marked :data:`nightly`.
"""

from __future__ import annotations

import os
from typing import Final

import pytest

IS_NIGHTLY: Final = bool(os.environ.get("TESTS_NIGHTLY"))
#: Mark what takes long and guards what seldom changes.
nightly: Final = pytest.mark.skipif(not IS_NIGHTLY, reason="runs nightly: TESTS_NIGHTLY=1")
#: Examples of a property that says nothing else. Those of a short run are the same in each on CI.
EXAMPLES: Final = 1000 if IS_NIGHTLY else 50


def examples(short: int) -> int:
    """Return how many examples a property is tried with.

    Args:
        short: the number of a run that a change waits for.
    """
    return short * 10 if IS_NIGHTLY else short
