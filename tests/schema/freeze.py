"""``python -m tests.schema.freeze``: write the names of the event model that are frozen, version 1.

Run it after names were added. It refuses to take a name out or to change its type: that is a new version of the model.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from gateway.schema.ddl import columns
from gateway.schema.events import topic_schemas

FILE: Final = Path(__file__).with_name("frozen.json")

Names = dict[str, dict[str, str]]


def names() -> Names:
    """Return the JSON type of each field, by its path, by topic, and the topic's event types under ``type``."""
    found: Names = {}
    for topic, schema in topic_schemas().items():
        types = {f"type={kind}": "word" for kind in schema["properties"]["type"]["enum"]}
        found[topic] = types | {".".join(column.path): column.kind.value for column in columns(schema)}
    return found


def broken(frozen: Names, now: Names) -> list[str]:
    """Return what consumers of the frozen names would miss, or find in another type."""
    return [
        f"{topic}: {name} was {kind}, is {now.get(topic, {}).get(name, 'gone')}"
        for topic, fields in frozen.items()
        for name, kind in fields.items()
        if now.get(topic, {}).get(name) != kind
    ]


def main() -> None:
    """Add new names to the file."""
    now = names()
    if FILE.exists() and (problems := broken(json.loads(FILE.read_text()), now)):
        raise SystemExit("\n".join(["these names are frozen:", *problems]))
    FILE.write_text(json.dumps(now, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
