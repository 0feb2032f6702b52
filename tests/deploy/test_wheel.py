"""The wheel is the whole product: built, installed where nothing else is, and walked through README's tour."""

from __future__ import annotations

import asyncio
import email
import json
import os
import re
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from email.message import Message
from pathlib import Path
from typing import Final

import aiohttp
import pytest

import gateway
from tests.deploy.artefacts import ROOT
from tests.tour import README, Tour, touring

#: The build is made once: where tests are spread over processes, these stay together.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(240), pytest.mark.xdist_group("wheel")]
INFO: Final = f"nxcloud_gateway-{gateway.__version__}.dist-info"
PIP: Final = (sys.executable, "-m", "pip", "--disable-pip-version-check")
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


def run(*command: str | Path, cwd: Path | None = None) -> str:
    """Output of a program that must succeed. Its environment knows nothing of the repository."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run([*map(str, command)], check=False, capture_output=True, text=True, cwd=cwd, env=environment)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The wheel, and a folder with nothing but a ``.venv`` that has it and the locked dependencies."""
    dist, folder = tmp_path_factory.mktemp("dist"), tmp_path_factory.mktemp("empty")
    python = folder / ".venv/bin/python"
    # Our own pip fills the new environment: one of its own would take ten seconds to get there.
    run(sys.executable, "-m", "venv", "--without-pip", folder / ".venv")
    into = (*PIP, "--python", python, "install", "-q", "--no-compile")
    with ThreadPoolExecutor() as both:
        building = both.submit(run, *PIP, "wheel", "-q", "--no-deps", "-w", dist, ROOT)
        both.submit(run, *into, "--require-hashes", "-r", ROOT / "requirements.lock").result()
        building.result()
    (wheel,) = dist.glob("*.whl")
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
    assert README.strip() in wheel.read(f"{INFO}/METADATA").decode()
    assert "gateway = gateway.cli:main" in wheel.read(f"{INFO}/entry_points.txt").decode()


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
