"""Plain technical English: the words of house.md that a reader must translate are not in the pages."""

from __future__ import annotations

import re

import pytest

from tests.docs.pages import DOCS, page, prose

#: Written by hand before this list; taken out of it when they are rewritten.
OLD = {"comparison.md", "guarantees.md", "kafka-consumers.md", "migration.md", "operations.md", "speed.md"}
PAGES = ["README.md", *sorted(path.name for path in DOCS.glob("*.md") if path.name not in OLD)]
#: Instead: report, store, continue, spaces, characters, 503 ….
WORDS = (
    r"tell|tells|told|stand|stands|stood|go on|goes on|went on|going on|dealt|let go|lets go|blanks?|unready|verdicts?|"
    r"farewell|ends at|(?<!dead )(?<!dead-)letters(?! case)"
)


@pytest.mark.parametrize("name", PAGES)
def test_no_word_that_must_be_translated(name: str) -> None:
    """In prose: code and generated tables of other texts do not count."""
    text = re.sub(r"(?s)<!-- (events|commands table) -->.*?<!-- end -->", "", prose(page(name)))
    found = re.findall(rf"(?i)\b(?:{WORDS})\b", text)
    assert [one for one in found if one != "letters" or "consists of letters" not in text] == []


@pytest.mark.parametrize("name", [name for name in PAGES if name != "README.md"])
def test_page_has_one_title_and_says_whom_it_is_for(name: str) -> None:
    """A heading of the first level, and before the first section a sentence about the page."""
    text = re.sub(r"(?ms)^ *```.*?^ *```", "", page(name))
    assert len(re.findall(r"(?m)^# ", text)) == 1
    begin = text.partition("\n## ")[0]
    assert name == "README.md" or "This page" in begin
