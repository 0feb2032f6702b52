"""OpenAPI 3.1 of the HTTP interface: incoming callbacks, outgoing webhooks, health.

Incoming callbacks are described as liberally as the gateway accepts them: vendors send numbers as strings, omit fields
and add others (protocol.md, E1 and E6). Every known field may be any scalar, and no field is required.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from gateway import __version__
from gateway.callbacks import CALLBACKS
from gateway.callbacks.answers import CALLBOT_ANSWERS, TWILIO_ANSWERS, Answers
from gateway.callbacks.callback import Callback
from gateway.callbacks.generic import ENTRY_POINTS
from gateway.config.callbacks import ConfiguredPath, configured_paths
from gateway.config.settings import Settings
from gateway.event import CONTENT_TYPE
from gateway.ingest.endpoints import sender_policy
from gateway.schema.events import event_schemas

_FORM: Final = "application/x-www-form-urlencoded"
_JSON: Final = "application/json"
_TYPES: Final = {"form": _FORM, "json": _JSON}

_SIGNED: Final = {
    "general": ("accessKey", "ts", "bizType", "action", "sign", "algorithm"),
    "callbot": ("requestID", "uuid", "createTs", "sign", "algorithm"),
}


#: Returns example bodies of a callback: name of the encoding (``json``, ``form``) → values.
Examples = Callable[[str], Mapping[str, list[Any]]]


def openapi(settings: Settings, examples: Examples = lambda name: {}) -> dict[str, Any]:
    """Return the OpenAPI document with the paths and addresses of a configuration.

    Args:
        settings: the configuration.
        examples: returns example requests of a callback, such as :func:`gateway.traffic.simulator.examples`.
    """
    ingest, admin = settings.ingest, settings.admin
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "NXCloud gateway: HTTP",
            "version": __version__,
            "summary": "Callbacks in, webhooks out",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": f"http://{ingest.host}:{ingest.port}"}],
        "tags": [{"name": "callbacks"}, {"name": "health"}],
        "paths": {row.path: _path(row, examples) for row in configured_paths(ingest)}
        | _health(f"http://{admin.host}:{admin.port}"),
        "webhooks": {"event": {"post": _delivery()}},
        "components": {
            "schemas": {**event_schemas(), "Answer": _ANSWER, "CallbotAnswer": _CALLBOT_ANSWER},
            "securitySchemes": {
                "token": {"type": "apiKey", "in": "header", "name": "token"},
                "tokenInQuery": {"type": "apiKey", "in": "query", "name": "token"},
                "bearer": {"type": "http", "scheme": "bearer"},
            },
        },
    }


_ANSWER: Final = {
    "type": "object",
    "properties": {"code": {"type": "integer", "description": "0 is success"}, "message": {"type": "string"}},
    "required": ["code", "message"],
}
_CALLBOT_ANSWER: Final = {
    "type": "object",
    "properties": {
        "retCode": {"type": "integer", "description": "0 is success"},
        "retMsg": {"type": "string"},
        "responseID": {"type": "string"},
    },
    "required": ["retCode", "retMsg", "responseID"],
}


def _path(row: ConfiguredPath, examples: Examples) -> dict[str, Any]:
    if not row.is_builtin:
        return {"post": _other_sender(row), **_handshakes(row)}
    callback = CALLBACKS[row.callback]
    operations: dict[str, Any] = {**_handshakes(row), "post": _post(callback, row, examples(callback.name))}
    if "GET" in callback.methods:
        operations["get"] = {
            **_operation(callback, row, "get"),
            "parameters": [
                {"name": name, "in": "query", "schema": {"type": "string"}} for name in _vendor_fields(callback)
            ],
        }
    return operations


def _operation(callback: Callback, row: ConfiguredPath, method: str) -> dict[str, Any]:
    pages = list(dict.fromkeys(schema.page.title for schema in callback.schemas))
    operation: dict[str, Any] = {
        "operationId": _operation_id(method, row),
        "tags": ["callbacks"],
        "summary": callback.title,
        "description": f"Becomes {', '.join(f'`{one}`' for one in callback.types)}. Vendor pages: {'; '.join(pages)}. "
        f"How sure we are: {callback.certainty}.",
        "responses": _responses(callback.answers),
    }
    if row.config.auth.all_tokens:
        operation["security"] = [{"token": []}, {"tokenInQuery": []}, {"bearer": []}]
    return operation


def _post(callback: Callback, row: ConfiguredPath, examples: Mapping[str, list[Any]]) -> dict[str, Any]:
    operation = _operation(callback, row, "post")
    schema = {
        "type": "object",
        "properties": {name: {"description": what} for name, what in _vendor_fields(callback).items()},
    }
    layouts = ("form", "json") if callback.layout == "form" else ("json",)
    is_signed = bool(row.config.auth.signature and row.config.auth.signature.all_secrets)
    operation["requestBody"] = {
        "required": is_signed or callback.layout == "json",
        "content": {
            _TYPES[layout]: {
                "schema": schema,
                "examples": {f"example{n}": {"value": value} for n, value in enumerate(examples.get(layout, ()), 1)},
            }
            for layout in layouts
        },
    }
    headers = _SIGNED.get(callback.signature or "", ())
    if headers:
        operation["parameters"] = [
            {"name": name, "in": "header", "required": is_signed and name != "algorithm", "schema": {"type": "string"}}
            for name in headers
        ]
    return operation


def _vendor_fields(callback: Callback) -> dict[str, str]:
    """Return the vendor's names at the top level, with the gateway's names."""
    found: dict[str, list[str]] = {}
    for schema in callback.schemas:
        for line in schema.fields:
            for source in line.sources:
                if source:
                    found.setdefault(source.partition(".")[0], []).append(line.name)
        for name in schema.known:
            found.setdefault(name.partition(".")[0], [])
    return {
        name: f"Becomes {', '.join(dict.fromkeys(ours))}" if ours else "Kept in raw" for name, ours in found.items()
    }


def _responses(answers: Answers) -> dict[str, Any]:
    content: dict[str, Any]
    if answers.texts:
        accepted, content = ({"text/plain": {"schema": {"const": text}}} for text in answers.texts)
    else:
        name = "CallbotAnswer" if answers is CALLBOT_ANSWERS else "Answer"
        content = accepted = {_JSON: {"schema": {"$ref": f"#/components/schemas/{name}"}}}
    return {
        "200": {"description": "Stored durably, or known already", "content": accepted},
        "400": {"description": "Authentic and not understood; kept in callbacks.rejected", "content": content},
        "401": {"description": "No or a wrong token or signature", "content": content},
        "403": {"description": "The address is not allowed", "content": content},
        "413": {"description": "Too large"},
        "503": {
            "description": "Not stored; try again",
            "headers": {"Retry-After": {"schema": {"type": "integer"}}},
            "content": content,
        },
    }


def _other_sender(row: ConfiguredPath) -> dict[str, Any]:
    config, signature = row.config, row.config.auth.signature
    layout = _FORM if config.decoder == "form" else _JSON
    content: dict[str, Any] = {_JSON: {"schema": {"$ref": "#/components/schemas/Answer"}}}
    if signature is not None and signature.scheme == "twilio":
        content = {"text/xml": {"schema": {"const": TWILIO_ANSWERS.texts[0]}}}
    policy = sender_policy(signature) if signature is not None and signature.all_secrets else None
    operation: dict[str, Any] = {
        "operationId": _operation_id("post", row),
        "tags": ["callbacks"],
        "summary": f"Webhook {row.callback}",
        "description": f"Becomes `{config.type or config.topic}`"
        + (f", one event for each item of `{config.each}`" if config.each else "")
        + f"; decoder {config.decoder} (json, form, or of {ENTRY_POINTS}).",
        "requestBody": {
            "required": policy is not None,
            "content": {layout: {"schema": {"type": "array" if config.each == "$" else "object"}}},
        },
        "responses": {
            "200": {"description": "Stored durably, or known already", "content": content},
            "4XX": {"description": "Refused", "content": content},
            "503": {"description": "Not stored; try again"},
        },
    }
    if policy is not None:
        names = dict.fromkeys((*policy.signed_headers, policy.signature_header))
        operation["parameters"] = [
            {"name": name, "in": "header", "required": True, "schema": {"type": "string"}} for name in names
        ]
    if config.auth.all_tokens:
        operation["security"] = [{"token": []}, {"tokenInQuery": []}, {"bearer": []}]
    return operation


def _handshakes(row: ConfiguredPath) -> dict[str, Any]:
    """Return the operations of a path's handshakes, by which senders ask for permission to send."""
    auth, text = row.config.auth, {"type": "string"}
    found: dict[str, Any] = {}
    if auth.verify_token.get_secret_value():
        found["get"] = {
            "operationId": _operation_id("verify", row),
            "tags": ["callbacks"],
            "summary": "Verification request of Meta",
            "parameters": [
                {"name": f"hub.{name}", "in": "query", "required": True, "schema": text}
                for name in ("mode", "challenge", "verify_token")
            ],
            "responses": {
                "200": {"description": "The challenge", "content": {"text/plain": {"schema": text}}},
                "403": {"description": "Another verify token"},
            },
        }
    if auth.allowed_origins:
        found["options"] = {
            "operationId": _operation_id("permission", row),
            "tags": ["callbacks"],
            "summary": "Validation request of CloudEvents web hooks",
            "parameters": [
                {"name": name, "in": "header", "required": is_required, "schema": text}
                for name, is_required in (("WebHook-Request-Origin", True), ("WebHook-Request-Rate", False))
            ],
            "responses": {
                "200": {
                    "description": "The origin may send",
                    "headers": {name: {"schema": text} for name in ("WebHook-Allowed-Origin", "WebHook-Allowed-Rate")},
                },
                "403": {"description": "The origin may not send"},
            },
        }
    return found


def _operation_id(verb: str, row: ConfiguredPath) -> str:
    return f"{verb}-{row.callback}" + (f"-{row.position}" if row.position else "")


def _delivery() -> dict[str, Any]:
    """Return the outgoing webhook (design.md, section 7): Standard Webhooks with a CloudEvent as its body."""
    text = {"type": "string"}
    headers = (
        ("webhook-id", True, "The event's id; the same at every attempt"),
        ("webhook-timestamp", True, "Unix seconds of this attempt"),
        ("webhook-signature", False, "`v1,` HMAC-SHA256 of id.timestamp.body; one for each secret, space-separated"),
        ("gateway-replay", False, "`true` when the event is delivered again on request"),
        ("traceparent", False, "W3C Trace Context"),
    )
    return {
        "operationId": "deliver",
        "summary": "One event to a subscriber",
        "parameters": [
            {"name": name, "in": "header", "required": is_required, "description": what, "schema": text}
            for name, is_required, what in headers
        ],
        "requestBody": {
            "required": True,
            "content": {
                CONTENT_TYPE.partition(";")[0]: {
                    "schema": {"anyOf": [{"$ref": f"#/components/schemas/{one}"} for one in event_schemas()]}
                }
            },
        },
        "responses": {
            "2XX": {"description": "Taken"},
            "410": {"description": "Stop: no more events to this address"},
            "429": {"description": "Slower; `Retry-After` is honoured"},
            "default": {"description": "Tried again, with longer and longer waits"},
        },
    }


def _health(admin_url: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for path, summary in (("/healthz", "Alive"), ("/readyz", "Can store"), ("/metrics", "Numbers for Prometheus")):
        responses = {"200": {"description": summary}}
        if path == "/readyz":
            responses["503"] = {"description": "Cannot store now; the body says why"}
        if path == "/metrics":
            responses["401"] = {"description": "A token is set and was not given"}
        found[path] = {
            "servers": [{"url": admin_url}],
            "get": {"operationId": path.strip("/"), "tags": ["health"], "summary": summary, "responses": responses},
        }
    return found
