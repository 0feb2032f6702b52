"""``python -m tests.readme``: write the generated tables and sections into the documents.

A table stands between ``<!-- name -->`` and the next ``<!-- end -->``. The tests fail when one is not what the code
says.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

from deploy.callbacks import callbacks_reference
from deploy.capacity import assumptions_table, plans_table
from gateway.cli import main as command_line
from gateway.schema import markdown
from gateway.schema.markdown import events_reference

ROOT: Final = Path(__file__).parent.parent

#: File → marker → what stands behind it.
TABLES: Final[dict[str, dict[str, Callable[[], str]]]] = {
    "deploy/docs/callbacks.md": {"callbacks table": markdown.callbacks_table, "callbacks": callbacks_reference},
    "deploy/docs/interface.md": {"commands table": lambda: markdown.commands_table(command_line)},
    "deploy/docs/configuration.md": {"configuration table": markdown.configuration_table},
    "deploy/docs/capacity.md": {"plans": plans_table, "assumptions": assumptions_table},
    "deploy/docs/events.md": {"events": events_reference},
}


def filled(text: str, tables: dict[str, Callable[[], str]]) -> str:
    """The text with each table as the code has it now."""
    for marker, table in tables.items():
        pattern = re.compile(rf"(<!-- {marker} -->\n).*?(<!-- end -->)", re.DOTALL)
        content = table().strip() + "\n"
        text, count = pattern.subn(lambda match, content=content: match[1] + content + match[2], text)
        assert count == 1, marker
    return text


def main() -> None:
    """Rewrite the files, and the package's copy of the documented default."""
    shutil.copyfile(ROOT / "config.yaml", ROOT / "gateway/config/default.yaml")
    for name, tables in TABLES.items():
        path = ROOT / name
        path.write_text(filled(path.read_text(), tables))


if __name__ == "__main__":
    main()
