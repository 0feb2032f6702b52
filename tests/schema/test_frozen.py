"""Names of the event model are frozen: a consumer that was written for them never misses one."""

from __future__ import annotations

import json
from copy import deepcopy

from tests.rows import rows
from tests.schema.freeze import FILE, Names, broken, names

FROZEN: Names = json.loads(FILE.read_text())


def test_no_frozen_name_is_gone_or_has_another_type() -> None:
    """A change is a new version of the model; added names are frozen with ``python -m tests.schema.freeze``."""
    assert [] == broken(FROZEN, names())


def test_every_name_is_frozen() -> None:
    """A name that was added, and not frozen, could be changed again unnoticed."""
    assert FROZEN == names(), "run: python -m tests.schema.freeze"


@rows("change", ["taken out", "another type", "topic", "event type"])
def test_changes_are_noticed(change: str) -> None:
    """Each kind of change that a consumer would notice."""
    now = deepcopy(FROZEN)
    if change == "taken out":
        del now["sms.dr"]["data.price.unit"]
    elif change == "another type":
        now["sms.dr"]["data.status_code"] = "integer"
    elif change == "topic":
        del now["order.status"]
    else:
        del now["message.incoming"]["type=nxcloud.line.message"]
    assert broken(FROZEN, now) != []
