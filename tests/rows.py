"""Tables of a test: all rows in one item, where an item for each would cost more than the row itself.

An item costs about ten milliseconds in each worker (collection, fixtures, reports). All rows are tried, also after one
that failed, and the failure names each row that did. Rows share the fixtures of the test: where each needs fresh ones,
or takes long, ``pytest.mark.parametrize`` is right.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import pytest

Test = Callable[..., Any]
#: Of the rows that failed so many are shown with their traceback, the others by name only.
_SHOWN: Final = 3
#: How pytest-timeout fails a test: the time is that of all rows, and is up.
_TIME_IS_UP: Final = "Timeout (>"
#: Of the name of a row that has none.
_MOST_CHARACTERS: Final = 200


def _short(row: Any) -> str:
    """Return a row as code, cut where it is long."""
    text = repr(row)
    return text if len(text) < _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]}…"


class _Failures:
    """The rows of one call that failed."""

    def __init__(self) -> None:
        self._found: list[BaseException] = []
        self._names: list[str] = []

    @contextmanager
    def row(self, name: str) -> Iterator[None]:
        """Keep the failure of a row, so that the next one is tried."""
        try:
            yield
        except (Exception, pytest.fail.Exception) as exc:
            exc.add_note(f"in the row {name}")
            if str(exc).startswith(_TIME_IS_UP):
                raise
            self._found.append(exc)
            self._names.append(name)

    def report(self) -> None:
        """Raise what failed; a single failure as it is."""
        if len(self._found) == 1:
            raise self._found[0]
        if self._found:
            text = f"{len(self._found)} rows failed: {', '.join(self._names)}"
            raise BaseExceptionGroup(text, self._found[:_SHOWN])


def rows(
    names: str | tuple[str, ...], table: Iterable[Any], ids: Iterable[str] | Callable[[Any], str] = _short
) -> Callable[[Test], Test]:
    """Return a decorator that calls a test with each row, as one test; otherwise like ``pytest.mark.parametrize``.

    Args:
        names: of the parameters of a row: of one where a row is a value, of several where it is a tuple.
        table: the rows.
        ids: what a failure calls each row, or what makes that of a row.
    """
    values = list(table)
    labels = [ids(value) for value in values] if callable(ids) else list(ids)
    assert values, "a table without rows proves nothing"
    arguments = [
        (label, {names: value} if isinstance(names, str) else dict(zip(names, value, strict=True)))
        for label, value in zip(labels, values, strict=True)
    ]

    def decorate(test: Test) -> Test:
        def each(**fixtures: Any) -> None:
            failures = _Failures()
            for label, row in arguments:
                with failures.row(label):
                    test(**fixtures, **row)
            failures.report()

        async def each_awaited(**fixtures: Any) -> None:
            failures = _Failures()
            for label, row in arguments:
                with failures.row(label):
                    await test(**fixtures, **row)
            failures.report()

        found: Any = each_awaited if inspect.iscoroutinefunction(test) else each
        for name in ("__name__", "__qualname__", "__doc__", "__module__"):
            setattr(found, name, getattr(test, name))
        signature = inspect.signature(test)
        others = [one for name, one in signature.parameters.items() if name not in arguments[0][1]]
        found.__signature__ = signature.replace(parameters=others)
        found.pytestmark = getattr(test, "pytestmark", [])
        found.__wrapped__ = test  # where pytest says that it stands
        return found  # type: ignore[no-any-return]

    return decorate
