"""``gateway top``: what it draws of an overview."""

from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console

from gateway.cli.top import screen


def drawn(overview: dict[str, Any], *, height: int | None = None, width: int = 200, **more: Any) -> str:
    console = Console(width=width, record=True, force_terminal=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(screen(overview, height=height, **more))
    return console.export_text()


def subscriber(name: str, **more: Any) -> dict[str, Any]:
    well = {"kind": "webhook", "is_here": True, "state": "healthy", "rate": 2.0, "lag": 0, "in_flight": 0}
    return {"name": name, **well, "dead_letters": 0, **more}


def test_what_is_not_known_is_unknown() -> None:
    """A subscriber of another machine, a process that does not answer, Kafka's lag while it is away: never 0."""
    text = drawn(
        {
            "ready": None,
            "processes": [{"name": "log", "is_ready": None, "restarts": 0}],
            "mode": "kafka",
            "kafka": {"is_ready": False, "problem": {"reason": "nobody listens"}, "lag": None},
            "topics": [{"name": "sms.dr", "rate": 1.0, "published_rate": 0.0, "lag": None}],
            "subscribers": [subscriber("far", is_here=False, state=None, lag=None, in_flight=None, dead_letters=None)],
        }
    )
    rows = {line.split()[0]: line.split() for line in text.splitlines() if line.strip()}
    assert rows["far"][1:5] == ["unknown"] * 4
    assert rows["sms.dr"] == ["sms.dr", "1.0", "0.0", "unknown"]
    assert "log unknown" in text
    assert "kafka nobody listens  waiting to be published: unknown" in text
    assert "started" not in text


def test_sick_ones_come_first_and_the_rest_is_counted() -> None:
    """With a hundred subscribers in a small window."""
    many = [subscriber(f"s{number:02}") for number in range(100)]
    many[70] = subscriber("down", state="down", lag=500)
    many[71] = subscriber("gone", state="stopped")
    text = drawn({"subscribers": many}, height=40)
    names = [line.split()[0] for line in text.partition("subscriber")[2].splitlines()[1:] if line.strip()]
    assert ["gone", "down", "s00"] == names[:3]
    assert "and 92 more" in text


@pytest.mark.parametrize("width", [100, 160])
def test_a_long_error_takes_no_room_from_state_and_figures(width: int) -> None:
    """It is cut, in its one line, and all that stands before it is whole; below the table it stands in full."""
    sentence = "the name a.example cannot be resolved: " + "is the name in url right? " * 10
    one = subscriber("bill-archive", lag=1_234_567, last_error={"sentence": sentence, "at": 0.0})
    text = drawn({"subscribers": [one]}, height=40, width=width)
    row = next(line for line in text.splitlines() if line.startswith("bill-archive"))
    assert row.split()[:4] == ["bill-archive", "healthy", "2.0", "1,234,567"]
    assert row.rstrip().endswith("…")
    assert sentence.strip() in " ".join(text.replace(row, "").split())


def test_the_error_of_the_one_at_the_top_is_in_full() -> None:
    """Scrolling takes the others there, and there is always one; all are, where nothing is cut."""
    many = [subscriber(name, last_error={"sentence": f"{name} is broken", "at": 0.0}) for name in "abc"]
    for first in range(3):
        text = drawn({"subscribers": many}, height=40, first=first, width=80)
        assert ["abc"[first]] == [name for name in "abc" if f"{name} is broken" in text]
        assert ("abc"[first:] in "".join(line[:1] for line in text.splitlines() if "healthy" in line)) is True
    text = drawn({"subscribers": many}, height=None, width=80)
    assert all(f"{name} is broken" in text for name in "abc")


def test_while_there_is_no_answer_it_says_since_when() -> None:
    """The values of before stay, and are said to be of before."""
    text = drawn({"subscribers": [subscriber("billing")]}, problem="it takes too long", silent_since=1_770_000_000.0)
    assert "no answer since 2026-0" in text
    assert "it takes too long" in text
    assert "billing" in text


def test_control_characters_of_others_are_not_for_terminals() -> None:
    """A subscriber's answer stands in the last error."""
    text = drawn({"subscribers": [subscriber("a", last_error={"sentence": "x\x1b[2J", "at": 0.0})]})
    assert "\x1b" not in text
