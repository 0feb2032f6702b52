"""AsyncAPI, OpenAPI and the schema of config.yaml, each held against its own standard and against the code."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import orjson
import pytest
import yaml
from click.testing import CliRunner
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from gateway.callbacks import CALLBACKS
from gateway.cli import main
from gateway.config.loading import loads
from gateway.config.schema_tree import keys
from gateway.config.settings import FAMILIES, Settings
from gateway.schema import asyncapi, configuration, openapi
from gateway.schema.markdown import callbacks_table, commands_table, configuration_table
from gateway.traffic.simulator import examples
from tests.components import missing, needed
from tests.config.test_default_file import everything
from tests.config.test_loading import DESIGN_EXAMPLE
from tests.rows import rows
from tests.senders.samples import documented

KAFKA = loads("kafka: {bootstrap_servers: 'a:9092,b:9092'}\ntopics: {prefix: prod.}", {})

CHECK = """
import { Parser } from '@asyncapi/parser';
import fs from 'fs';
const { document, diagnostics } = await new Parser().parse(fs.readFileSync(process.argv[2], 'utf8'));
const errors = diagnostics.filter((one) => one.severity === 0);
console.log(JSON.stringify({ isValid: document !== undefined, errors }));
"""


@pytest.fixture(scope="session")
def asyncapi_parser(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the AsyncAPI project's own parser."""
    folder = tmp_path_factory.mktemp("asyncapi")
    npm = needed("npm", install="apt-get install npm")
    command = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "@asyncapi/parser@^3"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=280, check=False)
    if done.returncode != 0:
        missing("@asyncapi/parser", install="npm could not")
    (folder / "check.mjs").write_text(CHECK)
    return folder


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("settings", [Settings(), KAFKA], ids=["embedded", "kafka"])
def test_asyncapi_is_valid_by_the_projects_own_parser(
    asyncapi_parser: Path, tmp_path: Path, settings: Settings
) -> None:
    """With the schemas of all messages, with brokers and without."""
    document = tmp_path / "asyncapi.json"
    document.write_bytes(orjson.dumps(asyncapi(settings)))
    command = ["node", "check.mjs", str(document)]
    done = subprocess.run(command, cwd=asyncapi_parser, capture_output=True, text=True, timeout=60, check=True)
    assert {"isValid": True, "errors": []} == json.loads(done.stdout)


def test_asyncapi_has_every_topic_by_its_configured_name() -> None:
    """With the prefix, the partitions and the brokers of the configuration."""
    document = asyncapi(KAFKA)
    assert {f"prod.{family}" for family in FAMILIES} == {one["address"] for one in document["channels"].values()}
    assert {"partitions": 6, "replicas": 1} == document["channels"]["sms.dr"]["bindings"]["kafka"]
    assert ["a:9092", "b:9092"] == [server["host"] for server in document["servers"].values()]
    for channel in document["channels"].values():
        for message in channel["messages"].values():
            assert message["$ref"].rpartition("/")[2] in document["components"]["messages"]


def test_openapi_is_valid() -> None:
    """By the specification's own schema, for the defaults and for a configuration with other senders."""
    for settings in (Settings(), design()):
        document = json.loads(orjson.dumps(openapi(settings, examples)))
        assert [] == list(OpenAPIV31SpecValidator(document).iter_errors())


def test_openapi_of_other_senders() -> None:
    """Signature headers, questions before the first event, and answers, as the documented configuration has them."""
    document = json.loads(orjson.dumps(openapi(Settings(ingest=documented()))))
    assert [] == list(OpenAPIV31SpecValidator(document).iter_errors())
    paths = {path.rpartition("/")[2]: operations for path, operations in document["paths"].items()}
    assert ["webhook-id", "webhook-signature"] == [
        one["name"] for one in paths["other-gateway"]["post"]["parameters"] if one["required"]
    ]
    assert {"post", "get"} == set(paths["meta"])
    assert {"post", "options"} == set(paths["cloud-events"])
    assert ["text/xml"] == [*paths["twilio"]["post"]["responses"]["200"]["content"]]


def design() -> Settings:
    return loads(DESIGN_EXAMPLE, {"BILLING_SECRET": "whsec_" + "QUFB" * 8, "SMS_DR_TOKEN": "t", "CALLBOT_SECRET": "s"})


def test_openapi_has_every_path_with_what_it_asks_for() -> None:
    """All callbacks, what is configured beside them, and their credentials."""
    document = openapi(design())
    paths = document["paths"]
    assert {f"/callbacks/{name}" for name in (*CALLBACKS, "shop-orders")} | {"/healthz", "/readyz", "/metrics"} == set(
        paths
    )
    assert {"token": []} in paths["/callbacks/sms-dr"]["post"]["security"]
    assert "security" not in paths["/callbacks/ota"]["post"]
    headers = {one["name"]: one["required"] for one in paths["/callbacks/callbot-task"]["post"]["parameters"]}
    assert {"requestID": True, "uuid": True, "createTs": True, "sign": True, "algorithm": False} == headers
    assert "get" in paths["/callbacks/sms-dr"]
    assert "get" not in paths["/callbacks/callbot-task"]


def test_openapi_shows_examples_that_are_the_callbacks_own() -> None:
    """At least one of every callback's documented layout, and the schema beside it takes it."""
    for name, callback in CALLBACKS.items():
        content = openapi(Settings(), examples)["paths"][f"/callbacks/{name}"]["post"]["requestBody"]["content"]
        kind = "application/x-www-form-urlencoded" if callback.layout == "form" else "application/json"
        shown = [one["value"] for one in content[kind]["examples"].values()]
        assert shown
        assert all(set(one) <= set(content[kind]["schema"]["properties"]) for one in shown), name


def test_openapi_does_not_show_secrets() -> None:
    """It can be handed to anybody."""
    text = orjson.dumps(
        openapi(loads("admin: {token: h1dden}\ningest: {callbacks: {ota: {auth: {token: h1dden}}}}", {}))
    )
    assert b"h1dden" not in text


def test_documents_are_the_same_at_every_run() -> None:
    """A diff between two versions shows what changed and nothing else."""
    assert orjson.dumps(openapi(Settings(), examples)) == orjson.dumps(openapi(Settings(), examples))
    assert orjson.dumps(asyncapi(Settings())) == orjson.dumps(asyncapi(Settings()))


@rows(
    "text",
    [
        everything(),
        DESIGN_EXAMPLE,
        "",
        "ingest:\nadmin: {port: '${PORT}'}",
        "ingest: {read_timeout: 5s, max_body_bytes: 2MiB, trusted_proxies: 10.0.0.0/8}",
        "subscribers: {name: s, topics: sms.dr, url: 'https://x/'}",
    ],
)
def test_schema_of_the_configuration_takes_what_the_loader_takes(text: str) -> None:
    """An editor does not underline what is right."""
    document = yaml.safe_load(text) or {}
    problems = [
        f"{error.json_path}: {error.message}" for error in Draft202012Validator(configuration()).iter_errors(document)
    ]
    assert [] == problems


@rows(
    ("text", "path"),
    [
        ("ingest: {prot: 1}", "$.ingest"),
        ("ingets: {}", "$"),
        ("admin: {port: [1]}", "$.admin"),
        ("log: {level: loud}", "$.log"),
        ("subscribers: [{topics: sms.dr}]", "$.subscribers"),
    ],
)
def test_schema_of_the_configuration_refuses_mistakes(text: str, path: str) -> None:
    """An editor underlines what is wrong."""
    found = [error.json_path for error in Draft202012Validator(configuration()).iter_errors(yaml.safe_load(text))]
    assert any(one.startswith(path) for one in found)


def test_schema_of_the_configuration_describes_every_key() -> None:
    """What an editor shows when one hovers over a key."""
    text = json.dumps(configuration(), ensure_ascii=False)
    assert [] == [key.path for key in keys() if json.dumps(key.info.description, ensure_ascii=False) not in text]


@rows(
    ("option", "mark"),
    [
        ("--asyncapi", '"asyncapi": "3.0.0"'),
        ("--openapi", '"openapi": "3.1.0"'),
        ("--config", '"title": "config.yaml'),
        ("--type=nxcloud.sms.dr", '"const": "nxcloud.sms.dr"'),
    ],
)
def test_command_prints_each_document(option: str, mark: str) -> None:
    """One JSON document on standard output."""
    result = CliRunner().invoke(main, ["schema", option])
    assert result.exit_code == 0
    assert mark in result.stdout
    assert isinstance(json.loads(result.stdout), dict)


def test_command_names_the_types_there_are() -> None:
    """A misspelt type is a usage error with the list."""
    result = CliRunner().invoke(main, ["schema", "--type", "nope"])
    assert result.exit_code == 2
    assert "nxcloud.sms.dr" in result.stderr


def test_tables_hold_everything_there_is() -> None:
    """Every key, every command and every callback is a row; a row has as many cells as the head."""
    configured, commands, callbacks = configuration_table(), commands_table(main), callbacks_table()
    written = set(re.findall(r"^\| `([^`]+)` \|", configured, re.MULTILINE))
    leaves = {key.path for key in keys() if not any(other.path.startswith(f"{key.path}.") for other in keys())}
    assert leaves <= written <= {key.path for key in keys()}
    assert all(f"`gateway {name}" in commands for name in ("run", "check", "send CALLBACK", "journal salvage --to TO"))
    assert all(f"`/callbacks/{name}`" in callbacks for name in CALLBACKS)
    for table in (configured, commands, callbacks):
        head, *rows = table.splitlines()
        assert {head.count("|")} == {row.replace("\\|", "").count("|") for row in rows}
