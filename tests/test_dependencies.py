"""What users install: wheels for every Python that is named, and no known vulnerability.

``requirements.lock`` is checked against PyPI's advisories. The service that knows them cannot be reached from
everywhere. Then nothing is known, good or bad: the test is skipped, and says so.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from deploy.locks import LOCKS, compile_lock
from tests.rows import rows

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "requirements.lock"
#: The versions that pyproject.toml claims.
PYTHONS = re.findall(r"Programming Language :: Python :: (3\.\d+)", (ROOT / "pyproject.toml").read_text())
#: pip-audit asks once for each package; a service that hangs must not hang the tests.
_AUDIT_S = 90.0


def audited(output: str) -> dict[str, list[str]]:
    """What pip-audit says of each package: ids of advisories with the versions that repair them.

    Raises:
        LookupError: it could not ask about all. pip-audit calls that "no known vulnerabilities" and ends with 0.
    """
    try:
        packages: list[dict[str, Any]] = json.loads(output)["dependencies"]
    except (json.JSONDecodeError, KeyError, TypeError):
        raise LookupError("pip-audit gave no answer") from None
    skipped = [package["name"] for package in packages if "skip_reason" in package]
    found = {
        f"{package['name']} {package['version']}": [
            f"{vulnerability['id']}, repaired in {', '.join(vulnerability['fix_versions']) or 'no version yet'}"
            for vulnerability in package["vulns"]
        ]
        for package in packages
        if "skip_reason" not in package
    }
    if skipped and not any(found.values()):
        raise LookupError(f"{len(skipped)} of {len(packages)} packages could not be looked up")
    return found


@pytest.mark.timeout(2 * _AUDIT_S)
def test_what_users_install_has_no_known_vulnerability() -> None:
    """Where the advisories can be read."""
    # As locked, without resolving anything: the lock is complete, and its hashes are checked by pip.
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(LOCK), "--no-deps", "--disable-pip",
               "--format", "json", "--progress-spinner", "off", "--timeout", "10"]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_AUDIT_S)
        found = audited(done.stdout)
    except (LookupError, subprocess.TimeoutExpired) as exc:
        pytest.skip(f"not audited, the vulnerability service cannot be reached from here: {exc}")
    assert len(found) == sum("==" in line for line in LOCK.read_text().splitlines())
    assert {} == {package: advisories for package, advisories in found.items() if advisories}


def test_every_python_of_today_is_claimed() -> None:
    """The lowest is the one that ``requires-python`` names, and none is left out between."""
    lowest = re.findall(r'requires-python = ">=3\.(\d+)"', (ROOT / "pyproject.toml").read_text())
    assert PYTHONS == [f"3.{minor}" for minor in range(int(lowest[0]), 15)]


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("lock", LOCKS)
def test_lock_fits_the_ranges(lock: str, tmp_path: Path) -> None:
    """Resolved again with the locked versions preferred, nothing changes."""
    shutil.copy(ROOT / lock, tmp_path / "again.lock")
    compile_lock(lock, tmp_path / "again.lock")
    assert (tmp_path / "again.lock").read_text() == (ROOT / lock).read_text(), "run: python -m deploy.locks"


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("lock", LOCKS)
@pytest.mark.parametrize("python", PYTHONS)
def test_lock_installs_on_every_python_without_a_compiler(python: str, lock: str, tmp_path: Path) -> None:
    """Each locked package has a wheel for that Python, with a hash that is in the lock; users' on both processors."""
    platforms = ["x86_64-unknown-linux-gnu"]
    if lock == LOCK.name:
        platforms.append("aarch64-unknown-linux-gnu")
    for platform in platforms:
        command = [sys.executable, "-m", "uv", "pip", "install", "--no-config", "--dry-run", "--target", str(tmp_path),
                   "--python-version", python, "--python-platform", platform, "--only-binary", ":all:",
                   "--require-hashes", "-r", str(ROOT / lock)]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "Would install" in done.stderr


SOUND = {"name": "aiohttp", "version": "3.14.5", "vulns": []}
VULNERABLE = {
    "name": "orjson", "version": "3.9.14",
    "vulns": [{"id": "PYSEC-2024-40", "fix_versions": ["3.9.15"], "aliases": [], "description": "recursion"}],
}  # fmt: skip
SKIPPED = {"name": "uvloop", "skip_reason": "Dependency not found on PyPI and could not be audited: uvloop (0.22.1)"}


def answer(*packages: dict[str, Any]) -> str:
    return json.dumps({"dependencies": packages, "fixes": []})


def test_a_vulnerability_is_found_whatever_could_not_be_looked_up() -> None:
    found = audited(answer(SOUND, VULNERABLE, SKIPPED))
    assert found == {"aiohttp 3.14.5": [], "orjson 3.9.14": ["PYSEC-2024-40, repaired in 3.9.15"]}


@rows("output", ["", "ERROR: connection refused", answer(SKIPPED), answer(SOUND, SKIPPED)])
def test_what_was_not_looked_up_is_not_called_sound(output: str) -> None:
    with pytest.raises(LookupError):
        audited(output)
