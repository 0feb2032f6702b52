"""Unix sockets by name: whose they are, how long a name may be, and what is left of an older one."""

from __future__ import annotations

import os
import socket
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway.errors import Broken
from gateway.sockets import connected, listen_locally

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="a long name needs /proc/self/fd")


@contextmanager
def listening(path: Path) -> Iterator[socket.socket]:
    made = listen_locally(path)
    try:
        yield made
    finally:
        made.close()


def talks(listener: socket.socket, path: Path) -> bool:
    """Whether a connection to the name comes out at this listener."""
    with connected(path) as there:
        try:
            here, _ = listener.accept()
        except BlockingIOError:
            return False
        with here:
            there.sendall(b"hello")
            here.settimeout(5)
            return here.recv(5) == b"hello"


def deep(folder: Path, length: int) -> Path:
    """A name of so many bytes, its folder made."""
    while len(os.fsencode(folder)) < length - 60:
        folder /= "x" * 40
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / ("s" * (length - len(os.fsencode(folder)) - 1))
    assert len(os.fsencode(path)) == length
    return path


@pytest.mark.parametrize("length", [107, pytest.param(108, marks=on_linux), pytest.param(500, marks=on_linux)])
def test_a_name_may_have_any_length(tmp_path: Path, length: int) -> None:
    """107 bytes are what the kernel takes; the files of longer ones are where their names say."""
    path = deep(tmp_path, length)
    with listening(path) as listener:
        assert stat.S_ISSOCK(path.stat().st_mode)
        assert talks(listener, path)


@on_linux
def test_a_long_name_that_is_not_ascii_is_measured_in_bytes(tmp_path: Path) -> None:
    folder = tmp_path / ("é" * 45)
    folder.mkdir()
    with listening(folder / "log.sock") as listener:
        assert talks(listener, folder / "log.sock")


@on_linux
def test_long_names_leave_no_descriptor_open(tmp_path: Path) -> None:
    path = deep(tmp_path, 300)
    before = set(os.listdir("/proc/self/fd"))
    with listening(path) as listener:
        assert talks(listener, path)
    for _ in range(2):
        with pytest.raises(OSError, match="refused"):
            connected(path)
    assert before == set(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o777])
def test_only_its_user_may_connect_whatever_the_mask_is(tmp_path: Path, mask: int) -> None:
    """The process's mask stays what it was."""
    before = os.umask(mask)
    try:
        with listening(tmp_path / "log.sock"):
            assert stat.S_IMODE((tmp_path / "log.sock").stat().st_mode) == 0o600
        assert os.umask(mask) == mask
    finally:
        os.umask(before)


def test_one_that_a_killed_process_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "log.sock"
    with listening(path):
        pass
    assert path.exists()
    with pytest.raises(ConnectionRefusedError):
        connected(path)
    with listening(path) as listener:
        assert talks(listener, path)


def test_a_name_that_is_taken_over_leads_to_the_new_one(tmp_path: Path) -> None:
    """Of two listeners the one that was bound last has the name; the connections of the other one stay."""
    path = tmp_path / "log.sock"
    with listening(path) as old, connected(path) as there:
        here, _ = old.accept()
        with here, listening(path) as new:
            assert talks(new, path)
            here.sendall(b"still here")
            there.settimeout(5)
            assert there.recv(10) == b"still here"
            with pytest.raises(BlockingIOError):
                old.accept()


def test_nobody_there_and_no_folder_are_clear_errors(tmp_path: Path) -> None:
    for path in (tmp_path / "log.sock", tmp_path / "nowhere" / "log.sock", tmp_path / ("x" * 200) / "log.sock"):
        with pytest.raises(FileNotFoundError):
            connected(path)
    for path in (tmp_path / "nowhere" / "log.sock", tmp_path / ("x" * 200) / "log.sock"):
        with pytest.raises(Broken, match=r"no socket can be opened here: No such file"):
            listen_locally(path)


def test_sockets_never_block_and_are_not_inherited_by_programs(tmp_path: Path) -> None:
    with listening(tmp_path / "log.sock") as listener, connected(tmp_path / "log.sock") as there:
        for made in (listener, there):
            assert not made.getblocking()
            assert not made.get_inheritable()
