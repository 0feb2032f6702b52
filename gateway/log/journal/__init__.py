"""The embedded log: a folder on local disk with one SQLite file, written by one process.

The way of an append: :meth:`Journal.append` encodes the records (``segment``) and joins the batch that gathers
while a commit runs (``group_commit``); the writer's thread (``writer``) stores the whole batch as one row (``store``),
makes room when the file is full (``retention``) and hands back; only then readers (``reader``) see the records, from
memory (``tail``) while they keep up, and the waiters go on. ``checkpoint`` folds the WAL into the file beside the
commits. ``rows`` reads what a disk may have damaged; ``unread`` tells what went before it was read. ``lock`` keeps a
second process out. ``inspection`` looks at damage and makes a ``report``; ``salvaging`` copies what can be read.

Rejected: one row per event (three times the cost per event); a hand-written file format (no cheaper, as the
hand-off between threads costs more than the write, and SQLite's recovery has been proven by others).
"""

from gateway.log.journal.journal import Journal
from gateway.log.journal.losses import Expired
from gateway.log.journal.reader import JournalReader
from gateway.log.journal.recent_ids import newest_ids
from gateway.log.journal.retention import Retention
from gateway.log.journal.streams import EVENTS

__all__ = ["EVENTS", "Expired", "Journal", "JournalReader", "Retention", "newest_ids"]
