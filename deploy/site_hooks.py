"""Hooks of ``deploy/mkdocs.yml``: the README at the repository's root is a page of the site, too."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from mkdocs.structure.files import File, Files

ROOT: Final = Path(__file__).parents[1]
_PAGE: Final = "overview.md"


def on_files(files: Files, *, config: Any) -> Files:
    """Add the README, with its links as they are inside of the site."""
    text = (ROOT / "README.md").read_text("utf-8").replace("(deploy/docs/", "(")
    files.append(File.generated(config, _PAGE, content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Links of the pages to the README lead to that page."""
    return markdown.replace("](../../README.md", f"]({_PAGE}")
