"""The table of callbacks, and the schemas that come from the same tables as the code."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import orjson
import pytest

from gateway.callbacks import CALLBACKS, Callback
from gateway.callbacks.shape import Shape
from tests.callbacks.samples import Sample, all_samples

NAMES = [
    "sms-dr",
    "did-sms",
    "voice-dr",
    "webcall-cdr",
    "predictive-dial",
    "call-status",
    "nxlink-call",
    "ai-agent-call",
    "ai-agent-task",
    "callbot-call",
    "callbot-order",
    "callbot-task",
    "whatsapp",
    "viber",
    "zalo",
    "messenger",
    "super-message",
    "number-check",
    "pns",
    "ota",
    "email-dr",
]
FAMILIES = {
    "sms.dr",
    "call.event",
    "task.status",
    "message.incoming",
    "message.status",
    "channel.event",
    "number.check",
    "verify.status",
    "email.dr",
}
SHAPES = {shape.type: shape for callback in CALLBACKS.values() for shape in callback.shapes}
ACCEPTED = [sample for sample in all_samples() if "events" in sample.expected]


def test_the_21_callbacks() -> None:
    """The table holds exactly the callbacks of the contract, in its order."""
    assert NAMES == list(CALLBACKS)
    assert all(name == callback.name for name, callback in CALLBACKS.items())


@pytest.mark.parametrize("callback", CALLBACKS.values(), ids=lambda callback: callback.name)
def test_a_line_of_the_table(callback: Callback) -> None:
    """Each callback names its methods, topics, certainty and title; only forms take GET."""
    assert "POST" in callback.methods
    assert (callback.layout == "form") == ("GET" in callback.methods)
    assert callback.topics
    assert FAMILIES >= set(callback.topics)
    assert callback.certainty in ("confirmed", "partial", "inferred")
    assert callback.title


@pytest.mark.parametrize("shape", SHAPES.values(), ids=lambda shape: shape.type)
def test_a_shape_documents_itself(shape: Shape) -> None:
    """Each shape has a JSON Schema whose members are described, with the vendor page it comes from."""
    schema = shape.schema()
    orjson.dumps(schema)
    assert shape.page in schema["description"]
    assert "raw" in schema["properties"]
    assert set(schema["required"]) <= set(schema["properties"])
    for line in shape.fields:
        assert line.schema()["description"], line.name
    assert re.fullmatch(r"nxcloud(\.[a-z-]+)+", shape.type)


def fits(value: Any, schema: Mapping[str, Any], path: str) -> None:
    """The few rules of JSON Schema that the tables use."""
    kinds = {"string": str, "integer": int, "number": (int, float), "boolean": bool, "object": dict, "array": list}
    if "const" in schema:
        assert schema["const"] == value, path
    if "type" in schema:
        assert isinstance(value, kinds[schema["type"]]), path
        assert isinstance(value, bool) == (schema["type"] == "boolean"), path
    if "enum" in schema:
        assert value in schema["enum"], path
    if "pattern" in schema:
        assert re.search(schema["pattern"], value), path
    for name in schema.get("required", ()):
        assert name in value, f"{path}.{name}"
    if isinstance(value, dict) and "properties" in schema:
        for name, inner in value.items():
            assert name in schema["properties"], f"{path}.{name}"
            fits(inner, schema["properties"][name], f"{path}.{name}")
    if isinstance(value, list) and "items" in schema:
        for index, inner in enumerate(value):
            fits(inner, schema["items"], f"{path}[{index}]")


@pytest.mark.parametrize("sample", ACCEPTED, ids=str)
def test_events_fit_their_schema(sample: Sample) -> None:
    """Every event of every sample has the members and types that its schema promises, and no others."""
    for event in CALLBACKS[sample.callback].decode(sample.request, sample.context).events:
        data = orjson.loads(event.to_json())["data"]
        fits(data, SHAPES[event.type].schema(), event.type)


def kinds(schema: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
    """Each member of a schema with its type, those of objects and lists included."""
    for name, inner in schema.get("properties", {}).items():
        kind = inner.get("type") or {bool: "boolean", str: "string"}.get(type(inner.get("const")))
        if kind:
            yield f"{path}{name}", "number" if kind == "integer" else kind
        yield from kinds(inner, f"{path}{name}.")
        if "items" in inner:
            yield f"{path}{name}[]", inner["items"]["type"]
            yield from kinds(inner["items"], f"{path}{name}[].")


@pytest.mark.parametrize("topic", sorted(FAMILIES))
def test_a_name_means_one_kind_in_a_topic(topic: str) -> None:
    """Within a topic a member has one type in every shape, so that a subscriber can declare it once."""
    found: dict[str, set[str]] = {}
    for shape in SHAPES.values():
        if shape.topic == topic:
            for name, kind in kinds(shape.schema()):
                found.setdefault(name, set()).add(kind)
    assert found
    assert {} == {name: types for name, types in found.items() if len(types) > 1}
