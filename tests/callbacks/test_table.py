"""The table of callbacks, and the schemas that come from the same tables as the code."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from gateway.callbacks import CALLBACKS, Callback
from gateway.callbacks.callback import EventSchema
from gateway.callbacks.vocabulary import MEANINGS
from tests.callbacks.samples import Sample, all_samples
from tests.rows import rows

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
    "line",
    "super-message",
    "number-check",
    "pns",
    "ota",
    "email-dr",
]
FAMILIES = {
    "sms.dr",
    "call.event",
    "order.status",
    "task.status",
    "message.incoming",
    "message.status",
    "channel.event",
    "number.check",
    "verify.status",
    "email.dr",
}
EVENT_SCHEMAS = {schema.type: schema for callback in CALLBACKS.values() for schema in callback.schemas}
ACCEPTED = [sample for sample in all_samples() if "events" in sample.expected]


def test_the_callbacks_of_the_contract() -> None:
    """The table holds exactly the callbacks of the contract, in its order."""
    assert NAMES == list(CALLBACKS)
    assert all(name == callback.name for name, callback in CALLBACKS.items())


@rows("callback", CALLBACKS.values(), ids=lambda callback: callback.name)
def test_a_line_of_the_table(callback: Callback) -> None:
    """Each callback names its methods, topics, certainty and title; only forms take GET."""
    assert "POST" in callback.methods
    assert (callback.layout == "form") == ("GET" in callback.methods)
    assert callback.topics
    assert FAMILIES >= set(callback.topics)
    assert callback.certainty in ("confirmed", "partial", "inferred")
    assert callback.title


@rows("schema", EVENT_SCHEMAS.values(), ids=lambda schema: schema.type)
def test_an_event_schema_documents_itself(schema: EventSchema) -> None:
    """Each schema has a JSON Schema whose members are described, with the vendor page it comes from."""
    document = schema.json_schema()
    orjson.dumps(document)
    assert schema.page.title in document["description"]
    assert "raw" in document["properties"]
    assert set(document["required"]) <= set(document["properties"])
    for line in schema.fields:
        assert line.schema()["description"], line.name
    assert re.fullmatch(r"nxcloud(\.[a-z-]+)+", schema.type)


def fits(value: Any, schema: Mapping[str, Any], path: str) -> None:
    """The few rules of JSON Schema that the tables use."""
    kinds = {"string": str, "integer": int, "number": (int, float), "boolean": bool, "object": dict, "array": list}
    if "const" in schema:
        assert schema["const"] == value, path
    if "type" in schema:
        assert isinstance(value, kinds[schema["type"]]), path
        assert isinstance(value, bool) == (schema["type"] == "boolean"), path
    if "anyOf" in schema:  # a word: what the gateway says is in the vocabulary, though any text is valid
        assert value in schema["anyOf"][0]["enum"], path
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


@rows("sample", ACCEPTED, ids=str)
def test_events_fit_their_schema(sample: Sample) -> None:
    """Every event of every sample has the members and types that its schema promises, and no others."""
    for event in CALLBACKS[sample.callback].decode(sample.request, sample.context).events:
        data = orjson.loads(event.to_json())["data"]
        fits(data, EVENT_SCHEMAS[event.type].json_schema(), event.type)


#: Names whose words differ by topic, and the one name with another type: an email receipt names a list of receivers.
BY_TOPIC = {"status"}
OTHER_TYPE = {("email.dr", "to")}


def members(schema: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each member of a schema with its schema, those of objects and lists included."""
    for name, inner in schema.get("properties", {}).items():
        yield f"{path}{name}", inner
        yield from members(inner, f"{path}{name}.")
        if "items" in inner:
            yield from members(inner["items"], f"{path}{name}[].")


MEMBERS = [(schema, dict(members(schema.json_schema()))) for schema in EVENT_SCHEMAS.values()]
NAMES_IN_DATA = sorted({path for _, inner in MEMBERS for path in inner} - {"raw"})


def said_of(name: str) -> dict[tuple[str, str], Mapping[str, Any]]:
    """What each type says of a name, by topic and type."""
    return {(schema.topic, schema.type): inner[name] for schema, inner in MEMBERS if name in inner}


@rows("name", NAMES_IN_DATA)
def test_a_name_means_one_thing(name: str) -> None:
    """A name that several types have has one JSON type, one description and one vocabulary in all of them."""
    found = {place: inner for place, inner in said_of(name).items() if (place[0], name) not in OTHER_TYPE}
    assert 1 == len({inner["type"] for inner in found.values()})
    if "object" not in {inner["type"] for inner in found.values()}:
        assert 1 == len({inner["description"] for inner in found.values()})
    for topic in {place[0] for place in found} if name in BY_TOPIC else {""}:
        several = [inner for place, inner in found.items() if topic in ("", place[0])]
        vocabularies = {tuple(inner["anyOf"][0]["enum"]) for inner in several if "anyOf" in inner}
        assert len(vocabularies) <= 1
        for inner in several:
            assert "const" not in inner or not vocabularies or inner["const"] in next(iter(vocabularies)), name


def test_every_name_has_its_meaning() -> None:
    """Each name of each table has its sentence, and each sentence a name."""
    named = {line.name for schema in EVENT_SCHEMAS.values() for line in schema.fields}
    named |= {name for schema in EVENT_SCHEMAS.values() for name in schema.constants}
    assert set(MEANINGS) - {"raw"} == named


@rows("name", [name for name in NAMES_IN_DATA if name.endswith("code")])
def test_a_code_is_text(name: str) -> None:
    """The platform's codes are text in all types, whatever it sends."""
    assert {"string"} == {inner["type"] for inner in said_of(name).values()}


@rows("schema", EVENT_SCHEMAS.values(), ids=lambda schema: schema.type)
def test_what_each_family_promises(schema: EventSchema) -> None:
    """The names of design.md 6 that a subscriber of a family counts on are in each of its types."""
    promised = {
        "sms.dr": {"message_id", "channel", "product", "to", "status", "status_code", "delivered", "final"},
        "call.event": {"channel", "product", "state", "outcome", "direction"},
        "order.status": {"order_id", "summary_of", "outcome", "order_finished"},
        "task.status": {"task_id", "product", "status", "status_code"},
        "message.incoming": {"message_id", "channel", "product", "from", "kind", "sent_at"},
        "message.status": {"message_id", "channel", "product", "status", "status_code", "delivered", "final"},
        "channel.event": {"channel", "product", "event", "event_code", "at"},
        "email.dr": {"message_id", "channel", "to", "status", "delivered", "final"},
        "verify.status": {"request_id", "status", "verified", "final"},
    }
    assert promised.get(schema.topic, set()) <= set(schema.json_schema()["properties"])


@rows("sample", ACCEPTED, ids=str)
def test_what_holds_of_every_event(sample: Sample) -> None:
    """Times are UTC in one form, an ended call has an outcome, an incoming message an id, and nothing is null."""
    for event in CALLBACKS[sample.callback].decode(sample.request, sample.context).events:
        document = orjson.loads(event.to_json())
        data = document["data"]
        for path, inner in members(EVENT_SCHEMAS[event.type].json_schema()):
            for value in values(data, path):
                assert value is not None
                if inner.get("format") == "date-time":
                    assert UTC_FORM.fullmatch(value), path
        assert UTC_FORM.fullmatch(document["time"])
        assert document["dataschema"].endswith(f":{event.type}:1")
        if event.topic in ("call.event", "order.status"):
            assert "direction" in data
            assert (data.get("state") == "ended") == ("outcome" in data)
            if "outcome" in data and "answered" in data:
                assert data["answered"] == (data["outcome"] == "answered")
        if event.topic == "message.incoming":
            assert data["message_id"]


UTC_FORM = re.compile(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


def values(data: Any, path: str) -> Iterator[Any]:
    """Return everything at ``a.b`` or ``a[].b``."""
    head, _, rest = path.partition(".")
    inner = data.get(head.removesuffix("[]"), ...) if isinstance(data, dict) else ...
    if inner is ...:
        return
    for one in inner if head.endswith("[]") else [inner]:
        if rest:
            yield from values(one, rest)
        else:
            yield one
