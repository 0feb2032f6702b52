"""The journal's files: where they are, and who may read them."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from gateway.admin.history import HistoryStore
from gateway.log.journal import Journal
from gateway.log.journal.check import check
from gateway.log.journal.files import FILE_NAME
from gateway.log.journal.salvage import salvage
from gateway.search.index import Index
from tests.effort import examples
from tests.log.journal.test_journal import ROOMY, entry, opened
from tests.log.journal.test_open_files import WAL

NAMES = [
    *"a?mode=memory",
    "a#b",
    "100%",
    "%41",
    "with space",
    "ä日本",
    "quote'\"",
    "~",
    "file:x",
    ":memory:",
    "a&b=c",
    "a;b",
]


def files_below(folder: Path) -> set[str]:
    """Without the logs that a look leaves behind."""
    return {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.name.rpartition("-")[2] not in ("wal", "shm") and path.is_file()
    }


async def used(folder: Path) -> None:
    """All that opens a database of the folder."""
    journal = Journal(folder, ROOMY)
    await journal.start()
    Index(folder).close()
    await journal.append([entry(1)])
    await journal.stop()
    assert 1 == check(folder).streams[0].records
    salvage(folder, folder / "salvaged")


WANTED = {"lock", FILE_NAME, "search.sqlite", f"salvaged/{FILE_NAME}"}


@pytest.mark.parametrize("name", NAMES)
async def test_files_are_in_the_folder_that_the_name_says(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Database, log, lock and index, absolute, relative, with a slash at the end and through a link."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    for folder, real in (
        (tmp_path / name, name),
        (Path(f"rel/{name}/"), f"rel/{name}"),
        (Path("link", name), f"real/{name}"),
    ):
        await used(folder)
        assert {f"{real}/{file}" for file in WANTED} == {f for f in files_below(tmp_path) if f.startswith(f"{real}/")}
    assert 3 * len(WANTED) == len(files_below(tmp_path))


names = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=20).filter(
    lambda name: name not in (".", "..") and len(name.encode()) < 200
)


@settings(max_examples=examples(20), deadline=None)
@given(name=names)
def test_any_name_that_the_system_takes_is_quoted(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    """Nothing is written beside the folder."""
    base = tmp_path_factory.mktemp("names")
    folder = base / name
    asyncio.run(used(folder))
    assert WANTED == files_below(folder)
    assert [folder] == list(base.iterdir())


@pytest.fixture(params=[0o000, 0o022, 0o077], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


def modes(folder: Path) -> dict[str, str]:
    return {path.name: oct(stat.S_IMODE(path.stat().st_mode)) for path in [folder, *folder.rglob("*")]}


@pytest.mark.usefixtures("umask")
async def test_files_are_private_whatever_the_umask(tmp_path: Path) -> None:
    """0600 in folders of 0700, those of parents that were made included."""
    folder = tmp_path / "new" / "worker-0"
    async with opened(folder) as journal:
        await journal.append([entry(1)])
        index, history = Index(folder), HistoryStore(folder)
        found = modes(folder.parent)
        index.close()
        history.close()
    own = {"lock", FILE_NAME, WAL, f"{FILE_NAME}-shm", "search.sqlite", "history.sqlite"}
    assert {"new", "worker-0", *own} <= found.keys()
    assert {"0o700"} == {found.pop("new"), found.pop("worker-0")}
    assert {"0o600"} == set(found.values())


async def test_files_of_an_older_version_are_narrowed_and_a_given_folder_is_left(tmp_path: Path) -> None:
    """A volume that Kubernetes opens to a group keeps its mode."""
    folder = tmp_path / "data"
    async with opened(folder) as journal:
        await journal.append([entry(1)])
    folder.chmod(0o775)
    for file in folder.iterdir():
        file.chmod(0o644)
    async with opened(folder) as journal:
        await journal.append([entry(2)])
        found = modes(folder)
    assert "0o775" == found.pop("data")
    assert {"0o600"} == set(found.values())


async def test_folder_that_every_user_may_write_is_reported(tmp_path: Path) -> None:
    """Another user can delete the journal from it."""
    os.chmod(tmp_path, 0o777)
    with capture_logs() as lines:
        async with opened(tmp_path):
            pass
    assert ["journal.folder_open"] == [line["event"] for line in lines if line["log_level"] == "warning"]
