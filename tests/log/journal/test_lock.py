"""The lock on a journal's folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.errors import JournalInUse
from gateway.log.journal.files import FolderLock


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has a device that is always full")
def test_a_full_disk_neither_refuses_nor_keeps_the_lock(tmp_path: Path) -> None:
    """The holder's name cannot be written; the lock is held all the same, and free again when it is given back."""
    (tmp_path / "lock").symlink_to("/dev/full")
    one, two = FolderLock(tmp_path), FolderLock(tmp_path)
    one.acquire()
    with pytest.raises(JournalInUse):
        two.acquire()
    one.release()
    two.acquire()
    two.release()
