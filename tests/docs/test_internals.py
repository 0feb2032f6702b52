"""What internals.md says of the journal and of the link is what the code has."""

from __future__ import annotations

import re

from gateway.errors import Broken, GatewayError
from gateway.link.frames import FrameKind
from gateway.log.journal import batch_format, storage
from tests.docs.pages import ROOT, marked, page

PAGE = page("internals.md")


def test_tables_of_the_journal_are_those_of_the_code() -> None:
    """Character for character, with application id and version."""
    assert storage._SCHEMA.strip() == marked("internals.md", "journal schema").strip()
    assert f"0x{storage._APPLICATION_ID:X}" in PAGE
    assert f"`user_version` is {storage._VERSION}." in PAGE
    assert f"`stream << {batch_format.SHIFT} |" in PAGE


def test_every_kind_of_frame_is_described() -> None:
    """With its number."""
    shown = re.findall(r"(?m)^\| `([A-Z]+)` \| (\d+) \|", PAGE.partition("<!-- frame kinds -->")[2])
    assert {(kind.name, str(kind.value)) for kind in FrameKind} == set(shown)


def test_classes_of_errors_are_those_under_the_root() -> None:
    """The first level of the tree, which says what to do next."""
    shown = set(re.findall(r"(?m)^\| `(\w+)` \|", PAGE.partition("## Errors")[2]))
    first = {one for one in GatewayError.__subclasses__() if one.__module__ == GatewayError.__module__}
    assert {one.__name__ for one in first} == shown
    broken = [one for one in Broken.__subclasses__() if one.__module__ == GatewayError.__module__]
    assert {one.exit_code for one in broken} == {2, 3, 4}


def test_every_package_is_described() -> None:
    """A folder of the program that nobody explains is one that a newcomer gets lost in."""
    packages = {path.parent.name for path in (ROOT / "gateway").glob("*/__init__.py")}
    assert packages == set(re.findall(r"(?m)^\| `gateway/(\w+)/` \|", PAGE))
