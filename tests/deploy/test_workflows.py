"""What GitHub runs: valid, pinned, with as few rights as it needs, and calling programs that exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from deploy import release
from gateway import __version__
from tests.deploy.artefacts import ROOT, run
from tests.rows import rows

GITHUB: Final = ROOT / ".github"
WORKFLOWS: Final = sorted((GITHUB / "workflows").glob("*.yml"))
each = rows("path", WORKFLOWS, ids=lambda path: path.stem)
CHART: Final = f"apiVersion: v2\nversion: {__version__}\nappVersion: {__version__}\n"
CHANGELOG: Final = f"# Changelog\n\n## {__version__} (2026-12-01)\n\nFirst.\n\n## 0.0.1 (2026-01-01)\n\nOlder.\n"


def read(path: Path) -> dict[str, Any]:
    # In YAML 1.1 the key "on" is a boolean.
    return {"on" if key is True else key: value for key, value in yaml.safe_load(path.read_text()).items()}


def jobs(path: Path) -> dict[str, dict[str, Any]]:
    return dict(read(path)["jobs"])


def steps(path: Path) -> list[dict[str, Any]]:
    return [step for job in jobs(path).values() for step in job.get("steps", ())]


def test_actionlint_finds_nothing() -> None:
    """Expressions, contexts, shells."""
    run("actionlint", *map(str, WORKFLOWS), install="go install github.com/rhysd/actionlint", is_on_ci=False)


def test_zizmor_finds_nothing() -> None:
    """No injection, no credentials left behind, no right that is not used."""
    run("zizmor", "--offline", "--no-progress", "--strict-collection", str(GITHUB), install="pip install zizmor")


def test_schemas_agree() -> None:
    """Every key of workflows and of Dependabot's file exists."""
    check, install = "check-jsonschema", "pip install check-jsonschema"
    run(check, "--builtin-schema", "vendor.github-workflows", *map(str, WORKFLOWS), install=install)
    run(check, "--builtin-schema", "vendor.dependabot", str(GITHUB / "dependabot.yml"), install=install)


@each
def test_actions_are_pinned_by_commit_and_the_same_everywhere(path: Path) -> None:
    """A tag can be moved. The comment names the version, as Dependabot keeps it."""
    uses = re.findall(r"uses: ([\w./-]+)@(.*)", path.read_text())
    assert [] == [name for name, at in uses if not re.fullmatch(r"[0-9a-f]{40} # v\d+\.\d+\.\d+", at)]
    everywhere = {pair for one in WORKFLOWS for pair in re.findall(r"uses: ([\w./-]+)@(.*)", one.read_text())}
    assert len({name for name, _ in everywhere}) == len(everywhere)


@each
def test_rights_are_given_by_job_and_end_in_time(path: Path) -> None:
    """Nothing by default; only the jobs that publish may write."""
    assert read(path)["permissions"] == {}
    for name, job in jobs(path).items():
        assert "permissions" in job, name
        assert "uses" in job or 0 < job["timeout-minutes"] <= 180, name
    if path.stem == "test":
        assert {"read"} == {right for job in jobs(path).values() for right in job["permissions"].values()}


def test_nothing_is_published_before_tests_build_and_approval() -> None:
    """Each job with a right to write needs the approved one, and that needs the tests."""
    found = jobs(GITHUB / "workflows/release.yml")

    def before(name: str) -> set[str]:
        needs = found[name].get("needs", [])
        direct = {needs} if isinstance(needs, str) else set(needs)
        return direct.union(*map(before, direct))

    writing = {name for name, job in found.items() if "write" in job["permissions"].values()}
    assert {"attest", "package", "image", "image-tags", "chart", "page"} == writing
    assert found["attest"]["environment"] == "release"
    assert found["package"]["environment"] == "pypi"
    assert {"test", "build"} == before("attest")
    assert all("attest" in before(name) for name in writing - {"attest"})
    assert read(GITHUB / "workflows/release.yml")["on"] == {"push": {"tags": ["v*"]}}


def test_every_claimed_python_is_tested_with_what_ci_runs() -> None:
    """The matrix is the list of pyproject.toml, and the command is README's."""
    job = jobs(GITHUB / "workflows/test.yml")["test"]
    claimed = re.findall(r"Programming Language :: Python :: (3\.\d+)", (ROOT / "pyproject.toml").read_text())
    assert claimed == job["strategy"]["matrix"]["python"]
    assert "bash .ci/run" in [step.get("run") for step in job["steps"]]


@each
def test_what_it_calls_exists(path: Path) -> None:
    """Modules, files and lock files of the repository; commands of our own parse."""
    text = "\n".join(str(step.get("run", "")) for step in steps(path))
    modules = set(re.findall(r"python -m ((?:deploy|tests)[.\w]*)", text))
    files = set(re.findall(r"(?<![\w./])((?:deploy|tests|\.ci)/[\w./-]+|[\w-]+\.lock\b)", text))
    assert modules | files
    names = {name: name.replace(".", "/") for name in modules}
    found = {name: (ROOT / f"{where}.py").exists() or (ROOT / where).is_dir() for name, where in names.items()}
    assert [] == [name for name, is_there in found.items() if not is_there]
    assert [] == [file for file in files if not (ROOT / file).exists()]
    # Two lock files in one command may pin one package twice, and pip refuses that.
    assert all(line.count("--requirement ") == 1 for line in re.findall(r"pip install (.*--requirement .*)", text))
    for line in re.findall(r"python -m deploy\.release (.*)", text):
        assert shlex.split(line)[0] in ("check", "notes", "tags")


def test_dependabot_looks_where_there_is_something() -> None:
    """Actions, the Dockerfile and the Compose file."""
    updates = yaml.safe_load((GITHUB / "dependabot.yml").read_text())["updates"]
    found = {(update["package-ecosystem"], update["directory"]) for update in updates}
    assert {("github-actions", "/"), ("docker", "/deploy"), ("docker-compose", "/deploy")} == found
    assert (ROOT / "deploy/Dockerfile").exists()
    assert (ROOT / "deploy/compose.yaml").exists()


def test_package_and_chart_have_one_version() -> None:
    """As a release needs them, but for the date in the changelog."""
    wrong = release.differences(f"v{__version__}", CHANGELOG, release.CHART.read_text())
    assert wrong == []
    assert release.notes(release.CHANGELOG.read_text()).startswith(("The first release", "**"))


@rows(
    ("tag", "changelog", "chart", "said"),
    [
        ("v9.9.9", CHANGELOG, CHART, f"the tag is 9.9.9, the package is {__version__}"),
        (__version__, CHANGELOG, CHART, "does not begin with v"),
        (f"v{__version__}", CHANGELOG, CHART.replace("\nversion: ", "\nversion: 9."), "version of Chart.yaml is 9."),
        (f"v{__version__}", CHANGELOG, CHART.replace("appVersion: ", "appVersion: 9."), "appVersion of Chart.yaml"),
        (f"v{__version__}", CHANGELOG.replace("2026-12-01", "not released yet"), CHART, "the changelog has no section"),
    ],
    ids=["tag", "no v", "chart", "application", "changelog"],
)
def test_a_release_of_two_versions_is_refused(tag: str, changelog: str, chart: str, said: str) -> None:
    """One sentence for each difference."""
    (wrong,) = release.differences(tag, changelog, chart)
    assert said in wrong


def test_notes_are_the_section_of_the_version() -> None:
    """Nothing of the other versions."""
    assert release.notes(CHANGELOG) == "First.\n"
    assert release.notes(CHANGELOG, "0.0.1") == "Older.\n"
    with pytest.raises(LookupError, match="no section of 3"):
        release.notes(CHANGELOG, "3.0.0")


@pytest.mark.parametrize(
    ("version", "tags"),
    [
        ("1.2.3", ["1.2.3", "1.2", "1", "latest"]),
        ("0.1.0", ["0.1.0", "0.1", "latest"]),
        ("1.2.0rc1", ["1.2.0rc1"]),
    ],
)
def test_tags_of_the_image(version: str, tags: list[str]) -> None:
    """Series move with final releases only; before 1.0 there is no tag of the first number."""
    assert release.tags(version) == tags
