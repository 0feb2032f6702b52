"""The config.yaml at the root: runs as it is, names every key, and its defaults are the settings' own."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from gateway.config.loading import load, loads
from gateway.config.schema_tree import NodeKind, at, keys
from gateway.config.settings import Settings

FILE = Path(__file__).parents[2] / "config.yaml"
#: Sections that are examples: what they set is not the default.
EXAMPLES = (
    "ingest.callbacks",
    "kafka.bootstrap_servers",
    "kafka.security",
    "kafka.topic_config",
    "kafka.schema_ids",
    "subscribers",
    "admin.tokens",
    "alerts",
)
#: A callback's value is a list of paths, or one path alone.
LIST_OF_PATHS, ONE_PATH = "ingest.callbacks.<name>[]", "ingest.callbacks.<name>"
#: Keys of examples that show their default all the same.
DEFAULTS_IN_EXAMPLES = re.compile(
    r"^subscribers\[\]\.(retry|breaker|kind|concurrency|timeout_s|ordering|start|on_failure|allow_private)"
    r"|^alerts\[\]\.(rules|thresholds|repeat|resolve_after|interval)"
)


def everything() -> str:
    """The file with every key in force: ``#key`` is one that is commented out, ``# text`` is prose."""
    return re.sub(r"(?m)^(\s*)#(?=\S)", r"\1", FILE.read_text())


def paths(value: Any, path: str = "") -> set[str]:
    """Key paths as the settings spell them: a free name is ``<name>``, a list item ``[]``."""
    found = {path} if path else set()
    if isinstance(value, dict):
        for key, below in value.items():
            named = "<name>" if path == "ingest.callbacks" else key
            found |= paths(below, f"{path}.{named}" if path else named)
    elif isinstance(value, list):
        found |= {one for item in value for one in paths(item, f"{path}[]")}
    return found


def test_file_runs_as_it_is() -> None:
    """With nothing else, not even a variable, it is the default configuration."""
    assert Settings() == load(FILE, {})


def test_package_brings_the_same_file() -> None:
    """What ``gateway init`` writes, without the repository."""
    assert FILE.read_bytes() == resources.files("gateway.config").joinpath("default.yaml").read_bytes(), (
        "run: python -m tests.readme"
    )


def test_every_key_taken_out_of_its_comment_is_valid() -> None:
    """No example in a comment is wrong."""
    settings = loads(everything(), {})
    assert [subscriber.name for subscriber in settings.subscribers] == ["billing", "archive", "feed"]


def test_every_key_is_in_the_file_and_every_key_of_the_file_exists() -> None:
    """The file is the reference: nothing missing, nothing made up."""
    wanted = {key.path.replace(LIST_OF_PATHS, ONE_PATH) for key in keys()}
    written = {path.replace(LIST_OF_PATHS, ONE_PATH) for path in paths(yaml.safe_load(everything()))}
    free = re.compile(
        r"\[\]$|\.<name>$|^subscribers\[\]\.(filter|headers)\.|^kafka\.topic_config\.|^kafka\.schema_ids\.|^ingest\.callbacks\.<name>$"
    )
    assert sorted(wanted) == sorted(path for path in written if not free.search(path))


def test_defaults_in_the_file_are_the_settings_own() -> None:
    """A key that is commented out shows what holds without it."""
    settings = loads(everything(), {})
    checked = 0
    for key in keys():
        is_example = key.path.startswith(EXAMPLES) and not DEFAULTS_IN_EXAMPLES.match(key.path)
        if is_example or key.node.kind is NodeKind.SECTION:
            continue
        found: Any = settings
        for step in key.path.replace("[]", ".0").split("."):
            found = found[int(step)] if isinstance(found, list) else getattr(found, step)
        if key.path in ("subscribers[].retry.max_age", "topics.schema_base_url"):
            continue  # without a default: the file shows an example
        assert key.default == found, key.path
        checked += 1
    assert checked > 30


def test_every_key_has_a_description() -> None:
    """The reference in configuration.md is made from them."""
    assert [key.path for key in keys() if not (key.info.description or "").strip()] == []


def test_outline_finds_every_key_it_lists() -> None:
    """A path of the list leads to a place, with list items by number and free names by any name."""
    for key in keys():
        steps = [0 if step == "" else step for step in key.path.replace("[]", ".").replace("..", ".\0").split(".")]
        path = tuple(0 if step == "\0" else str(step).lstrip("\0") for step in steps)
        path = tuple(step for step in path if step != "")
        assert at(path) is not None, key.path
