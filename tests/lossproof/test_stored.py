"""What stands in the journal: an event that is there twice is found."""

from __future__ import annotations

from pathlib import Path

import orjson

from gateway.log import Entry
from gateway.log.journal import batch_format
from gateway.log.journal.storage import Store
from tests.lossproof import stored


def test_an_event_that_was_stored_again_is_found(tmp_path: Path) -> None:
    """By another commit, under the same id; different events of one commit are none."""
    store = Store(tmp_path, is_writer=True)
    ids = [f"{number:032x}" for number in range(3)]
    for commit in (ids[:2], ids[1:]):
        draft = batch_format.Draft()
        for id_ in commit:
            value = orjson.dumps({"specversion": "1.0", "id": id_, "partitionkey": "k", "ext": "lp.1.0."})
            draft.add("sms.dr", batch_format.encode(Entry("sms.dr", "k", id_, value)))
        store.commit({"events": draft}, {}, 1.0)
    store.close()
    assert stored.twice(tmp_path) == [ids[1]]
