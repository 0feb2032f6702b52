"""``gateway topics`` on Kafka: what it prints for people in a pipe, and for programs."""

from __future__ import annotations

import asyncio
from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner, Result

from gateway.cli import main
from gateway.config.settings import FAMILIES

pytestmark = pytest.mark.kafka


async def test_create_and_list_have_json_and_whole_tables(kafka: str, prefix: str, tmp_path: Path) -> None:
    """What was created, then what was there; the table holds every name, however long the prefix."""
    long_prefix = prefix + "x" * 60 + "."
    config = tmp_path / "config.yaml"
    config.write_text(f"kafka: {{bootstrap_servers: '{kafka}', partitions: 1}}\ntopics: {{prefix: '{long_prefix}'}}\n")

    async def topics(*arguments: str) -> Result:
        return await asyncio.to_thread(CliRunner().invoke, main, ["topics", *arguments, "-c", str(config)])

    first = orjson.loads((await topics("create", "--json")).stdout)
    assert (sorted(first["created"]), first["existing"]) == (sorted(FAMILIES), [])
    again = orjson.loads((await topics("create", "--json")).stdout)
    assert (again["created"], again["existing"]) == ([], sorted(FAMILIES))
    listed = orjson.loads((await topics("list", "--json")).stdout)["topics"]
    assert {(name, long_prefix + name) for name in FAMILIES} == {(one["name"], one["kafka_name"]) for one in listed}
    table = (await topics("list")).stdout
    assert all(long_prefix + name in table for name in FAMILIES)
