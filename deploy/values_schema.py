"""The JSON Schema of the chart's values; ``python -m deploy.render`` writes it. Helm refuses what it does not allow.

Names and types come from ``values.yaml``, so that a value cannot be missing here. The tables below state what a default
does not show: which values are one of a few words, and which are objects of Kubernetes or the user's own names. The
schema of ``config`` is the gateway's own (``gateway schema --config``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import yaml

from gateway.schema.configuration import configuration

Schema = dict[str, Any]

_TEXT: Final[Schema] = {"type": "string"}
_OBJECTS: Final[Schema] = {"type": "array", "items": {"type": "object"}}
_TEXTS: Final[Schema] = {"type": "array", "items": _TEXT}
_SCALARS: Final[Schema] = {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}}
_LABELS: Final[Schema] = {"type": "object", "additionalProperties": _TEXT}
_RESOURCES: Final[Schema] = {
    "type": "object",
    "properties": {"requests": _SCALARS, "limits": _SCALARS, "claims": _OBJECTS},
    "additionalProperties": False,
}

#: By the path of a value, and where that is not listed by its last name.
_TOLD: Final[dict[str, Schema]] = {
    "mode": {"enum": ["kafka", "embedded"]},
    "config": {"$ref": "#/$defs/config"},
    "secrets": _SCALARS,
    "serve.drainOrphans": {"type": "array", "items": {"type": "integer", "minimum": 0}},
    "service.type": {"enum": ["ClusterIP", "NodePort", "LoadBalancer"]},
    "service.externalTrafficPolicy": {"enum": ["", "Cluster", "Local"]},
    "ingress.hosts": _TEXTS,
    "image.digest": {"type": "string", "pattern": "^(sha256:[0-9a-f]{64})?$"},
    "pullPolicy": {"enum": ["Always", "IfNotPresent", "Never"]},
    "whenScaled": {"enum": ["Retain", "Delete"]},
    "whenDeleted": {"enum": ["Retain", "Delete"]},
    "maxUnavailable": {"type": ["integer", "string"]},
    "resources": _RESOURCES,
    "labels": _LABELS,
    "annotations": _LABELS,
    "podAnnotations": _LABELS,
    "nodeSelector": _LABELS,
    "affinity": {"type": "object"},
    "kafkaPorts": {"type": "array", "items": {"type": "integer", "minimum": 1, "maximum": 65535}},
    "subscriberPorts": {"type": "array", "items": {"type": "integer", "minimum": 1, "maximum": 65535}},
    "port": {"type": "integer", "minimum": 1, "maximum": 65535},
}
_TYPES: Final = {bool: "boolean", int: "integer", float: "number", str: "string"}


def values_schema(values: Path) -> Schema:
    """Return the schema of a chart's values.

    Args:
        values: the chart's ``values.yaml``, whose defaults give names and types.
    """
    config = configuration()
    root = _of(yaml.safe_load(values.read_text()), "")
    # Helm adds it to the values of a chart that another chart includes.
    root["properties"]["global"] = {"type": "object"}
    definitions = config.pop("$defs")
    for name in ("$schema", "$id"):
        config.pop(name)
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Values of the chart nxcloud-gateway"}
    return head | root | {"$defs": {"config": config, **definitions}}


def _of(value: Any, path: str) -> Schema:
    """The schema of one default."""
    told = _TOLD.get(path) or _TOLD.get(path.rpartition(".")[2])
    if told is not None:
        return told
    if isinstance(value, dict):
        assert value, f"{path}: an empty object says nothing of what it may hold; give it a row in the table"
        properties = {name: _of(one, f"{path}.{name}".lstrip(".")) for name, one in value.items()}
        return {"type": "object", "properties": properties, "additionalProperties": False}
    if isinstance(value, list):
        return _OBJECTS
    kind: Schema = {"type": _TYPES[type(value)]}
    return kind | {"minimum": 0} if kind["type"] == "integer" else kind
