"""Fields that are absent, null or empty, and which of two forms of a callback they speak for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.callbacks import CALLBACKS, form
from gateway.callbacks.callback import EventSchema
from tests.callbacks.samples import Sample
from tests.callbacks.test_decoders import JSON_SAMPLES, SAMPLES, normalised
from tests.effort import examples
from tests.rows import rows

FORM_SAMPLES = [
    sample
    for sample in SAMPLES
    if CALLBACKS[sample.callback].layout == "form"
    and b"=" in (sample.request.query or sample.request.body.replace(b"name=", b""))
    and (sample.request.body or sample.request.query)[:1].isalpha()
    and b"\0" not in sample.request.body
    and b"&amp;" not in sample.request.body
]


def leaves(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Paths of all scalars."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from leaves(inner, (*path, name))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from leaves(inner, (*path, index))
    else:
        yield path


def changed(value: Any, path: tuple[str | int, ...], to: str) -> None:
    """Make one scalar absent, null or empty, in place. An element of a list is emptied, not taken out."""
    *above, last = path
    for step in above:
        value = value[step]
    if to == "absent" and isinstance(last, str):
        del value[last]
    else:
        value[last] = None if to == "null" else ""


def needed(schema: EventSchema) -> set[str]:
    """The vendor's names of what identifies an item, or tells which kind it is."""
    ours = (schema.required,) if isinstance(schema.required, str) else schema.required
    return {source for line in schema.fields if line.name in ours for source in line.sources}


TELLTALE = {"taskStatus", "field", "type", "smsStatus", "toPhone", "fromPhone", "contactId", "taskName"}


@rows("sample", JSON_SAMPLES, ids=str)
@given(data=st.data())
@settings(max_examples=examples(5), deadline=None)
def test_absent_null_and_empty_are_the_same(sample: Sample, data: st.DataObject) -> None:
    """Any subset of optional fields absent, null or empty: accepted, the same each way, and left out of ``data``."""
    callback = CALLBACKS[sample.callback]
    body = orjson.loads(callback.decode(sample.request, sample.context).events[0].to_json())["data"]["raw"]
    keep = set().union(*(needed(schema) for schema in callback.schemas)) | TELLTALE
    kept = tuple(f".{name}" for name in keep)
    optional = [
        path
        for path in leaves(body)
        if not f".{'.'.join(step for step in path if isinstance(step, str))}".endswith(kept)
    ]
    chosen = data.draw(st.lists(st.sampled_from(optional), unique=True)) if optional else []
    results = []
    for way in ("absent", "null", "empty"):
        copy = orjson.loads(orjson.dumps(body))
        for path in chosen:
            changed(copy, path, way)
        decoded = callback.decode(sample.request._replace(body=orjson.dumps(copy)), sample.context)
        results.append(normalised(decoded))
    assert results[0] == results[1] == results[2]
    assert "null" not in orjson.dumps([one["data"] for one in results[0]]).decode().replace('"null"', "")


#: Fields by which callbacks of two schemas are told apart, with the values that say nothing.
EMPTY = {
    **dict.fromkeys(("callId", "contactId", "taskStatus", "taskName", "requestId", "callStatus", "sender"), (None, "")),
    **dict.fromkeys(("callInfoDetail", "taskStat"), (None, "", {})),
    "legList": (None, "", []),
}


@rows("sample", JSON_SAMPLES, ids=str)
def test_an_empty_field_of_the_other_shape_decides_nothing(sample: Sample) -> None:
    """A sender that writes out one object for both kinds, with nulls where a field is not its own."""
    callback = CALLBACKS[sample.callback]

    def told(body: bytes) -> list[tuple[str, Any]]:
        events = callback.decode(sample.request._replace(body=body), sample.context).events
        return [(event.type, {**orjson.loads(event.to_json())["data"], "raw": None}) for event in events]

    body = sample.request.body.lstrip()
    assert body.startswith(b"{")
    before = told(body)
    absent = [name for name in EMPTY if b'"%s"' % name.encode() not in body]
    planted = [orjson.dumps({name: value})[1:-1] for name in absent for value in EMPTY[name]]
    assert [] == [field for field in planted if told(b"{" + field + b"," + body[1:]) != before]


@rows(
    ("name", "body", "type_"),
    [
        ("callbot-task", {"taskID": "t", "taskStatus": 3, "callInfoDetail": {}}, "nxcloud.callbot.task"),
        ("ai-agent-call", {"taskId": "t", "taskStatus": 3, "contactId": "c-9"}, "nxcloud.ai-agent.task"),
        ("ai-agent-task", {"callId": "c", "taskId": "t", "taskName": "n"}, "nxcloud.ai-agent.call"),
        ("pns", {"id": 5, "requestId": "r", "callStatus": 1}, "nxcloud.pns.call"),
        ("pns", {"requestId": "r", "code": 10013, "callId": ""}, "nxcloud.pns.error"),
    ],
)
def test_what_names_both_shapes_is_the_one_it_tells_of(name: str, body: dict[str, Any], type_: str) -> None:
    """Fields of both kinds with values: the kind whose own fields are there."""
    (sample,) = [one for one in JSON_SAMPLES if one.callback == name][:1]
    decoded = CALLBACKS[name].decode(sample.request._replace(body=orjson.dumps(body)), sample.context)
    assert decoded.events[0].type == type_


@rows("sample", FORM_SAMPLES, ids=str)
@given(data=st.data())
@settings(max_examples=examples(5), deadline=None)
def test_an_absent_form_field_is_an_empty_one(sample: Sample, data: st.DataObject) -> None:
    """Any subset of optional form fields absent or empty: accepted, and the same both ways."""
    callback = CALLBACKS[sample.callback]
    sent = form.pairs(sample.request.query) + form.pairs(sample.request.body)
    keep = set().union(*(needed(schema) for schema in callback.schemas)) | TELLTALE
    chosen = data.draw(st.sets(st.sampled_from([name for name, _ in sent if name not in keep] or ["none"])))
    results = []
    for fields in (
        [pair for pair in sent if pair[0] not in chosen],
        [(name, "" if name in chosen else value) for name, value in sent],
    ):
        again = sample.request._replace(query=b"", body=urlencode(fields).encode())
        results.append(normalised(callback.decode(again, sample.context)))
    assert results[0] == results[1]
