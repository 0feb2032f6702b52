"""The embedded log: a folder on local disk with one SQLite file, written by one process.

===============  =====================================================================================
``journal``      the log for its readers: appends, the state that the writer reports (``following``), positions, and
                 what expires before them
``reader``       streams with their newest records in memory; readers of them, and of the file (``connection``)
``writer``       the one writer of the file, in this process or behind a socket (:mod:`gateway.link`): one row for
                 each stream and turn of its event loop; ``batch_format``: without repeats, and the bytes of a row
``storage``      the SQLite file; ``rows`` reads rows that a disk may have damaged
``open_files``   makes checkpoints, and notices that the open files are not those of the next start; ``files`` has the
                 lock that prevents a second writer; ``wal`` counts what SQLite drops of a log without a word
``retention``    removes the oldest rows, by age and when the file is full
``check``        what can be read; ``salvage`` copies it
===============  =====================================================================================

Rejected: one row for each event (three times the cost of an event); a hand-written file format (no cheaper, and
SQLite's recovery is proven in practice).
"""

from gateway.log.journal.batch_format import EVENTS
from gateway.log.journal.journal import Journal
from gateway.log.journal.reader import JournalReader
from gateway.log.journal.retention import Retention
from gateway.log.journal.writer import JournalWriter

__all__ = ["EVENTS", "Journal", "JournalReader", "JournalWriter", "Retention"]
