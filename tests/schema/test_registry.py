"""``gateway schema --register`` against a real schema registry."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from gateway.cli import main
from gateway.errors import Broken, ConfigError
from gateway.schema.events import topic_schemas
from gateway.schema.registry import Incompatible, Registry
from tests.ports import free_port
from tests.rows import rows
from tests.schema.registry_server import registry

SCHEMAS = topic_schemas()


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with registry(tmp_path_factory.mktemp("registry")) as address:
        yield address


def command(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["schema", *arguments])


def ask(url: str, method: str = "GET", body: object = None) -> Any:
    request = urllib.request.Request(url, json.dumps(body).encode() if body is not None else None, method=method)
    request.add_header("Content-Type", "application/vnd.schemaregistry.v1+json")
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.load(response)


@pytest.mark.slow
def test_every_topic_is_registered_once(url: str, tmp_path: Path) -> None:
    """The registry has each topic's schema under the topic's name in Kafka; a second run adds no version."""
    config = tmp_path / "config.yaml"
    config.write_text("topics: {prefix: prod.}\n")
    first = command("--register", url, "-c", str(config))
    assert 0 == first.exit_code, first.output
    assert len(SCHEMAS) == first.output.count("registered\n")
    again = command("--register", url, "-c", str(config))
    assert (0, len(SCHEMAS)) == (again.exit_code, again.output.count("was there\n")), again.output
    assert {f"prod.{topic}-value" for topic in SCHEMAS} <= set(ask(f"{url}/subjects"))
    latest = ask(f"{url}/subjects/prod.sms.dr-value/versions/latest")
    assert f"    sms.dr: {latest['id']}\n" in again.output
    assert (1, SCHEMAS["sms.dr"]) == (latest["version"], json.loads(latest["schema"]))


@pytest.mark.slow
def test_incompatible_schema_is_refused(url: str) -> None:
    """The registry's rule decides; what it has stays in force, and a compatible schema becomes a version."""
    registry = Registry(url)
    assert registry.register("fixed.sms.dr", SCHEMAS["sms.dr"]).is_new
    ask(f"{url}/config/fixed.sms.dr-value", "PUT", {"compatibility": "FORWARD"})
    changed = deepcopy(SCHEMAS["sms.dr"])
    for one in changed["oneOf"]:
        one["properties"]["data"]["properties"]["message_id"] = {"type": "integer"}
    with pytest.raises(Incompatible, match=r"fixed\.sms\.dr-value: not compatible"):
        registry.register("fixed.sms.dr", changed)
    assert 1 == ask(f"{url}/subjects/fixed.sms.dr-value/versions/latest")["version"]


@pytest.mark.slow
def test_address_that_is_no_registry_is_named(url: str) -> None:
    """Neither a stack trace nor a wait: one sentence with the address."""
    with pytest.raises(Broken, match="is this the address of a schema registry"):
        Registry(url.removesuffix("/ccompat/v7") + "/nothing").register("sms.dr", SCHEMAS["sms.dr"])


def test_registry_away_is_named() -> None:
    """With exit code 1."""
    said = command("--register", f"http://127.0.0.1:{free_port()}", "--topic", "sms.dr")
    assert (1, True) == (said.exit_code, "no schema registry answers at" in said.output), said.output


@rows("address", ["registry:8081", "ftp://x", "http://", "http://user:secret@registry:8081"])
def test_wrong_address_is_refused(address: str) -> None:
    """Before anything is asked; a password in it is not accepted, as command lines can be read."""
    with pytest.raises(ConfigError, match="not a registry's address"):
        Registry(address)
