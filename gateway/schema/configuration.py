"""JSON Schema of ``config.yaml``, for editors: keys, values, descriptions and defaults.

pydantic's schema describes the settings after reading. The file may also contain ``${NAME}`` for any value, ``7d`` and
``10GiB``, a single value in place of a list, and keys without a value.
"""

from __future__ import annotations

from typing import Any, Final

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from gateway.config.schema_tree import ConfigKey, NodeKind, SchemaNode, keys, schema_node
from gateway.config.settings import Settings
from gateway.schema.events import DRAFT

_REFERENCE: Final = {"type": "string", "pattern": r"\$\{"}
_WITH_UNIT: Final = {
    "duration": {"type": "string", "pattern": r"^\d+(\.\d+)?\s*(ms|s|m|h|d|w)$"},
    "size": {"type": "string", "pattern": r"^\d+(\.\d+)?\s*([KMGT]i?)?B$"},
}
_ID: Final = "urn:nxcloud-gateway:config"


class _Generate(GenerateJsonSchema):
    """Omits defaults of secrets, which would be asterisks, and of sections, which would be Python values."""

    def default_schema(self, schema: Any) -> JsonSchemaValue:
        """Return pydantic's schema without the default; :func:`configuration` adds defaults that YAML can express."""
        return self.generate_inner(schema["schema"])


def configuration() -> dict[str, Any]:
    """Return the JSON Schema of the file."""
    made = Settings.model_json_schema(schema_generator=_Generate)
    definitions = made.pop("$defs")
    for definition in (made, *definitions.values()):
        _loosen(definition)
    for key in keys():
        _complete(key, (made if "." not in key.path else definitions[_section_of(key.path).annotation.__name__]))
    return {
        "$schema": DRAFT,
        "$id": _ID,
        "title": "config.yaml of the NXCloud gateway",
        **{key: value for key, value in made.items() if key != "title"},
        "$defs": {**definitions, "Reference": {**_REFERENCE, "description": "A value from the environment"}},
    }


def _loosen(section: dict[str, Any]) -> None:
    for name, schema in section.get("properties", {}).items():
        section["properties"][name] = _as_written(schema)


def _as_written(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of the values that the file may have for one key."""
    kept: dict[str, Any] = {key: schema.pop(key) for key in ("title", "description", "default") if key in schema}
    kept.pop("title", None)
    choices = schema.pop("anyOf", None) or [schema]
    loosened: list[dict[str, Any]] = []
    for choice in choices:
        if choice.get("type") == "null":
            continue
        loosened.append(choice)
        if choice.get("type") == "array":
            items = choice.get("items", {})
            items = choice["items"] = items if "$ref" in items else {"anyOf": [items, {"$ref": "#/$defs/Reference"}]}
            loosened += [items, {"type": "string", "maxLength": 0}] if "$ref" in items else [items, {"type": "string"}]
        if choice.get("type") == "object" and isinstance(choice.get("additionalProperties"), dict):
            choice["additionalProperties"] = _as_written(choice["additionalProperties"])
    return {**kept, "anyOf": [*loosened, {"$ref": "#/$defs/Reference"}, {"type": "null"}]}


def _complete(key: ConfigKey, holder: dict[str, Any]) -> None:
    """Add values with a unit, and the default if YAML can express it."""
    schema = holder["properties"][key.path.rpartition(".")[2]]
    if key.unit and _WITH_UNIT[key.unit] not in schema["anyOf"]:
        schema["anyOf"].insert(1, _WITH_UNIT[key.unit])
        if key.node.kind is NodeKind.LIST:
            schema["anyOf"][0]["items"]["anyOf"].append(_WITH_UNIT[key.unit])
    if key.is_required or key.node.is_secret or key.node.kind is not NodeKind.SCALAR or key.default is None:
        return
    schema["default"] = key.default


def _section_of(path: str) -> SchemaNode:
    found = schema_node(Settings)
    for step in path.split(".")[:-1]:
        name = step.replace("[]", "")
        if name != "<name>":
            below = found.below(name)
            assert below is not None
            found = below
        while found.kind in (NodeKind.LIST, NodeKind.MAP) and (step.endswith("[]") or name == "<name>"):
            below = found.below(0)
            assert below is not None
            found = below
    return found
