"""Of a journal that was destroyed, only what was under way may be missing, and only if its sender was not told more."""

from __future__ import annotations

from tests.lossproof.callbacks import Item, callback
from tests.lossproof.destroyed import Destroyed, Removal
from tests.lossproof.history import Told


def told(number: int, *answered_at: int) -> Told:
    """A request that was answered with success at these times."""
    return Told(0, 0, [(at, callback(number).status) for at in answered_at])


def found(history: dict[int, Told], *, is_the_log: bool = False) -> Destroyed:
    destroyed = Destroyed(is_the_log, [Removal(100, 200)])
    destroyed.read(history)
    return destroyed


def test_what_was_accepted_while_the_files_went_is_excused() -> None:
    """In the log and at every subscriber."""
    destroyed = found({0: told(0, 150)})
    assert destroyed.covers(Item(0, 0), "")
    assert destroyed.covers(Item(0, 0), "all")


def test_what_had_arrived_before_is_excused_in_a_log_that_is_the_journal() -> None:
    """At a subscriber it is a loss: it was to have arrived before the files went."""
    for is_the_log in (False, True):
        destroyed = found({0: told(0, 50)}, is_the_log=is_the_log)
        assert destroyed.covers(Item(0, 0), "") == is_the_log
        assert not destroyed.covers(Item(0, 0), "all")


def test_what_was_accepted_after_the_gateway_noticed_is_lost() -> None:
    """By the first answer, or by a repeat that was answered with success."""
    destroyed = found({0: told(0, 201), 1: told(1, 150, 201)}, is_the_log=True)
    assert not any(destroyed.covers(Item(number, 0), where) for number in (0, 1) for where in ("", "all"))


def test_a_run_in_which_nothing_was_destroyed_excuses_nothing() -> None:
    """Also in a log that is the journal."""
    destroyed = Destroyed(is_the_log=True)
    destroyed.read({0: told(0, 0)})
    assert not destroyed.covers(Item(0, 0), "")
