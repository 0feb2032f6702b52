"""Schemas of events: real events fit them, and they say what each field is."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import islice
from random import Random

import orjson
from jsonschema import Draft202012Validator

from gateway.callbacks import CALLBACKS, CallbackRequest, DecodeContext
from gateway.callbacks.rejected import TYPE, rejected_event
from gateway.config.settings import FAMILIES
from gateway.errors import CallbackRejected
from gateway.schema.events import event_schemas, topics
from gateway.traffic.simulator import requests
from tests.rows import rows

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
SCHEMAS = event_schemas()


@rows("name", CALLBACKS)
def test_events_of_played_traffic_fit_their_schema(name: str) -> None:
    """Whatever the decoders make of the platform's traffic is what the documents promise."""
    validators = {kind: Draft202012Validator(schema) for kind, schema in SCHEMAS.items()}
    for request in islice(requests(name, Random(3), lambda: NOW), 300):
        headers = {"action": request.action} if request.action else {}
        arrived = CallbackRequest("POST", f"/callbacks/{name}", request.query, headers, request.body, NOW)
        for event in CALLBACKS[name].decode(arrived, DecodeContext(account="main")).events:
            document = orjson.loads(event.to_json())
            problems = [f"{error.json_path}: {error.message}" for error in validators[event.type].iter_errors(document)]
            assert [] == problems


def test_rejected_callback_fits_its_schema() -> None:
    """The quarantine has a documented form, too."""
    request = CallbackRequest("POST", "/callbacks/sms-dr", b"", {"x": "y"}, b"\xff", NOW)
    event = rejected_event("sms-dr", None, request, CallbackRejected("not understood"))
    assert [] == list(Draft202012Validator(SCHEMAS[TYPE]).iter_errors(orjson.loads(event.to_json())))


def test_schemas_are_schemas() -> None:
    """Each is valid by the draft's own meta-schema."""
    for schema in SCHEMAS.values():
        Draft202012Validator.check_schema(schema)


def test_wrong_event_does_not_fit() -> None:
    """A schema that takes everything would be no promise."""
    validator = Draft202012Validator(SCHEMAS["nxcloud.sms.dr"])
    event = {"specversion": "1.0", "type": "nxcloud.did.dr", "data": {"status": 5, "delivered": "yes"}}
    found = {error.json_path for error in validator.iter_errors(event)}
    assert {"$", "$.type", "$.data", "$.data.status", "$.data.delivered"} <= found


def test_words_may_be_added() -> None:
    """A word of a later minor version fits the schema of this one, which names the words of today."""
    status = SCHEMAS["nxcloud.sms.dr"]["properties"]["data"]["properties"]["status"]
    assert [] == list(Draft202012Validator(status).iter_errors("blocked"))
    assert "delivered" in status["anyOf"][0]["enum"]


def test_every_type_of_every_callback_has_a_schema_and_a_topic() -> None:
    """Nothing is published that the documents do not have."""
    types = {kind for callback in CALLBACKS.values() for kind in callback.types} | {TYPE}
    assert types == set(SCHEMAS)
    assert types == {kind for kinds in topics().values() for kind in kinds}
    assert set(FAMILIES) == set(topics())
