"""``gateway tail``: which events it prints, how, and what it says when there is none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cli.printing import event_line
from gateway.cli.tail import Condition
from gateway.log import Entry
from gateway.log.journal import batch_format
from gateway.log.journal.storage import Store
from tests.cli.test_commands import _own_folder as _own_folder
from tests.cli.test_commands import gateway

EVENTS: list[tuple[str, str, dict[str, Any]]] = [
    ("sms.dr", "nxcloud.sms.dr", {"to": "+6281", "status": "delivered", "delivered": True, "segments": 2}),
    ("sms.dr", "nxcloud.sms.dr", {"to": "+1555", "status": "undelivered", "status_code": "7", "result": "ABSENT"}),
    ("call.event", "nxcloud.voice.dr", {"from": "+44", "to": "+6282", "outcome": "busy", "duration_s": 3.5}),
    ("message.incoming", "nxcloud.did.mo", {"from": "+6283", "kind": "text", "text": "a\x1b[2Jb"}),
]


@pytest.fixture
def journal(tmp_path: Path) -> None:
    """A journal with one event of each."""
    (tmp_path / "config.yaml").write_text(
        "ingest: {callbacks: {shop: {decoder: json, topic: shop.order, key: $.id}}}\n"
    )
    (tmp_path / "data").mkdir()
    store = Store(tmp_path / "data", is_writer=True)
    draft = batch_format.Draft()
    for number, (topic, kind, data) in enumerate(EVENTS):
        event = {"id": f"{number:032x}", "type": kind, "subject": f"s{number}", "data": data}
        one = Entry(topic, "k", f"{number:032x}", json.dumps(event).encode())
        draft.add(one.topic, batch_format.encode(one))
    store.commit({"events": draft}, {}, 1_770_000_000.0)
    store.close()


@pytest.mark.usefixtures("journal")
@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ((), [0, 1, 2, 3]),
        (("--filter", "data.status=delivered"), [0]),
        (("--filter", "data.status!=delivered"), [1, 2, 3]),
        (("--filter", "data.to^=+62"), [0, 2]),
        (("--filter", "data.to^=+62", "--filter", "type$=voice.dr"), [2]),
        (("--filter", "data.segments=2"), [0]),
        (("--filter", "data.delivered=true"), [0]),
        (("--filter", "data.status_code=7"), [1]),
        (("--filter", '{"not": {"prefix": {"type": "nxcloud.sms"}}}'), [2, 3]),
        (("--type", "nxcloud.did.mo", "--type", "nxcloud.voice.dr"), [2, 3]),
        (("--id", f"{1:032X}", "--id", f"{3:032x}"), [1, 3]),
    ],
)
def test_it_prints_what_is_asked_for(arguments: tuple[str, ...], found: list[int]) -> None:
    """By type, id, and conditions that all hold."""
    result = gateway("tail", "--once", *arguments)
    assert result.exit_code == 0
    assert found == [int(json.loads(line)["id"], 16) for line in result.stdout.splitlines()]


@pytest.mark.usefixtures("journal")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ("--once", "--type", "nxcloud.sms.drr"),
            "there is no event of type nxcloud.sms.drr; did you mean 'nxcloud.sms.dr'?",
        ),
        (("--once", "--type", "nxcloud.line.message"), "there is no event of type nxcloud.line.message"),
        (("--once", "--topic", "shop.order"), "there is no event in the topic shop.order"),
        (("--once", "--topic", "sms.d"), "there is no topic sms.d; did you mean 'sms.dr'?"),
        (("--once", "--id", "00"), "there is no event with the id 00"),
        (("--once", "--filter", "data.to=1"), "there is no event that meets every --filter"),
        (("--follow", "--type", "nxcloud.sms.drr"), "no callback makes events of type nxcloud.sms.drr"),
    ],
)
def test_what_matches_nothing_is_said(arguments: tuple[str, ...], said: str) -> None:
    """One sentence on standard error, nothing on standard output, exit code 1."""
    result = gateway("tail", *arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"Error: {said}")
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.usefixtures("journal")
def test_an_empty_stretch_of_everything_is_no_error() -> None:
    """Where nothing in particular is asked for, nothing is an answer."""
    result = gateway("tail", "--once", "--since", "1m")
    assert (result.exit_code, result.output) == (0, "")


@pytest.mark.usefixtures("journal")
def test_lines_for_people_say_what_happened() -> None:
    """One line for each event, in the words of its topic, with no control character of a sender."""
    lines = gateway("tail", "--once", "--pretty").stdout.splitlines()
    assert len(lines) == len(EVENTS)
    assert "nxcloud.sms.dr  s0  delivered  → +6281" in lines[0]
    assert "nxcloud.sms.dr  s1  undelivered  → +1555  7 ABSENT" in lines[1]
    assert "nxcloud.voice.dr  s2  busy  +44 → +6282  3.5 s" in lines[2]
    assert "nxcloud.did.mo  s3  text  +6283 →  “a\\x1b[2Jb”" in lines[3]


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
_FIELDS = st.sampled_from(
    ["status", "from", "to", "error", "price", "hangup", "counters", "text", "duration_s", "kind"]
)


@given(
    kind=st.sampled_from(["nxcloud.sms.dr", "nxcloud.voice.dr", "nxcloud.did.mo", "nxcloud.callbot.task", "other"]),
    data=st.dictionaries(_FIELDS, _JSON) | _JSON,
    recorded=st.text() | st.just("2026-01-02T03:04:05Z"),
    subject=st.text(),
)
def test_whatever_an_event_holds_is_one_printable_line(kind: str, data: Any, recorded: str, subject: str) -> None:
    """Another producer's event has any shape; a sender's text has any character."""
    line = event_line({"type": kind, "data": data, "recordedtime": recorded, "subject": subject}, "id-1")
    plain = line
    for code in range(110):
        plain = plain.replace(f"\x1b[{code}m", "")
    assert plain.isprintable()
    assert plain.rstrip().endswith("id-1")


@given(st.text(alphabet='abc.=!^$ {}[]"1'))
def test_a_condition_is_compiled_or_refused(text: str) -> None:
    """Never a stack trace."""
    try:
        compiled = Condition().convert(text, None, None)
    except click.BadParameter:
        return
    assert compiled.matches({"a": "b"}) in (True, False)
