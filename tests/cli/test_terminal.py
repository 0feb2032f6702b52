"""Commands as real processes: what goes where on a terminal, in a pipe, and at a shell's completion."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.cli.test_commands import journal_with
from tests.ports import free_port

#: Each command is a process of its own, and on a busy machine the start of one takes ten seconds.
pytestmark = pytest.mark.slow

CONFIG = """
admin: {port: 1}
ingest: {callbacks: {shop: {decoder: json, topic: shop.order, key: $.id}}}
subscribers:
  - {name: billing, topics: [sms.dr], url: "https://a.example/"}
  - {name: bill-archive, topics: [sms.dr], url: "https://b.example/"}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with ``gateway`` in ``bin``, a configuration and a journal."""
    (tmp_path / "config.yaml").write_text(CONFIG)
    journal_with(tmp_path / "data", ("sms.dr", "nxcloud.sms.dr"))
    script = tmp_path / "bin" / "gateway"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -m gateway "$@"\n')
    script.chmod(0o755)
    return tmp_path


def environment(folder: Path, **more: str) -> dict[str, str]:
    root = str(Path(__file__).parents[2])
    path = f"{folder / 'bin'}:{os.environ['PATH']}"
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "GATEWAY_CONFIG")}
    return {**kept, "PYTHONPATH": root, "PATH": path, "TERM": "xterm", **more}


def piped(folder: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["gateway", *arguments],
        cwd=folder,
        env=environment(folder, **more),
        capture_output=True,
        text=True,
        check=False,
    )


class Terminal:
    """A process whose three streams are a terminal, or standard error only."""

    def __init__(self, process: subprocess.Popen[bytes], fd: int) -> None:
        self.process = process
        self.fd = fd
        self.shown = ""

    def until(self, pattern: str) -> None:
        """Read until the terminal has shown this; its end is an error."""
        while not re.search(pattern, self.shown):
            assert self.read(), self.shown

    def read(self) -> bool:
        """Read what there is; whether the terminal is still open."""
        try:
            got = os.read(self.fd, 65536)
        except OSError:  # Linux: nobody has the other side open
            return False
        self.shown += got.decode()
        return bool(got)

    def end(self) -> int:
        """Read to the end; the exit code."""
        while self.read():
            pass
        return self.process.wait()


@contextmanager
def terminal(folder: Path, *arguments: str, out: int | None = None, **more: str) -> Iterator[Terminal]:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        ["gateway", *arguments], cwd=folder, env=environment(folder, COLUMNS="160", LINES="50", **more),
        stdin=theirs, stdout=theirs if out is None else out, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    try:
        yield Terminal(process, ours)
    finally:
        process.kill()
        process.wait()
        with suppress(OSError):
            os.close(ours)


@pytest.mark.parametrize("more", [{}, {"NO_COLOR": "1"}])
def test_colours_are_for_terminals_and_not_with_no_color(folder: Path, more: dict[str, str]) -> None:
    """A line of an event for people, bold on a terminal unless the user wants no colours."""
    with terminal(folder, "tail", "--once", **more) as one:
        assert one.end() == 0
        assert ("\x1b[1mnxcloud.sms.dr\x1b[0m" in one.shown) is (not more)
        assert "nxcloud.sms.dr" in one.shown
        assert ("\x1b" in one.shown) is (not more)


def test_an_error_in_a_pipe_is_one_line_without_colour(folder: Path) -> None:
    """On standard error; nothing is on standard output."""
    failed = piped(folder, "subscribers", "list")
    assert (failed.returncode, failed.stdout) == (1, "")
    assert re.fullmatch("Error: no gateway answers .*\n", failed.stderr)


def test_journal_check_shows_how_far_it_is_on_a_terminal_only(folder: Path) -> None:
    """On standard error: what is piped away is the report alone."""
    with (folder / "report").open("wb") as out, terminal(folder, "journal", "check", "--json", out=out.fileno()) as one:
        assert one.end() == 0
        assert "reading" in one.shown
    assert json.loads((folder / "report").read_text())["is_sound"] is True
    report = piped(folder, "journal", "check")
    assert (report.returncode, report.stderr) == (0, "")


def test_send_to_a_name_that_does_not_resolve_is_one_sentence(folder: Path) -> None:
    """Said once and at once, and not by each connection."""
    started = time.monotonic()
    failed = piped(folder, "send", "sms-dr", "--url", "http://nobody.invalid:8080")
    assert (failed.returncode, failed.stdout) == (1, "")
    assert re.fullmatch(r"Error: the name nobody.invalid cannot be .*\n", failed.stderr), failed.stderr
    assert time.monotonic() - started < 60


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(
    ("words", "found"),
    [
        (("subscribers", "pause", "bil"), {"billing", "bill-archive"}),
        (("replay", "--subscriber", "billi"), {"billing"}),
        (("tail", "--topic", "sh"), {"shop.order"}),
        (("tail", "--topic", "dlq.bill"), {"dlq.billing", "dlq.bill-archive"}),
        (("tail", "--type", "nxcloud.sms"), {"nxcloud.sms.dr"}),
    ],
)
def test_bash_completes_names_of_the_configuration(folder: Path, words: tuple[str, ...], found: set[str]) -> None:
    """By the script that ``gateway completion bash`` prints, with bash itself."""
    script = (
        'eval "$(gateway completion bash)"\n'
        f"COMP_WORDS=(gateway {' '.join(words)}); COMP_CWORD={len(words)}\n"
        "_gateway_completion gateway\n"
        'printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    bash = subprocess.run(
        ["bash", "-c", script], cwd=folder, env=environment(folder), capture_output=True, text=True, check=True
    )
    assert found == set(bash.stdout.split())


def test_completion_speaks_three_shells_and_survives_a_broken_configuration(folder: Path) -> None:
    """zsh and fish get their own scripts; a wrong file completes nothing and says nothing."""
    assert "compdef" in piped(folder, "completion", "zsh").stdout
    assert "complete --no-files --command gateway" in piped(folder, "completion", "fish").stdout
    (folder / "config.yaml").write_text("zzz: [")
    asked = piped(
        folder, _GATEWAY_COMPLETE="bash_complete", COMP_WORDS="gateway subscribers pause b", COMP_CWORD="3"
    )  # fmt: skip
    assert (asked.stdout.strip(), asked.stderr) == ("", "")


def test_top_draws_over_workers_and_q_ends_it(folder: Path) -> None:
    """A real gateway with two workers; it stops, and top says since when it is silent; Ctrl-C of run ends with 130."""
    ports = {"GATEWAY__INGEST__PORT": str(free_port()), "GATEWAY__ADMIN__PORT": str(free_port())}
    shutil.rmtree(folder / "data")
    with terminal(folder, "run", "--workers", "2", **ports, NO_COLOR="1") as run:
        run.until("gateway.started")
        assert piped(folder, "send", "sms-dr", "--count", "20", **ports).returncode == 0
        with terminal(folder, "top", "--interval", "0.2", **ports) as top:
            top.until("billing[^\n]*down")
            top.until("ready[^\n]*4 processes")
            run.process.send_signal(2)
            assert run.end() == 130
            assert re.search(r"gateway.stopped +code=130", run.shown)
            top.until("no answer since")
            os.write(top.fd, b"q")
            assert top.end() == 0
