"""Tables as one item: each row is tried, and a failure names its rows."""

from __future__ import annotations

import inspect

import pytest

from tests.rows import rows


def test_every_row_is_tried_and_each_failure_is_named() -> None:
    """Also behind one that failed, by whichever way a test fails."""
    tried = []

    @rows(("number", "text"), [(1, "a"), (2, "b"), (3, "c")], ids=["one", "two", "three"])
    def check(number: int, text: str, fixture: str) -> None:
        tried.append((number, text, fixture))
        if number == 2:
            pytest.fail("no")
        assert number < 3

    assert ["fixture"] == list(inspect.signature(check).parameters)
    with pytest.raises(BaseExceptionGroup, match="2 rows failed: two, three") as caught:
        check(fixture="f")
    assert [(1, "a", "f"), (2, "b", "f"), (3, "c", "f")] == tried
    assert [["in the row two"], ["in the row three"]] == [exc.__notes__ for exc in caught.value.exceptions]


async def test_one_failure_is_raised_as_it_is() -> None:
    """With the name of its row; of a coroutine too, and of tables in each other."""

    @rows("outer", "xy")
    @rows("inner", [0, 1])
    async def check(outer: str, inner: int) -> None:
        assert (outer, inner) != ("y", 1)

    with pytest.raises(AssertionError) as caught:
        await check()
    assert ["in the row 1", "in the row 'y'"] == caught.value.__notes__


def test_a_time_out_ends_the_test() -> None:
    """It is that of all rows."""
    tried = []

    @rows("number", [1, 2])
    def check(number: int) -> None:
        tried.append(number)
        pytest.fail("Timeout (>120.0s) from pytest-timeout.")

    with pytest.raises(pytest.fail.Exception):
        check()
    assert [1] == tried


def test_a_table_has_rows() -> None:
    """Otherwise it would prove nothing."""
    with pytest.raises(AssertionError, match="proves nothing"):
        rows("number", [])
