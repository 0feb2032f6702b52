"""Documents, messages and source use plain technical English: no word of the list in ``tests/docs/words.py``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from deploy import render
from deploy.dashboard import ROWS
from gateway.log.kafka.errors import WORDS
from gateway.telemetry.metric_catalogue import CATALOGUE
from tests.docs.words import DIALECT, ROOT, found_in, prose, texts, uses
from tests.rows import rows

PAGES: Final = {path.name: path for path in sorted((ROOT / "deploy/docs").glob("*.md"))}
FRONT: Final = "README.md of the repository"
TEXTS: Final = {**{name: path.read_text() for name, path in PAGES.items()}, FRONT: (ROOT / "README.md").read_text()}

#: Configuration, charts and rules: their comments and texts.
YAML: Final = {
    str(path.relative_to(ROOT)): path.read_text()
    for path in (ROOT / "config.yaml", ROOT / "gateway/config/default.yaml", *sorted((ROOT / "deploy").rglob("*.y*ml")))
}

#: Uses that are right, by page: names of faults in the recorded run of the loss proof.
RIGHT: Final = {"guarantees.md": ["is away", "is away", "is away"]}


def messages() -> Iterator[tuple[str, str]]:
    """Yield a name and a text: alerts, metrics, panels of the dashboard, advice of Kafka's error words."""
    for rule in render.alerts():
        yield rule["alert"], " ".join(rule["annotations"].values())
    for metric in CATALOGUE:
        yield metric.name, f"{metric.meaning} {metric.advice}"
    for title, panels in ROWS:
        for panel in panels:
            yield f"{title}: {panel.title}", f"{panel.title}. {panel.help}"
    yield from WORDS.items()


@rows("page", TEXTS)
def test_page_uses_plain_words(page: str) -> None:
    """Outside code."""
    assert RIGHT.get(page, []) == [use.found for use in uses(prose(TEXTS[page]))]


@rows("name", YAML)
def test_configuration_uses_plain_words(name: str) -> None:
    """Comments, descriptions and texts of alerts."""
    assert [] == uses(YAML[name])


def test_source_uses_plain_words() -> None:
    """Docstrings of public and private names, comments, and all sentences that a user can read."""
    assert [] == [use for path in sorted((ROOT / "gateway").rglob("*.py")) for use in found_in(path)]


@rows(
    ("source", "found"),
    [
        ('"""The log tells."""\n', [(1, "tells")]),
        ('def _f():\n    """Return.\n\n    He told me.\n    """\n', [(4, "told")]),
        ("x = 1\ny = 2  # as one would\n", [(2, "as one would")]),
        ("raise ValueError(f'Kafka is away: {x}')\n", [(1, "is away")]),
        ("told = {'told': 'beside'}\n", []),
        ('"""See :class:`~a.telling.Telling` and ``telling``.\n\n    Args:\n        telling: reports.\n"""\n', []),
    ],
)
def test_words_are_found_in_source(source: str, found: list[tuple[int, str]]) -> None:
    """At their lines; names are no words."""
    assert found == [(start + use.line - 1, use.found) for start, text in texts(source) for use in uses(text)]


@rows(("name", "text"), messages(), ids=lambda row: row[0])
def test_message_uses_plain_words(name: str, text: str) -> None:
    """Alerts, metrics, dashboard and advice have no exception."""
    assert [] == uses(text), name


def test_exceptions_are_pages() -> None:
    """A page that was renamed or removed leaves no exception behind."""
    assert set() == set(RIGHT) - set(TEXTS)


@rows(
    ("text", "found"),
    [
        ("The log tells it.", ["tells"]),
        ("a dead letter, and a letter", ["letter"]),
        ("ASCII letters in any letter case", []),
        ("delivery goes on, the rest of the work", ["goes on"]),
        ("Kafka is away", ["is away"]),
        ("standing stand-alone, understood", []),
    ],
)
def test_words_are_found_as_whole_words(text: str, found: list[str]) -> None:
    """And a dead letter is no letter."""
    assert found == [use.found for use in uses(text)]


@given(st.lists(st.sampled_from(["plain\n", "`it tells`\n", "```\nit tells\n```\n", "it tells\n"]), max_size=12))
def test_prose_leaves_code_out_and_keeps_the_lines(parts: list[str]) -> None:
    """A use is reported at its own line."""
    text = "".join(parts)
    lines = [number for number, line in _outside_code(text) if line == "it tells"]
    assert lines == [use.line for use in uses(prose(text))]


def test_every_pattern_names_a_better_word() -> None:
    """The list is of use to a writer."""
    assert all(pattern and better for pattern, better in DIALECT)


def _outside_code(text: str) -> Iterator[tuple[int, str]]:
    is_code = False
    for number, line in enumerate(text.splitlines(), 1):
        if line == "```":
            is_code = not is_code
        elif not is_code:
            yield number, line
