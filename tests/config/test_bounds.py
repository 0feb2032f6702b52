"""Configuration files that stand for more than they are: refused with a sentence, in bounded time and memory."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.config import document
from gateway.config.loading import load, loads
from gateway.config.settings import Settings
from gateway.config.watch import watch
from gateway.errors import ConfigError
from tests.pace import slowness
from tests.waiting import pause, until

_SIZE = document.MOST_BYTES - 100
#: Seconds of CPU; real ones need less than a second. Without the bounds some of them need years.
_MOST_S = 10.0


def bombs() -> Iterator[tuple[str, str]]:
    """Name and text of each."""
    for name, first, inside in (
        ("lists", "[x,x,x,x,x,x,x,x,x]", "[*{0},*{0},*{0},*{0},*{0},*{0},*{0},*{0},*{0}]"),
        ("sections", "{x: 1, y: 2}", "{{k1: *{0}, k2: *{0}, k3: *{0}, k4: *{0}, k5: *{0}, k6: *{0}}}"),
        ("merges", "{x: 1, y: 2}", "{{<<: [*{0},*{0},*{0},*{0},*{0},*{0},*{0},*{0}]}}"),
    ):
        lines = [f"a0: &a0 {first}"] + [f"a{n}: &a{n} {inside.format(f'a{n - 1}')}" for n in range(1, 9)]
        yield f"aliases of {name}", "\n".join(lines)
    yield "aliases as a key", "a: &a [x,x]\nb: &b [*a,*a]\n? *b\n: 1"
    yield "an alias in itself", "a: &a {b: *a}"
    yield "deep lists", "a: " + "[" * _SIZE
    yield "deep sections", "a: " + "{a: " * (_SIZE // 4)
    yield "deep blocks", "a:\n" + "".join(" " * n + "-\n" for n in range(1400))
    yield "dashes", "- " * (_SIZE // 2)
    yield "complex keys", "? " * (_SIZE // 2)
    yield "many items", "a: [" + "1," * (_SIZE // 2 - 3) + "]"
    yield "many keys", "".join(f"k{n:06}: 1\n" for n in range(_SIZE // 11))
    yield "one key often", "ingest: {}\n" * (_SIZE // 11)
    yield "base 60", "a: 1" + ":1" * (_SIZE // 2 - 3)
    yield "base 60 with a point", "a: 1" + ":1" * (_SIZE // 2 - 5) + ".5"
    yield "huge integer", "ingest: {port: " + "9" * (_SIZE - 20) + "}"
    yield "huge hexadecimal", "a: 0x" + "f" * (_SIZE - 6)
    yield "many documents", "---\n" * (_SIZE // 4)
    yield "too large", "#" * (document.MOST_BYTES + 1)
    yield "variables", "journal: {dir: '" + "${A}" * (_SIZE // 5) + "'}"
    for tag, text in (("int", "''"), ("int", "x"), ("float", "''"), ("bool", "x"), ("timestamp", "x"), ("null", "x")):
        yield f"tag {tag} {text}", f"a: !!{tag} {text}"
    yield "tag of Python", "a: !!python/object/apply:os.system [x]"
    yield "binary", "a: !!binary '" + "*" * 100 + "'"
    yield "date", "a: 2024-13-45"


@pytest.mark.parametrize(("name", "text"), [pytest.param(*bomb, id=bomb[0]) for bomb in bombs()])
def test_a_file_that_stands_for_too_much_is_refused(name: str, text: str) -> None:
    """With one clear error, in bounded time; the file's name stands in it, and nothing of its content."""
    started = time.process_time()
    with pytest.raises(ConfigError) as refusal:
        loads(text, {"A": "x" * 100_000})
    assert (time.process_time() - started) / slowness(time.process_time) < _MOST_S
    assert all(len(problem) < 500 for problem in refusal.value.problems[:250])


@pytest.mark.parametrize("value", ["[" * 5000, "&a [*a]", "a: 1" + ":1" * 50_000], ids=["deep", "alias", "base 60"])
def test_a_variable_that_stands_for_too_much_is_refused(value: str) -> None:
    """What the environment sets has the same bounds as the file."""
    with pytest.raises(ConfigError):
        loads("{}", {"GATEWAY__INGEST__CALLBACKS": value})
    with pytest.raises(ConfigError):
        loads("{}", {"GATEWAY__SUBSCRIBERS__0__FILTER" + "__A" * 500: "1"})


def test_a_large_real_configuration_is_taken() -> None:
    """A thousand subscribers with filters of many levels are far within the bounds."""
    subscriber = (
        "- {{name: s{0}, topics: [sms.dr], url: 'https://s{0}.example.com/', "
        "filter: {{all: [{{exact: {{type: nxcloud.sms.dr}}}}, {{not: {{prefix: {{data.to: '+62'}}}}}}]}}}}"
    )
    lines = [subscriber.format(number) for number in range(1000)]
    assert 1000 == len(loads("subscribers:\n" + "\n".join(lines), {}).subscribers)


@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "large"])
def test_what_is_no_file_of_text_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    """A pipe that nobody writes to, a folder, a device without end, and a file too large for any configuration."""
    path = tmp_path / "config.yaml"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path = Path("/dev/zero")
    else:
        with path.open("wb") as file:
            file.truncate(1 << 40)
    with pytest.raises(ConfigError) as refusal:
        load(path, {})
    assert str(path) in refusal.value.problems[0]


@pytest.mark.quiet
async def test_a_reload_never_holds_up_the_event_loop(tmp_path: Path) -> None:
    """While the largest files are read and refused, the loop turns; then a good one takes effect."""
    path = tmp_path / "config.yaml"
    path.write_text("{}")
    asked = asyncio.Event()
    longest = 0.0

    async def measure() -> None:
        nonlocal longest
        while True:
            before = time.perf_counter()
            await pause(0.001, "a turn that a reload may delay: it is measured")
            longest = max(longest, time.perf_counter() - before)

    refused = 0
    with capture_logs() as lines:
        new = watch(path, {}, Settings(), lambda settings: None, asked=asked, poll_s=0.01, settle_s=0.01)
        async with aclosing(new) as changes:  # type: ignore[type-var]
            for number, (name, text) in enumerate(bombs()):
                if name in ("many keys", "many items", "one key often", "aliases of sections"):
                    path.write_text(text)
                    refused += 1
                    measuring = asyncio.create_task(measure())
                    changing = asyncio.ensure_future(anext(changes))
                    await until(lambda: [line["event"] for line in lines].count("config.refused") == refused)  # noqa: B023
                    measuring.cancel()
                    path.write_text(f"subscribers: [{{name: s, topics: sms.dr, url: 'https://{number}.example.com'}}]")
                    assert 1 == len((await changing).subscribers)
    assert 0 < longest < 0.5
