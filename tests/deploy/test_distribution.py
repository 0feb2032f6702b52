"""What is published: sdist and wheel are built, complete, and run where nothing else is installed."""

from __future__ import annotations

import asyncio
import email
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Callable
from email.message import Message
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest
from packaging.specifiers import SpecifierSet

import gateway
from tests.deploy.artefacts import ROOT
from tests.effort import nightly
from tests.ports import free_port
from tests.tour import README, Tour, touring

#: The build is made once: where tests are spread over processes, these stay together.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(400), pytest.mark.xdist_group("wheel")]
INFO: Final = f"nxcloud_gateway-{gateway.__version__}.dist-info"
PROJECT: Final[dict[str, Any]] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
REPOSITORY: Final = str(PROJECT["urls"]["Source"])
#: What git has not been told of, and is not told to ignore.
NOT_IGNORED: Final = ("--others", "--exclude-standard")
#: Beside README's own lines; each ends with success and says something.
COMMANDS: Final = (
    "subscribers list",
    "dlq list",
    "replay --subscriber tour --since 1h --dry-run",
    "journal check",
    "schema --asyncapi",
    "schema --openapi",
    "schema --config",
    "schema --type nxcloud.whatsapp.message",
)


def run(*command: str | Path, cwd: Path | None = None, **environment: str | Path) -> str:
    """Output of a program that must succeed. Its environment knows nothing of the repository."""
    inherited = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    given = {name: str(value) for name, value in environment.items()}
    done = subprocess.run(
        [*map(str, command)], check=False, capture_output=True, text=True, cwd=cwd, env=inherited | given
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The sdist, and the wheel that was built from it: as ``python -m build`` makes them."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--installer", "uv", "--outdir", folder, ROOT)
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return sdist, wheel


@pytest.fixture(scope="module")
def built(published: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The wheel, and a folder with nothing but a ``.venv`` that has it and the locked dependencies."""
    wheel, folder = published[1], tmp_path_factory.mktemp("empty")
    python = folder / ".venv/bin/python"
    run(sys.executable, "-m", "venv", "--without-pip", folder / ".venv")
    # uv, as it has every wheel in its cache: pip would take ten times as long to unpack them.
    into = (sys.executable, "-m", "uv", "pip", "install", "--no-config", "--quiet", "--python", python)
    run(*into, "--require-hashes", "-r", ROOT / "requirements.lock")
    run(*into, "--no-deps", "--no-index", wheel)
    return wheel, folder


@pytest.fixture(scope="module")
def wheel(built: tuple[Path, Path]) -> zipfile.ZipFile:
    return zipfile.ZipFile(built[0])


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile) -> Message:
    return email.message_from_bytes(wheel.read(f"{INFO}/METADATA"))


def test_it_holds_every_file_of_the_package_and_no_other(wheel: zipfile.ZipFile) -> None:
    """Console, types, default configuration; no tests, no leftovers."""
    wanted = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "gateway").rglob("*")
        if path.is_file() and path.suffix not in (".pyc", ".pyo")
    }
    found = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert wanted == found
    assert {"gateway/py.typed", "gateway/admin/static/index.html", "gateway/config/default.yaml"} < found


def test_it_says_what_it_is(wheel: zipfile.ZipFile, metadata: Message) -> None:
    """Name, version, licence with its text, README, the command, typed."""
    assert ("nxcloud-gateway", gateway.__version__) == (metadata["Name"], metadata["Version"])
    assert ("Apache-2.0", "LICENSE") == (metadata["License-Expression"], metadata["License-File"])
    assert (ROOT / "LICENSE").read_bytes() == wheel.read(f"{INFO}/licenses/LICENSE")
    assert "Typing :: Typed" in metadata.get_all("Classifier", [])
    assert "gateway = gateway.cli:main" in wheel.read(f"{INFO}/entry_points.txt").decode()


def test_description_is_the_readme_with_links_that_lead_somewhere_from_elsewhere(metadata: Message) -> None:
    """Each link to a file of the repository has become the address of that file in this version."""
    text = str(metadata.get_payload())
    blob = f"{REPOSITORY}/blob/v{gateway.__version__}/"
    raw = blob.replace("https://github.com/", "https://raw.githubusercontent.com/").replace("/blob/", "/")
    pattern = r'\]\(([^)\s]+)\)|(?:src|srcset)="([^"\s]+)"'
    shown = [first or second for first, second in re.findall(pattern, text)]
    written = [first or second for first, second in re.findall(pattern, README)]
    assert len(shown) == len(written)
    assert [] == [link for link in shown if not re.match(r"https?:|mailto:|#", link)]
    ours = [link.removeprefix(blob).removeprefix(raw) for link in shown if link.startswith((blob, raw))]
    assert ours == [link for link in written if not re.match(r"[a-z]+:|#", link)]
    assert [] == [path for path in ours if not (ROOT / path.partition("#")[0]).exists()]
    assert all(
        link.startswith(raw) for link in shown if re.search(r"\.(png|svg|gif|jpg)$", link) and link not in written
    )


def test_addresses_of_the_project_are_one_repository() -> None:
    """pyproject.toml names it; what is published beside the package agrees."""
    assert {"Homepage", "Documentation", "Changelog", "Issues", "Source"} <= set(PROJECT["urls"])
    assert all(url == REPOSITORY or url.startswith(f"{REPOSITORY}/") for url in PROJECT["urls"].values())
    files = re.findall(r"(?m)/(?:blob|tree)/main/(\S+)$", "\n".join(PROJECT["urls"].values()))
    assert len(files) == 2
    assert [] == [path for path in files if not (ROOT / path).exists()]
    for path in ("deploy/Dockerfile", "deploy/helm/nxcloud-gateway/Chart.yaml"):
        assert REPOSITORY in (ROOT / path).read_text(), path


def test_the_index_takes_it(published: tuple[Path, Path]) -> None:
    """``twine check --strict`` finds nothing in either file."""
    shown = run(sys.executable, "-m", "twine", "--no-color", "check", "--strict", *published)
    assert shown.count("PASSED") == 2


def test_sdist_is_the_repository(published: tuple[Path, Path]) -> None:
    """Whoever has it can build, test and deploy: all files that are kept, and no others."""
    with tarfile.open(published[0]) as archive:
        found = {member.name.partition("/")[2] for member in archive if member.isfile()}
    if (ROOT / ".git").exists():
        tracked, new = (set(run("git", "ls-files", "-z", *of, cwd=ROOT).split("\0")) for of in ((), NOT_IGNORED))
        assert set() == {path for path in tracked - found if (ROOT / path).is_file()}
        assert set() == found - tracked - new - {"PKG-INFO"}
    assert {"requirements.lock", "requirements-dev.lock", "config.yaml", "tests/__main__.py"} < found
    assert {"deploy/Dockerfile", "deploy/build.lock", "deploy/helm/nxcloud-gateway/Chart.yaml"} < found


def test_older_pythons_are_refused_by_name_before_any_dependency_is_looked_at() -> None:
    """pip says "requires a different Python: … not in '>=3.11'"; no newer one is refused."""
    wanted = SpecifierSet(PROJECT["requires-python"])
    assert "3.10.99" not in wanted
    assert all(version in wanted for version in ("3.11.0", "3.14.0", "3.99.0"))
    installs = [line for line in README.splitlines() if "pip install" in line and ".lock" in line]
    assert len(installs) == 2
    for line in installs:
        assert line.index("--no-deps") < line.index(".lock"), "the lock first: pip names a dependency, not Python"


def test_every_dependency_it_names_is_locked(metadata: Message) -> None:
    """``requirements.lock`` leaves nothing out."""
    named = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    needed = {re.split(r"[^\w-]", line)[0] for line in named}
    assert {"aiohttp", "pydantic"} < needed
    assert set() == needed - set(re.findall(r"(?m)^([\w-]+)==", (ROOT / "requirements.lock").read_text()))


def test_it_runs_without_the_repository(built: tuple[Path, Path]) -> None:
    """What is imported is what was installed."""
    said = run(built[1] / ".venv/bin/python", "-c", "import gateway; print(gateway.__file__)", cwd=built[1])
    assert Path(said.strip()).is_relative_to(built[1])


async def test_five_minute_tour(built: tuple[Path, Path]) -> None:
    """Init, run, listen, subscribe while it runs, send, tail, explain, check, the console, stop."""
    folder = built[1]
    assert "config.yaml: written" in run(folder / ".venv/bin/gateway", "init", cwd=folder)
    async with touring(folder, PYTHONPATH="") as tour:
        code, said = await tour.paste(tour.send)
        assert code == 0, said
        event_id = await newest_receipt(tour)
        await explained(tour, event_id)
        await checked(tour)
        answers = await asyncio.gather(*(tour.paste(f".venv/bin/gateway {line}") for line in COMMANDS))
        for line, (code, said) in zip(COMMANDS, answers, strict=True):
            assert code == 0, (line, said)
            assert said.strip(), line
        await console_is_whole(tour)
        shown = await tour.end()
    assert event_id in shown
    assert " 0 unauthenticated" in shown.strip().splitlines()[-1]


def pipx_installs(wheel: Path, constraints: Path, folder: Path) -> list[str]:
    """``pipx install nxcloud-gateway``, from the wheel: the command that is on the path afterwards."""
    homes = {"PIPX_HOME": folder / "pipx", "PIPX_BIN_DIR": folder / "bin", "PIPX_MAN_DIR": folder / "man"}
    pinned = f"--pip-args=--constraint={constraints}"
    run(sys.executable, "-m", "pipx", "install", "--python", sys.executable, pinned, wheel, **homes)
    return [str(folder / "bin/gateway")]


def uvx_runs(wheel: Path, constraints: Path, folder: Path) -> list[str]:
    """``uvx nxcloud-gateway``, from the wheel: the program of the package's own name."""
    found = shutil.which("uvx", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert found is not None
    return [found, "--no-config", "--isolated", "--python", sys.executable, "--constraints", str(constraints),
            "--from", str(wheel), "nxcloud-gateway"]  # fmt: skip


@pytest.mark.parametrize("install", [pytest.param(pipx_installs, marks=nightly), uvx_runs])
async def test_it_runs_as_a_tool(
    published: tuple[Path, Path], tmp_path: Path, install: Callable[[Path, Path, Path], list[str]]
) -> None:
    """Nothing is installed; afterwards it says its version, writes a configuration, runs, and takes what is sent."""
    constraints = tmp_path / "constraints.txt"
    constraints.write_text("\n".join(re.findall(r"(?m)^[\w.-]+==[^\\\n]+", (ROOT / "requirements.lock").read_text())))
    folder = tmp_path / "empty"
    folder.mkdir()
    command = install(published[1], constraints, tmp_path)
    ports = {"GATEWAY__INGEST__PORT": str(free_port()), "GATEWAY__ADMIN__PORT": str(free_port())}
    assert run(*command, "--version", cwd=folder).strip() == f"gateway {gateway.__version__}"
    assert "config.yaml: written" in run(*command, "init", cwd=folder)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | ports
    pipe = asyncio.subprocess.PIPE
    running = await asyncio.create_subprocess_exec(*command, "run", cwd=folder, env=environment, stderr=pipe)
    try:
        assert running.stderr is not None
        async with asyncio.timeout(120):
            while b"gateway.started" not in (line := await running.stderr.readline()):
                assert line, "the gateway ended before it had started"
        assert "3" in await asyncio.to_thread(run, *command, "send", "sms-dr", "--count", "3", cwd=folder, **ports)
        shown = await asyncio.to_thread(run, *command, "tail", "--once", "--json", cwd=folder, **ports)
        assert len(shown.splitlines()) == 3
        running.send_signal(signal.SIGTERM)
        await asyncio.wait_for(running.communicate(), 60)
        assert running.returncode == 0
    finally:
        if running.returncode is None:
            running.kill()
            await running.wait()


async def newest_receipt(tour: Tour) -> str:
    """``gateway tail`` prints what was sent; the id of the last of it."""
    code, said = await tour.paste(".venv/bin/gateway tail --type nxcloud.sms.dr --once --json")
    events = [json.loads(line) for line in said.splitlines()]
    assert code == 0
    assert len(events) >= 100
    return str(events[-1]["id"])


async def explained(tour: Tour, event_id: str) -> None:
    """``gateway explain`` tells of its delivery, as soon as it is delivered."""
    state = ""
    while state != "delivered":
        code, said = await tour.paste(f".venv/bin/gateway explain {event_id} --json")
        assert code == 0, said
        (one,) = json.loads(said)["subscribers"]
        assert one["name"] == "tour"
        state = one["outcome"]


async def checked(tour: Tour) -> None:
    """``gateway check`` finds the file sound, and the subscriber there."""
    code, said = await tour.paste(".venv/bin/gateway check --json")
    found = json.loads(said)
    assert (0, True) == (code, found["is_ok"])
    assert "ok" in {one["level"] for one in found["findings"] if one["path"].startswith("subscribers")}


async def console_is_whole(tour: Tour) -> None:
    """The page and every file that it and its modules name; health and metrics beside it."""
    async with aiohttp.ClientSession(f"http://127.0.0.1:{tour.admin_port}") as session:

        async def text(path: str) -> str:
            async with session.get(path) as response:
                assert response.status == 200, path
                return await response.text()

        left, seen = ["/"], set[str]()
        while left:
            path = left.pop()
            if path not in seen:
                seen.add(path)
                named = re.findall(r"""(?:static/|from "\./)([\w.-]+\.(?:js|css|svg))""", await text(path))
                left += [f"/static/{name}" for name in named]
        assert len(seen) > 15
        assert '"ready":true' in await text("/readyz")
        assert "gateway_callbacks_total{" in await text("/metrics")
