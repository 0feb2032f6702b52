"""Words that plain technical English does not use, and where they are.

``python -m tests.docs.words`` prints each use in the package's docstrings, comments and sentences, with its place, and
fails if there is one. The same is a test (:mod:`tests.docs.test_words`).
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
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
    (r"(?<!dead )(?<!dead-)(?<!dead_)(?<!ASCII )letters?(?! case|, digits| or digit)", "character; dead letter"),
    (r"blanks?", "space"),
    (r"beside", "in addition to, compared with, while"),
    (r"verdicts?", "delivery status"),
    (r"farewells?|onlookers?", "shutdown, observer"),
    (r"anew", "again"),
    (r"whoever|whatever else", "a name for the person or thing"),
    (r"(?:any|some|no|every)body", "a name for the person or part: operator, sender, process; or the passive"),
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
#: Code and references in a docstring or comment; they keep no line end, so that line numbers stay.
_CODE: Final = re.compile(r"``[^`\n]*``|:\w+:`[^`\n]*`")
#: The name that begins an entry of ``Args:``.
_ARGUMENT: Final = re.compile(r"(?m)^ {4,}\w+:(?= )")


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


def texts(source: str) -> Iterator[tuple[int, str]]:
    """Yield line number and text of each docstring, comment and sentence of a module; a sentence has a space.

    Quoted code, references and names of arguments are left out.
    """
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], _CODE.sub("", token.string)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield node.lineno, _ARGUMENT.sub("", _CODE.sub("", node.value))


def found_in(path: Path) -> list[tuple[str, str]]:
    """Return place and word of each use in a module."""
    return [
        (f"{path.relative_to(ROOT)}:{start + use.line - 1}", use.found)
        for start, text in texts(path.read_text())
        for use in uses(text)
    ]


def main() -> None:
    """Print each use in the package."""
    found = [use for path in sorted((ROOT / "gateway").rglob("*.py")) for use in found_in(path)]
    for place, word in found:
        print(f"{place}: {word}")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
