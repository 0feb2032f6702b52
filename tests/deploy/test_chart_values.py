"""The chart's schema of values: a mistyped key is refused, and each key that exists is allowed."""

from __future__ import annotations

import json
import re

import jsonschema
import pytest
import yaml

from deploy import render
from tests.deploy.artefacts import ROOT
from tests.deploy.test_chart import CHART, helm
from tests.rows import rows


@rows(
    ("mistyped", "place"),
    [
        ("servee.replicas=3", "additional properties 'servee' not allowed"),
        ("serve.replica=3", "at '/serve': additional properties 'replica' not allowed"),
        ("serve.resources.limit.memory=1Gi", "at '/serve/resources': additional properties 'limit' not allowed"),
        ("networkPolicy.kafkaPorts[0]=kafka", "at '/networkPolicy/kafkaPorts/0': got string, want integer"),
        ("mode=kafak", "at '/mode': value must be one of 'kafka', 'embedded'"),
        ("config.subscriberz=x", "at '/config': additional properties 'subscriberz' not allowed"),
        ("config.ingest.max_waitin=7", "at '/config/ingest': additional properties 'max_waitin' not allowed"),
        ("config.subscribers[0].concurency=7", "additional properties 'concurency' not allowed"),
    ],
)
@rows("command", [("lint", str(CHART)), ("template", "gateway", str(CHART))], ids=["lint", "template"])
def test_mistyped_values_are_refused_with_their_place(command: tuple[str, ...], mistyped: str, place: str) -> None:
    """By ``values.schema.json``, the gateway's own keys included."""
    with pytest.raises(AssertionError, match=re.escape(place)):
        helm(*command, "--set", mistyped)


def test_every_default_and_every_key_of_the_gateway_is_allowed() -> None:
    """The schema refuses none of values.yaml, nor of the documented configuration, nor references to variables."""
    schema = json.loads(render.VALUES_SCHEMA.read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    reference = {
        "ingest": {"port": "${PORT:-8080}"},
        "kafka": {"bootstrap_servers": "${BROKERS}", "partitions": "${N}"},
    }
    for given in (values, values | {"config": config}, values | {"config": reference}, {"global": {"any": 1}}):
        jsonschema.Draft202012Validator(schema).validate(given)
