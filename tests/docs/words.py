"""Words that plain technical English does not use, and where they are.

``python -m tests.docs.words`` prints the number of such words in the docstrings of public names, by room of the
package; ``--list`` prints each with its place. It never fails: the docstrings are being rewritten.
"""

from __future__ import annotations

import argparse
import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).parents[2]

#: Pattern of a word or phrase, and the words of the field for it. Matched without regard to case, at word boundaries.
DIALECT: Final[tuple[tuple[str, str], ...]] = (
    (r"tells?|told|telling", "report, state, return"),
    (r"stands?|stood", "is, has, is stored"),
    (r"deals?|dealt", "assign, distribute"),
    (r"goes on|go on|went on|going on", "continue"),
    (r"lets? go(?: of)?", "release, drop"),
    (r"takes? (?:in|up)|taken (?:in|up)|took (?:in|up)", "accept, apply"),
    (r"(?<!dead )(?<!dead-)(?<!dead_)(?<!ASCII )letters?(?! case)", "character; dead letter"),
    (r"blanks?", "space"),
    (r"beside", "in addition to, compared with, while"),
    (r"verdicts?", "delivery status"),
    (r"farewells?|onlookers?", "shutdown, observer"),
    (r"anew", "again"),
    (r"whoever|whatever else", "a name for the person or thing"),
    (r"anybody", "a name for the person: operator, sender, receiver"),
    (r"the rest(?! of)", "the remaining … (with a noun)"),
    (r"what is the matter", "problem"),
    (r"not well|is well", "healthy, down"),
    (r"ends at:?\*", "limit"),
    (r"for those who|those who", "a name for the reader"),
    (r"a heap of", "backlog"),
    (r"from then on", "afterwards"),
    (r"as (?:one|we) would", "as …"),
    (r"speaks? of|says? (?:so|it)", "report, state"),
    (r"it is told", "is reported"),
    (r"(?:is|are|was|were|be|been|being) away", "unavailable"),
    (r"by and by|for good and all|at night", "a precise time"),
    (r"alike", "in the same way"),
    (r"on purpose", "intentionally"),
    (r"throw[ns]? away|threw away", "discard"),
    (r"looks? (?:at it|after)", "check, monitor"),
    (r"of ours|of theirs", "the gateway's, their"),
    (r"sort(?:s)? of", "kind of"),
)
_COMPILED: Final = tuple(
    (re.compile(rf"(?<![\w-])(?:{pattern})(?![\w-])", re.IGNORECASE), better) for pattern, better in DIALECT
)


class Use(NamedTuple):
    """A word of the dialect in a text.

    Args:
        line: its line, from 1.
        found: as it is in the text.
        better: the words of the field.
    """

    line: int
    found: str
    better: str


def uses(text: str) -> list[Use]:
    """Return every use of the dialect in a prose text, in the order of the text."""
    found = [
        (match.start(), Use(text.count("\n", 0, match.start()) + 1, match[0], better))
        for pattern, better in _COMPILED
        for match in pattern.finditer(text)
    ]
    return [use for _, use in sorted(found)]


def prose(markdown: str) -> str:
    """Return a Markdown page without code, comments and targets of links; line numbers stay."""
    for pattern in (r"(?ms)^```.*?^```$", r"(?s)<!--.*?-->", r"`[^`\n]*`", r"(?<=\])\([^)\s]*\)"):
        markdown = re.sub(pattern, lambda match: "\n" * match[0].count("\n"), markdown)
    return markdown


def docstrings(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the first line number and the text of each docstring of a public name in a module."""
    for node in _public(ast.parse(path.read_text())):
        text = ast.get_docstring(node, clean=False)
        if text is not None:
            yield node.body[0].lineno, re.sub(r"``[^`]*``|:\w+:`[^`]*`", "", text)


def _public(
    node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef,
) -> Iterator[ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
    yield node
    for child in node.body:
        is_named = isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        if is_named and not child.name.startswith("_"):
            yield from _public(child) if isinstance(child, ast.ClassDef) else (child,)


def main() -> None:
    """Print the number of uses by room, or each use."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--list", action="store_true", help="print each use with its place")
    is_list = parser.parse_args().list
    by_room: Counter[str] = Counter()
    for path in sorted((ROOT / "gateway").rglob("*.py")):
        relative = path.relative_to(ROOT / "gateway")
        for start, text in docstrings(path):
            for use in uses(text):
                by_room[relative.parts[0] if len(relative.parts) > 1 else "(top level)"] += 1
                if is_list:
                    print(f"gateway/{relative}:{start + use.line - 1}: {use.found!r}: {use.better}")
    for room, count in by_room.most_common():
        print(f"{count:6} {room}")
    print(f"{by_room.total():6} in all")


if __name__ == "__main__":
    main()
