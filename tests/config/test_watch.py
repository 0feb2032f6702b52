"""Hot reload: new subscribers come through, bad files do not."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, contextmanager
from itertools import chain, repeat
from pathlib import Path

import pytest
import structlog
from structlog.typing import EventDict, WrappedLogger

from gateway.config import document
from gateway.config.loading import load
from gateway.config.settings import Settings
from gateway.config.watch import restart_needed, watch
from gateway.errors import ConfigError

GOOD = "subscribers: [{name: %s, topics: [sms.dr], url: 'https://example.com/'}]\n"


class Lines:
    """Log lines as they come, and a wait for one."""

    def __init__(self) -> None:
        self.lines: list[EventDict] = []
        self._news = asyncio.Event()

    def __call__(self, logger: WrappedLogger, method: str, line: EventDict) -> EventDict:
        self.lines.append(line)
        self._news.set()
        raise structlog.DropEvent

    async def said(self, event: str) -> None:
        async with asyncio.timeout(10):
            while not any(line["event"] == event for line in self.lines):
                self._news.clear()
                await self._news.wait()


@contextmanager
def listening() -> Iterator[Lines]:
    processors = structlog.get_config()["processors"]
    before = processors.copy()
    lines = Lines()
    processors[:] = [lines]  # in place: loggers keep the list they were made with
    try:
        yield lines
    finally:
        processors[:] = before


def anything(settings: Settings) -> None:
    """Accept every configuration."""


def watching(
    path: Path,
    current: Settings,
    poll_s: float = 0.005,
    asked: asyncio.Event | None = None,
    check: Callable[[Settings], None] = anything,
) -> AsyncIterator[Settings]:
    return watch(path, {}, current, check, asked=asked or asyncio.Event(), poll_s=poll_s, settle_s=0.001)


async def following(found: AsyncIterator[Settings]) -> list[str]:
    async with asyncio.timeout(10):
        settings = await anext(found)
    return [subscriber.name for subscriber in settings.subscribers]


async def test_changed_file_gives_new_settings(tmp_path: Path) -> None:
    """Each change is yielded once, in order."""
    path = tmp_path / "config.yaml"
    path.write_text(GOOD % "a")
    async with aclosing(watching(path, load(path, {}))) as found:
        path.write_text(GOOD % "b")
        assert await following(found) == ["b"]
        path.write_text(GOOD % "c")
        assert await following(found) == ["c"]


async def test_change_between_loading_and_watching_is_noticed(tmp_path: Path) -> None:
    """What is in force is compared with the file, not with the file as the watcher first saw it."""
    path = tmp_path / "config.yaml"
    path.write_text(GOOD % "new")
    async with aclosing(watching(path, Settings())) as found:
        assert await following(found) == ["new"]


async def test_swapped_symbolic_link_is_a_change(tmp_path: Path) -> None:
    """A ConfigMap is mounted as config.yaml -> ..data/config.yaml, and ..data is a link that is replaced."""
    for name in ("a", "b"):
        (tmp_path / f"..{name}").mkdir()
        (tmp_path / f"..{name}" / "config.yaml").write_text(GOOD % name)
    (tmp_path / "..data").symlink_to("..a")
    path = tmp_path / "config.yaml"
    path.symlink_to("..data/config.yaml")
    async with aclosing(watching(path, load(path, {}))) as found:
        (tmp_path / "..new").symlink_to("..b")
        os.replace(tmp_path / "..new", tmp_path / "..data")
        assert await following(found) == ["b"]


_MISTYPED = (
    "ingest: {port: x}\nlog: {level: x}\n",
    [
        "ingest.port: a whole number is needed (config.yaml line 1)",
        "log.level: one of debug, info, warning, error is needed (config.yaml line 2)",
    ],
)
#: As an editor leaves it on a full disk.
_EMPTY = ("\n", ["config.yaml: the file is empty; to remove all subscribers, write 'subscribers: []'"])


@pytest.mark.parametrize(("text", "problems"), [_MISTYPED, _EMPTY], ids=["mistyped", "empty"])
async def test_bad_file_is_refused_once_and_the_old_one_stays(tmp_path: Path, text: str, problems: list[str]) -> None:
    """One log line with every problem; nothing is yielded until the file is right again."""
    path = tmp_path / "config.yaml"
    path.write_text(GOOD % "a")
    with listening() as logs:
        async with aclosing(watching(path, load(path, {}))) as found:
            path.write_text(text)
            task = asyncio.ensure_future(following(found))
            await logs.said("config.refused")
            path.write_text(GOOD % "b")
            assert await task == ["b"]
    (refused,) = [line for line in logs.lines if line["event"] == "config.refused"]
    assert refused["problems"] == problems


async def test_file_that_cannot_be_applied_is_refused_until_it_can(tmp_path: Path) -> None:
    """The same file is taken when somebody asks again after what it names was mended; nothing else was yielded."""
    path, certificate = tmp_path / "config.yaml", tmp_path / "ca.pem"
    path.write_text(GOOD % "a")
    asked = asyncio.Event()

    def check(settings: Settings) -> None:
        if not certificate.exists():
            raise ConfigError(["subscribers[b].tls.ca_file: cannot be read"])

    with listening() as logs:
        async with aclosing(watching(path, load(path, {}), asked=asked, check=check)) as found:
            path.write_text(GOOD % "b")
            task = asyncio.ensure_future(following(found))
            await logs.said("config.refused")
            assert not task.done()
            certificate.touch()
            asked.set()
            assert await task == ["b"]


async def test_what_was_compared_is_what_is_applied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is written again after two looks agreed, and is empty for a moment then, drops no subscriber."""
    path = tmp_path / "config.yaml"
    path.write_text(GOOD % "a")
    current = load(path, {})
    settled = [GOOD % "a", GOOD % "a", GOOD % "b", GOOD % "b"]
    texts = chain([*settled, ""], repeat(GOOD % "b"))
    monkeypatch.setattr(document, "content", lambda path: next(texts).encode())
    async with aclosing(watching(path, current)) as found:
        assert await following(found) == ["b"]


async def test_all_subscribers_can_be_removed(tmp_path: Path) -> None:
    """By an empty list, which says that it is meant."""
    path = tmp_path / "config.yaml"
    path.write_text(GOOD % "a")
    async with aclosing(watching(path, load(path, {}))) as found:
        path.write_text("subscribers: []\n")
        assert await following(found) == []


async def test_an_empty_file_at_the_start_stays_the_default(tmp_path: Path) -> None:
    """It is what is in force."""
    path = tmp_path / "config.yaml"
    path.write_text("")
    asked = asyncio.Event()
    with listening() as logs:
        async with aclosing(watching(path, load(path, {}), asked=asked)) as found:
            task = asyncio.ensure_future(following(found))
            asked.set()
            await logs.said("config.unchanged")
            path.write_text(GOOD % "a")
            assert await task == ["a"]
    assert not [line for line in logs.lines if line["event"] == "config.refused"]


async def test_missing_file_is_refused_like_a_bad_one(tmp_path: Path) -> None:
    """A file that is gone for a moment drops no subscriber."""
    path = tmp_path / "config.yaml"
    path.write_text(GOOD % "a")
    with listening() as logs:
        async with aclosing(watching(path, load(path, {}))) as found:
            path.unlink()
            task = asyncio.ensure_future(following(found))
            await logs.said("config.refused")
            path.write_text(GOOD % "b")
            assert await task == ["b"]


async def test_asked_looks_at_once(tmp_path: Path) -> None:
    """Who asks does not wait for the next look, and is told when nothing changed."""
    path = tmp_path / "config.yaml"
    path.write_text(GOOD % "a")
    asked = asyncio.Event()
    with listening() as logs:
        async with aclosing(watching(path, load(path, {}), poll_s=3600, asked=asked)) as found:
            task = asyncio.ensure_future(following(found))
            asked.set()
            await logs.said("config.unchanged")
            path.write_text(GOOD % "b")
            asked.set()
            assert await task == ["b"]


async def test_sections_that_need_a_restart_are_named(tmp_path: Path) -> None:
    """All but subscribers are read at start."""
    path = tmp_path / "config.yaml"
    path.write_text(GOOD % "a")
    old = load(path, {})
    with listening() as logs:
        async with aclosing(watching(path, old)) as found:
            path.write_text(GOOD % "b" + "ingest: {port: 9999}\nlog: {level: debug}\n")
            await following(found)
    assert [line["sections"] for line in logs.lines if line["event"] == "config.restart_needed"] == [["ingest", "log"]]
    assert restart_needed(old, old) == []
