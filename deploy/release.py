"""``python -m deploy.release``: what the release workflow asks of the repository.

* ``check TAG``: compare tag, package, chart and changelog; where the version differs it ends with 1 and says what.
* ``notes``: the section of the changelog for this version, for the release page.
* ``tags``: the tags of the image, one a line. A pre-release gets its own version only.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from gateway import __version__

ROOT: Final = Path(__file__).parents[1]
CHANGELOG: Final = ROOT / "deploy/docs/changelog.md"
CHART: Final = ROOT / "deploy/helm/nxcloud-gateway/Chart.yaml"


def differences(tag: str, changelog: str, chart: str, version: str = __version__) -> list[str]:
    """Return what keeps a tag from being released; empty when nothing does.

    Args:
        tag: as pushed, such as ``v1.2.3``.
        changelog: text of the changelog.
        chart: text of ``Chart.yaml``.
        version: of the package.
    """
    given = {f"{name} of Chart.yaml": value for name, value in re.findall(r"(?m)^(version|appVersion): (\S+)$", chart)}
    given["the tag"] = tag.removeprefix("v")
    wrong = [f"{name} is {value}, the package is {version}" for name, value in given.items() if value != version]
    if not tag.startswith("v"):
        wrong.append(f"the tag {tag} does not begin with v")
    heading = re.search(rf"(?m)^## {re.escape(version)} \((.*)\)$", changelog)
    if heading is None or not re.fullmatch(r"\d{4}-\d\d-\d\d", heading[1]):
        wrong.append(f"the changelog has no section '## {version} (YYYY-MM-DD)'")
    return wrong


def notes(changelog: str, version: str = __version__) -> str:
    """Return the text of a version's section.

    Args:
        changelog: its text.
        version: whose section.

    Raises:
        LookupError: there is no such section.
    """
    found = re.search(rf"(?ms)^## {re.escape(version)} \(.*?\)\n(.*?)(?=^## |\Z)", changelog)
    if found is None:
        raise LookupError(f"the changelog has no section of {version}")
    return found[1].strip() + "\n"


def tags(version: str = __version__) -> list[str]:
    """Return the tags of the image: the version, and for a final one the series that it is the newest of."""
    parts = version.split(".")
    if len(parts) != 3 or not all(part.isdigit() for part in parts):
        return [version]
    return [version, ".".join(parts[:2]), *([parts[0]] if parts[0] != "0" else []), "latest"]


def main(arguments: Sequence[str]) -> int:
    """Run one of the commands; the exit code."""
    match arguments:
        case ["check", tag]:
            wrong = differences(tag, CHANGELOG.read_text(), CHART.read_text())
            print("\n".join(wrong) or f"{tag} can be released")  # noqa: T201
            return 1 if wrong else 0
        case ["notes"]:
            print(notes(CHANGELOG.read_text()), end="")  # noqa: T201
        case ["tags"]:
            print("\n".join(tags()))  # noqa: T201
        case _:
            print(__doc__, file=sys.stderr)  # noqa: T201
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
