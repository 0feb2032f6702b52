"""OpenAPI 3.1 of the admin interface. What changes something comes from :data:`gateway.admin.auth.CHANGES`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from gateway import __version__
from gateway.admin.auth import CHANGES
from gateway.config.settings import Settings
from gateway.schema import configuration

Schema = dict[str, Any]

_JSON: Final = "application/json"
_TEXT: Final[Schema] = {"type": "string", "maxLength": 300}
_NUMBER: Final[Schema] = {"type": "number", "minimum": 0}
_FLAG: Final[Schema] = {"type": "boolean"}
_TEXTS: Final[Schema] = {"anyOf": [_TEXT, {"type": "array", "items": _TEXT, "maxItems": 5000}]}
_PARAMETERS: Final[Mapping[str, Schema]] = {
    "since": {**_NUMBER, "description": "Unix seconds"},
    "until": {**_NUMBER, "description": "Unix seconds"},
    "limit": {"type": "integer", "minimum": 1, "maximum": 500},
}


class _Read(NamedTuple):
    """A route that only reads, with the names of its query."""

    summary: str
    query: tuple[str, ...] = ()
    content: str = _JSON


READS: Final[Mapping[str, _Read]] = {
    "/api/me": _Read("Whose token this is, and its role"),
    "/api/overview": _Read("What the first look at the console shows", ("since",)),
    "/api/search": _Read(
        "Events by any id or phone, newest first",
        (
            "q",
            "callback",
            "topic",
            "type",
            "key_prefix",
            "subscriber",
            "outcome",
            "since",
            "until",
            "before",
            "after",
            "limit",
        ),
    ),
    "/api/history": _Read("The charts of the last hour, day or week", ("range", "series")),
    "/api/events": _Read("Events as they come", ("topic", "type", "callback", "key_prefix"), "text/event-stream"),
    "/api/events/{id}": _Read("The history of one event"),
    "/api/subscribers": _Read("The state of each subscriber"),
    "/api/subscribers/{name}": _Read("The settings of a subscriber, without its secrets"),
    "/api/dead-letters": _Read("What was given up, newest first", ("subscriber", "state", "reason", "since", "limit")),
    "/api/dead-letters/{subscriber}/{id}": _Read("One dead letter"),
    "/api/replays": _Read("Replays of all processes"),
    "/api/replays/{number}": _Read("One replay"),
    "/api/rejected": _Read("Callbacks that were not understood", ("callback", "since", "limit")),
    "/api/doctor/events": _Read("What the platform changed, by callback", ("since", "callback")),
    "/api/audit": _Read("Who changed what, newest first", ("subject", "since", "limit")),
    "/api/streams/{name}": _Read("The events of a subscriber of kind stream", (), "text/event-stream"),
}

_REPLAY: Final[Schema] = {
    "subscriber": _TEXT, "since": _NUMBER, "until": _NUMBER, "ids": _TEXTS, "types": _TEXTS, "from_dlq": _FLAG,
    "reasons": _TEXTS, "state": _TEXT, "failed_only": _FLAG, "all": _FLAG, "dry_run": _FLAG,
    "rate": {"type": "number", "minimum": 0.001},
}  # fmt: skip
_RESOLVE: Final[Schema] = {
    "subscriber": _TEXT, "ids": _TEXTS, "reasons": _TEXTS, "since": _NUMBER, "until": _NUMBER, "all": _FLAG,
    "note": _TEXT,
}  # fmt: skip
_REJECTED: Final[Schema] = {
    "callback": _TEXT, "since": _NUMBER, "until": _NUMBER, "ids": _TEXTS, "as": _TEXT, "unauthenticated": _FLAG,
    "dry_run": _FLAG,
}  # fmt: skip
#: Bodies of routes that change something; others have none.
_BODIES: Final[Mapping[tuple[str, str], Schema]] = {
    ("POST", "/api/subscribers"): {"$ref": "#/components/schemas/Subscriber"},
    ("PATCH", "/api/subscribers/{name}"): {
        "type": "object",
        "description": "Some keys of a subscriber; null resets one",
    },
    ("POST", "/api/subscribers/{name}/rotate-secret"): {
        "type": "object",
        "properties": {
            "secret": {
                **_TEXT,
                "description": "whsec_… or whsk_…; left out: one is made, and shown in this answer only",
            },
            "overlap_s": {**_NUMBER, "description": "The old secrets end after so many seconds; left out: they stay"},
        },
    },
    ("POST", "/api/subscribers/{name}/test"): {
        "type": "object",
        "properties": {"type": {**_TEXT, "description": "Type of the event; left out: the first of its topics"}},
    },
    ("POST", "/api/replay"): {"type": "object", "properties": _REPLAY, "required": ["subscriber"]},
    ("POST", "/api/dead-letters/resolve"): {
        "type": "object",
        "properties": _RESOLVE,
        "required": ["subscriber", "note"],
    },
    ("POST", "/api/rejected/replay"): {"type": "object", "properties": _REJECTED},
}
_CREATED: Final = {
    ("POST", "/api/subscribers"): "201",
    ("POST", "/api/replay"): "202",
    ("POST", "/api/replays/{number}/resume"): "202",
}
_ONCE: Final = frozenset(("POST", f"/api/subscribers{path}") for path in ("", "/{name}/rotate-secret", "/{name}/test"))
_IF_MATCH: Final = frozenset(
    {
        ("PATCH", "/api/subscribers/{name}"),
        ("DELETE", "/api/subscribers/{name}"),
        ("POST", "/api/subscribers/{name}/rotate-secret"),
        ("DELETE", "/api/subscribers/{name}/secrets/{fingerprint}"),
    }
)
_ANSWERS: Final = {
    "400": "A parameter cannot be used",
    "401": "The token is missing or wrong",
    "403": "The role of the token does not permit this",
    "404": "The requested item does not exist",
    "409": "It cannot be done here, or as things are",
    "412": "It was changed since If-Match",
    "415": "Send application/json",
    "422": "The settings cannot be used; each problem is named with its key path",
    "503": "The log cannot be read or written now; nothing was changed",
}


def body_names(method: str, path: str) -> frozenset[str]:
    """Return the names that the body of a route may have."""
    return frozenset(_BODIES.get((method, path), {}).get("properties", ()))


def openapi_admin(settings: Settings) -> dict[str, Any]:
    """Return the OpenAPI document of the admin port, with the address of a configuration."""
    paths: dict[str, dict[str, Any]] = {}
    for path, read in READS.items():
        paths.setdefault(path, {})["get"] = _reading(path, read)
    for (method, path), change in CHANGES.items():
        paths.setdefault(path, {})[method.lower()] = _changing(method, path, change.role, change.summary)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "NXCloud gateway: admin",
            "version": __version__,
            "summary": "What operators see and change",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": f"http://{settings.admin.host}:{settings.admin.port}"}],
        "security": [{"bearer": []}],
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": {
                **_subscriber_schemas(),
                "Error": {
                    "type": "object",
                    "properties": {"error": {"type": "string", "description": "A sentence"}},
                    "required": ["error"],
                },
            },
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }


def _reading(path: str, read: _Read) -> dict[str, Any]:
    query = [{"name": name, "in": "query", "schema": _PARAMETERS.get(name, _TEXT)} for name in read.query]
    return {
        "operationId": _operation_id("get", path),
        "summary": read.summary,
        "parameters": [*_in_path(path), *query],
        "responses": _responses("200", read.content, ("400", "401", "404", "409", "503")),
    }


def _changing(method: str, path: str, role: str, summary: str) -> dict[str, Any]:
    place = method, path
    headers = [("Idempotency-Key", "Sent again with the same key, it is not done again", place in _ONCE)]
    headers += [("If-Match", "Only if the entity tag is still this one", place in _IF_MATCH)]
    operation: dict[str, Any] = {
        "operationId": _operation_id(method.lower(), path),
        "summary": summary,
        "description": f"Needs a token with the role `{role}`, or one that permits more.",
        "parameters": [
            *_in_path(path),
            *(
                {"name": name, "in": "header", "description": what, "schema": {**_TEXT, "maxLength": 255}}
                for name, what, has_it in headers
                if has_it
            ),
        ],
        "responses": _responses(_CREATED.get(place, "200"), _JSON, tuple(_ANSWERS)),
    }
    body = _BODIES.get(place, {"type": "object", "maxProperties": 0})
    content = {_JSON: {"schema": body}}
    if method == "PATCH":
        content["application/merge-patch+json"] = {"schema": body}
    operation["requestBody"] = {"required": True, "content": content}
    return operation


def _responses(done: str, content: str, failed: tuple[str, ...]) -> dict[str, Any]:
    schema: Schema = {"type": "object"} if content == _JSON else {"type": "string"}
    error = {_JSON: {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {
        done: {"description": "Done", "content": {content: {"schema": schema}}},
        **{status: {"description": _ANSWERS[status], "content": error} for status in failed},
    }


def _in_path(path: str) -> list[dict[str, Any]]:
    names = [part.partition("}")[0] for part in path.split("{")[1:]]
    return [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]


def _operation_id(method: str, path: str) -> str:
    words = [part.strip("{}") for part in path.removeprefix("/api/").split("/")]
    return "-".join([method, *words])


def _subscriber_schemas() -> dict[str, Schema]:
    """Return the schemas of a subscriber as ``config.yaml`` has it, with references that lead to this document."""
    definitions = configuration()["$defs"]
    found: dict[str, Schema] = {}
    wanted = ["Subscriber"]
    while wanted:
        name = wanted.pop()
        if name not in found:
            found[name] = _moved(definitions[name], wanted)
    return found


def _moved(value: Any, wanted: list[str]) -> Any:
    if isinstance(value, list):
        return [_moved(one, wanted) for one in value]
    if not isinstance(value, dict):
        return value
    moved = {key: _moved(one, wanted) for key, one in value.items()}
    if isinstance(reference := value.get("$ref"), str):
        name = reference.rpartition("/")[2]
        wanted.append(name)
        moved["$ref"] = f"#/components/schemas/{name}"
    return moved
