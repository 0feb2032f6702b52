"""Configuration and programs that the pages show load as shown."""

from __future__ import annotations

import base64
import json
import re
from datetime import UTC, datetime
from typing import Any

import yaml
from jsonschema import FormatChecker, validate

from deploy.callbacks import ENTRIES, samples
from gateway.callbacks import CALLBACKS, CallbackRequest, DecodeContext
from gateway.config.loading import loads
from gateway.config.settings import Settings
from gateway.schema.events import event_schemas
from tests.docs.pages import DOCS, marked, page
from tests.rows import rows

#: Sections of ``config.yaml``: a snippet of YAML that begins with one of them is a configuration.
SECTIONS = tuple(Settings.model_fields)


def configurations() -> list[tuple[str, str]]:
    """Page and text of each configuration that a page shows, list items of a page included."""
    found = []
    for path in sorted(DOCS.glob("*.md")):
        for indent, text in re.findall(r"(?ms)^( *)```yaml\n(.*?)^ *```", path.read_text()):
            snippet = re.sub(rf"(?m)^{indent}", "", text)
            if snippet.startswith(tuple(f"{name}:" for name in SECTIONS)):
                found.append((path.name, snippet))
    return found


@rows(("name", "snippet"), configurations(), ids=lambda text: str(text)[:30])
def test_configuration_loads(name: str, snippet: str) -> None:
    """Each alone, with every variable that it reads set to a secret of the right form."""
    variables = dict.fromkeys(re.findall(r"\$\{(\w+)", snippet), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    variables["GATEWAY_SECRETS_KEY"] = base64.b64encode(bytes(32)).decode()
    assert loads(snippet, variables).model_fields_set == set(yaml.safe_load(snippet))


def test_pages_show_configurations() -> None:
    """What is tested above is not empty."""
    assert {"callbacks.md", "delivering.md", "interface.md"} <= {name for name, _ in configurations()}


def test_decoder_makes_an_event_of_each_parcel() -> None:
    """The function of interface.md, as printed."""
    space: dict[str, Any] = {}
    exec(marked("interface.md", "decoder"), space)
    body = b'{"parcels": [{"id": "p-1"}, {"id": "p-2"}]}'
    request = CallbackRequest("POST", "/callbacks/parcels", b"", {}, body, datetime(2026, 1, 2, tzinfo=UTC))
    assert ["p-1", "p-2"] == [found.key for found in space["decode"](request, DecodeContext())]


def test_every_callback_has_its_section_with_sample_and_event() -> None:
    """With the place in the vendor's console, and a sample for each topic that the simulator plays."""
    text = page("callbacks.md").partition("<!-- callbacks -->")[2]
    assert set(ENTRIES) == set(CALLBACKS)
    sections = dict(re.findall(r"(?ms)^### (.+?)$(.*?)(?=^### |<!-- end)", text))
    assert [callback.title for callback in CALLBACKS.values()] == list(sections)
    for callback in CALLBACKS.values():
        section = sections[callback.title]
        assert ENTRIES[callback.name].place in section
        assert section.count("```http") == len(samples(callback)) >= 1


def test_example_event_is_valid() -> None:
    """The event that events.md shows, by the schema of its type."""
    (text,) = re.findall(r"(?s)```json\n(.*?)```", page("events.md"))
    event = json.loads(text)
    validate(event, event_schemas()[event["type"]], format_checker=FormatChecker())
    assert set(event_schemas()[event["type"]]["properties"]) - set(event) == {"account"}
