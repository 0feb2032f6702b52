"""The settings' types as a tree that can be walked: which keys exist where, and what kind of value they take."""

from __future__ import annotations

import types
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ByteSize, SecretStr
from pydantic.fields import FieldInfo

from gateway.config.document import KeyPath
from gateway.config.settings import Settings
from gateway.config.values import seconds


class NodeKind(Enum):
    """Kind of a node of the tree."""

    SECTION = "section"
    LIST = "list"
    MAP = "map"
    FREE = "free"
    SCALAR = "scalar"


@dataclass(frozen=True, slots=True)
class SchemaNode:
    """One place: its kind and what is below it.

    Args:
        kind: see :class:`NodeKind`; ``FREE`` is a mapping whose keys are not ours to know.
        annotation: the Python type, without ``Annotated`` and ``None``.
        is_optional: the value may be null.
    """

    kind: NodeKind
    annotation: Any
    is_optional: bool = False

    @property
    def keys(self) -> tuple[str, ...]:
        """Names of the keys of a section; nothing for other kinds."""
        return tuple(self.annotation.model_fields) if self.kind is NodeKind.SECTION else ()

    @property
    def is_secret(self) -> bool:
        """Whether the value must not be shown."""
        return self.annotation is SecretStr

    def below(self, step: str | int) -> SchemaNode | None:
        """Return the node under a key or an index; None where nothing can be."""
        if self.kind is NodeKind.SECTION:
            for name, info in self.annotation.model_fields.items():
                if step == name or step in _aliases(info):
                    return schema_node(info.annotation)
            return None
        if self.kind in (NodeKind.LIST, NodeKind.MAP):
            return schema_node(get_args(self.annotation)[-1])
        return SchemaNode(NodeKind.FREE, object) if self.kind is NodeKind.FREE else None


def schema_node(annotation: Any) -> SchemaNode:
    """Return the node that a type describes."""
    is_optional = False
    while True:
        origin = get_origin(annotation)
        if origin is Annotated:
            annotation = get_args(annotation)[0]
        elif origin in (Union, types.UnionType):
            members = [member for member in get_args(annotation) if member is not types.NoneType]
            is_optional = is_optional or len(members) < len(get_args(annotation))
            annotation = members[0]
        else:
            break
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return SchemaNode(NodeKind.SECTION, annotation, is_optional)
    if origin is list:
        kind = NodeKind.FREE if get_args(annotation)[0] is object else NodeKind.LIST
        return SchemaNode(kind, annotation, is_optional)
    if origin is dict:
        kind = NodeKind.FREE if get_args(annotation)[1] is object else NodeKind.MAP
        return SchemaNode(kind, annotation, is_optional)
    return SchemaNode(NodeKind.SCALAR, annotation, is_optional)


ROOT = schema_node(Settings)


def at(path: KeyPath) -> SchemaNode | None:
    """Return the node of a key path; a section in place of a list of sections counts as its only item."""
    found: SchemaNode | None = ROOT
    for step in path:
        if found is None:
            return None
        if found.kind is NodeKind.LIST and isinstance(step, str):
            found = found.below(0)
            assert found is not None
        found = found.below(step)
    return found


@dataclass(frozen=True, slots=True)
class ConfigKey:
    """One key for the documents.

    Args:
        path: with ``<name>`` for free names and ``[]`` for lists, such as ``subscribers[].retry.attempts``.
        info: pydantic's description of the field.
        node: its kind and type.
    """

    path: str
    info: FieldInfo
    node: SchemaNode

    @property
    def default(self) -> Any:
        """The value when the key is left out; ``PydanticUndefined`` when it must be given."""
        return self.info.get_default(call_default_factory=True, validated_data={})

    @property
    def is_required(self) -> bool:
        """Whether the key must be given where its section is."""
        return self.info.is_required()

    @property
    def unit(self) -> str:
        """``duration`` or ``size`` for values that people write with a unit, such as ``7d`` and ``10GiB``."""
        if self.node.annotation is ByteSize:
            return "size"
        validators = (*self.info.metadata, *_metadata(self.info.annotation))
        return "duration" if any(getattr(one, "func", None) is seconds for one in validators) else ""

    @property
    def choices(self) -> tuple[str, ...]:
        """The words of an enumeration."""
        return get_args(self.node.annotation) if get_origin(self.node.annotation) is Literal else ()


def keys(root: SchemaNode = ROOT, prefix: str = "") -> Iterator[ConfigKey]:
    """Yield every key of ``config.yaml``, sections before their content, in the order of the settings."""
    for name, info in root.annotation.model_fields.items():
        found = schema_node(info.annotation)
        path = f"{prefix}{name}"
        yield ConfigKey(path, info, found)
        while found.kind in (NodeKind.LIST, NodeKind.MAP):
            path += "[]" if found.kind is NodeKind.LIST else ".<name>"
            found = schema_node(get_args(found.annotation)[-1])
        if found.kind is NodeKind.SECTION:
            yield from keys(found, f"{path}.")


def _metadata(annotation: Any) -> Iterator[Any]:
    """Yield the metadata of each ``Annotated`` within a type."""
    if get_origin(annotation) is Annotated:
        yield from get_args(annotation)[1:]
    for inner in get_args(annotation):
        if not isinstance(inner, str):
            yield from _metadata(inner)


def _aliases(info: FieldInfo) -> tuple[str, ...]:
    choices = getattr(info.validation_alias, "choices", ())
    return tuple(choice for choice in choices if isinstance(choice, str))
