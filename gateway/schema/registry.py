"""Register the topics' schemas in a schema registry with Confluent's REST interface, which most registries have.

The subject of a topic is ``<topic>-value``, the serializers' default (TopicNameStrategy). A schema that the registry
reports as incompatible with its current one is not registered, because consumers rely on the current one.

Source: https://docs.confluent.io/platform/current/schema-registry/develop/api.html. Blocking, for the command line.
"""

from __future__ import annotations

import base64
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlsplit
from urllib.request import HTTPSHandler, ProxyHandler, Request, build_opener

import orjson

from gateway.errors import Broken, ConfigError
from gateway.schema.events import Schema

_TIMEOUT_S: Final = 30.0
_MAX_ANSWER_BYTES: Final = 4 * 1024 * 1024
_CONTENT_TYPE: Final = "application/vnd.schemaregistry.v1+json"
#: Error codes of a 404 for a subject without a version.
_NONE_YET: Final = frozenset({40401, 40402})


@dataclass(frozen=True, slots=True)
class Registered:
    """A schema in the registry.

    Args:
        subject: name in the registry.
        id: id of the schema, unique in the registry.
        version: version of the subject.
        is_new: whether this call added the version.
        guid: GUID of the schema; empty if the registry has none.
    """

    subject: str
    id: int
    version: int
    is_new: bool
    guid: str = ""


class Incompatible(Broken):
    """Events of this version do not conform to the registry's schema. Read the topic's migration note first."""


class Registry:
    """One schema registry.

    Args:
        url: address, such as ``http://registry:8081`` or ``http://apicurio:8080/apis/ccompat/v7``.
        user: ``name:password`` for HTTP basic authentication; empty sends none.
    """

    def __init__(self, url: str, user: str = "") -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
            raise ConfigError([f"{url!r} is not a registry's address such as http://registry:8081 (no user in it)"])
        self._url = url.rstrip("/")
        self._user = user
        self._opener = build_opener(ProxyHandler({}), HTTPSHandler(context=ssl.create_default_context()))

    def register(self, topic: str, schema: Schema) -> Registered:
        """Register the schema of a topic; a schema that is registered already does not change.

        Args:
            topic: name in Kafka, with prefix.
            schema: the complete JSON Schema.

        Raises:
            Incompatible: the registry's compatibility rule refuses the schema; the registry is unchanged.
            Broken: the registry cannot be reached, or refuses for another reason.
        """
        subject = f"{topic}-value"
        path = f"/subjects/{quote(subject, safe='')}/versions"
        body = {"schemaType": "JSON", "schema": orjson.dumps(schema).decode()}
        before = self._latest(path)
        if before is not None:
            self._check(subject, body)
        self._ask("POST", path, body)
        after = self._latest(path)
        if after is None:
            raise Broken(f"{self._url}: the schema of {subject} was taken and is not there")
        version = int(after["version"])
        is_new = before is None or int(before["version"]) != version
        return Registered(subject, int(after["id"]), version, is_new, str(after.get("guid") or ""))

    def _latest(self, path: str) -> dict[str, Any] | None:
        try:
            return self._ask("GET", f"{path}/latest")
        except _Refused as exc:
            if exc.code in _NONE_YET:
                return None
            raise

    def _check(self, subject: str, body: Mapping[str, object]) -> None:
        path = f"/compatibility/subjects/{quote(subject, safe='')}/versions/latest?verbose=true"
        found = self._ask("POST", path, body)
        if not found.get("is_compatible", False):
            reasons = "; ".join(map(str, found.get("messages") or ())) or "the registry names no reason"
            raise Incompatible(f"{subject}: not compatible with the registered schema: {reasons}")

    def _ask(self, method: str, path: str, body: Mapping[str, object] | None = None) -> dict[str, Any]:
        data = json.dumps(body).encode() if body is not None else None
        request = Request(f"{self._url}{path}", data, method=method)  # noqa: S310 - the scheme was checked
        request.add_header("Accept", _CONTENT_TYPE)
        if data is not None:
            request.add_header("Content-Type", _CONTENT_TYPE)
        if self._user:
            request.add_header("Authorization", f"Basic {base64.b64encode(self._user.encode()).decode()}")
        try:
            with self._opener.open(request, timeout=_TIMEOUT_S) as response:
                found = json.loads(response.read(_MAX_ANSWER_BYTES))
        except HTTPError as exc:
            with exc:
                raise _Refused.of(exc, self._url) from exc
        except (URLError, OSError) as exc:
            reason = exc.reason if isinstance(exc, URLError) else exc
            raise Broken(f"no schema registry answers at {self._url}: {reason}") from exc
        except ValueError as exc:
            raise Broken(f"{self._url} is not a schema registry: its answer is not JSON") from exc
        if not isinstance(found, dict):
            raise Broken(f"{self._url} is not a schema registry: its answer is no object")
        return found


class _Refused(Broken):
    """The registry answered with an error."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code

    @classmethod
    def of(cls, error: HTTPError, url: str) -> _Refused:
        try:
            said = json.loads(error.read(_MAX_ANSWER_BYTES))
            code, message = int(said["error_code"]), str(said["message"])
        except (ValueError, KeyError, TypeError):
            code, message = error.code, "is this the address of a schema registry?"
        if error.code in (401, 403):
            message = f"{message}; set SCHEMA_REGISTRY_USER to name:password"
        return cls(f"{url} answers {error.code}: {message}", code)
