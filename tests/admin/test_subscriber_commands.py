"""``gateway subscribers add|show|set|test|rotate-secret|remove`` and ``gateway audit`` against a running gateway."""

from __future__ import annotations

import asyncio
import base64
import logging
from pathlib import Path
from typing import Any

import click
import orjson
import pytest
import structlog
import yaml
from click.shell_completion import CompletionItem
from click.testing import CliRunner, Result

from gateway.cli import main
from gateway.cli.adminapi import complete_subscriber
from gateway.fanout.subscriber_records import fingerprint
from tests.admin.running import running
from tests.gateway.subscriber import Subscriber

SECRET = "whsec_" + base64.b64encode(b"given on standard input, 32 byte").decode()


@pytest.fixture(autouse=True)
def _quiet(_logs_as_before: None) -> None:
    """The gateway runs in this process: its lines would stand among what a command prints."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


class Commands:
    """Commands with a configuration file that says where to ask, and as whom.

    Args:
        path: the file.
        port: the admin port.
    """

    def __init__(self, path: Path, port: int) -> None:
        self.path = path
        self._port = port

    def ask_as(self, **admin: Any) -> None:
        self.path.write_text(yaml.safe_dump({"admin": {"port": self._port, **admin}}))

    async def run(self, *arguments: str, given: str | None = None) -> Result:
        return await asyncio.to_thread(CliRunner().invoke, main, [*arguments, "-c", str(self.path)], given)

    async def document(self, *arguments: str, given: str | None = None) -> Any:
        result = await self.run("subscribers", *arguments, "--json", given=given)
        assert 0 == result.exit_code, result.output
        return orjson.loads(result.stdout)


async def test_a_life_by_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each command, its sentence, its document, its exit code; secrets come from the environment and standard input."""
    tokens = [
        {"name": "ops", "role": "operate", "token": "ops-1"},
        {"name": "chief", "role": "admin", "token": "chief-1"},
    ]
    admin = {"tokens": tokens, "secrets_key": base64.b64encode(bytes(32)).decode()}
    async with Subscriber() as receiver, running(tmp_path, admin=admin) as gateway:
        commands = Commands(tmp_path / "ops.yaml", gateway.app.admin.port)
        ask_as, run, document = commands.ask_as, commands.run, commands.document
        ask_as(tokens=tokens)  # the one with the most rights counts
        monkeypatch.setenv("CRM_SECRET", SECRET)
        file = tmp_path / "crm.yaml"
        file.write_text(f"topics: sms.dr\nurl: {receiver.url}\nsecrets: ${{CRM_SECRET}}\nretry: {{attempts: 3}}\n")
        added = await run(
            "subscribers", "add", "--from", str(file), "name=crm", "allow_private=true", "retry.tiers=[60]"
        )
        assert (0, True) == (added.exit_code, "crm is added" in added.output), added.output
        assert SECRET not in added.output
        assert fingerprint(SECRET) in added.output
        shown = await document("show", "crm")
        assert {"attempts": 3, "tiers": [60]} == shown["settings"]["retry"]
        assert "crm" in [one.value for one in await asyncio.to_thread(_completed, commands.path)]

        changed = await document("set", "crm", "timeout_s=3", "retry.attempts=null")
        assert (3, {"tiers": [60]}) == (changed["settings"]["timeout_s"], changed["settings"]["retry"])
        wrong = await run("subscribers", "set", "crm", "timeout_s=never")
        assert (1, True) == (wrong.exit_code, "timeout_s: " in wrong.output)
        assert 2 == (await run("subscribers", "set", "crm", "nothing")).exit_code
        assert 2 == (await run("subscribers", "set", "crm", "url=${NO_SUCH_NAME}")).exit_code

        tested = await run("subscribers", "test", "crm", "--type", "nxcloud.sms.dr")
        assert 0 == tested.exit_code, tested.output
        for text in ("POST http://127.0.0.1", "webhook-signature: v1,", "gateway-test: true", "HTTP 200 OK"):
            assert text in tested.output
        rotated = await run("subscribers", "rotate-secret", "crm", "--overlap", "1d")
        assert (0, True) == (rotated.exit_code, "shown this once:\nwhsec_" in rotated.output), rotated.output
        assert "until" in rotated.output
        own = await document(
            "rotate-secret", "crm", "--given", given="whsec_" + base64.b64encode(b"y" * 32).decode() + "\n"
        )
        assert (None, 3) == (own["secret"], len(own["secrets"]))
        ended = await document("rotate-secret", "crm", "--remove", fingerprint(SECRET))
        assert fingerprint(SECRET) not in [one["fingerprint"] for one in ended["secrets"]]

        ask_as(token="ops-1")
        refused = await run("subscribers", "remove", "crm")
        assert (1, True) == (refused.exit_code, "the role 'admin'" in refused.output)
        ask_as(token="chief-1")
        removed = await run("subscribers", "remove", "crm")
        assert (0, "crm is removed\n") == (removed.exit_code, removed.output)
        gone = await run("subscribers", "show", "crm")
        assert (1, True) == (gone.exit_code, "there is no subscriber 'crm'" in gone.output)

        audit = await run("audit", "--subject", "crm")
        assert (0, 8) == (audit.exit_code, len(audit.output.splitlines())), audit.output
        assert {"chief"} == {line.split()[2] for line in audit.output.splitlines()[1:]}
        records = orjson.loads((await run("audit", "--json")).stdout)["records"]
        assert ["remove", "end-secret", "rotate", "rotate", "test", "set", "add"] == [one["action"] for one in records]
    asked = await run("audit")
    assert (1, True) == (asked.exit_code, "no gateway answers" in asked.output)


def _completed(path: Path) -> list[CompletionItem]:
    argument = click.Argument(["name"])
    context = click.Context(click.Command("show", params=[argument]))
    context.params["config_path"] = path
    return complete_subscriber(context, argument, "c")
