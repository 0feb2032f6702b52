"""README and the pages under ``deploy/docs``, and what stands between the markers in them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
DOCS: Final = ROOT / "deploy/docs"


def page(name: str) -> str:
    """The text of ``README.md``, or of a page under ``deploy/docs``."""
    return (ROOT / name if name == "README.md" else DOCS / name).read_text("utf-8")


def marked(name: str, marker: str) -> str:
    """What is in the code block between ``<!-- marker -->`` and the next ``<!-- end -->`` of a page."""
    found = re.search(rf"<!-- {marker} -->\n```\w+\n(.*?)```\n<!-- end -->", page(name), re.DOTALL)
    assert found is not None, (name, marker)
    return found[1]


def prose(text: str) -> str:
    """A page without code and without what is between generated markers."""
    text = re.sub(r"(?ms)^ *```.*?^ *```", "", text)
    return re.sub(r"`[^`\n]*`", "", text)
