"""What people and programs can ask for is documented, and what is documented can be asked for.

Paths of the admin port, exit codes, event types and topics, alerts: in every document, both ways. Commands,
configuration keys and metrics have the same in ``test_readme`` and ``tests/deploy``.
"""

from __future__ import annotations

import re
from pathlib import Path

from aiohttp import web
from click.testing import CliRunner
from prometheus_client import CollectorRegistry

from deploy import render
from gateway import __version__, publisher
from gateway.admin import audit
from gateway.admin.parts import Parts
from gateway.admin.server import AdminServer
from gateway.callbacks import CALLBACKS
from gateway.cli import main
from gateway.config.settings import FAMILIES, Settings
from gateway.fanout import (
    attempts,
    replay_board,
    retry_feed,
    retry_records,
    subscriber_state,
    subscriber_store,
    subscriptions,
)
from gateway.fanout.reader import group_name
from gateway.schema.events import event_schemas, topics
from tests.rows import rows
from tests.tour import README, ROOT

DOCS = ROOT / "deploy/docs"
PAGES = {"README.md": README, **{path.name: path.read_text() for path in sorted(DOCS.glob("*.md"))}}
INTERFACE = PAGES["interface.md"]
each = rows("page", PAGES)


def between(marker: str) -> str:
    """What stands between ``<!-- marker -->`` and the next ``<!-- end -->``."""
    return INTERFACE.partition(f"<!-- {marker} -->")[2].partition("<!-- end -->")[0]


def documented(marker: str) -> set[tuple[str, str]]:
    """Method and path of each row."""
    return set(re.findall(r"(?m)^\| `([A-Z*]+)` \| `([^`]+)` \|", between(marker)))


def routes(app: web.Application) -> set[tuple[str, str]]:
    """Method and path of what an application answers; HEAD comes with GET."""
    found = set()
    for route in app.router.routes():
        assert route.resource is not None
        # What a part of a path may be, such as {number:\d+}, is no matter here.
        path = re.sub(r"\{(\w+):[^{}]*\}", r"{\1}", route.resource.canonical)
        found.add((route.method, re.sub(r":[^}/]+(?=\})", "", path)))
    return {(method, path) for method, path in found if method != "HEAD"}


async def test_paths_of_the_admin_port_are_documented_and_exist() -> None:
    """Each with its method."""
    parts = Parts(Settings(), "run", {}, CollectorRegistry())
    assert routes(AdminServer(parts).application()) == documented("paths")


@each
def test_paths_in_documents_exist(page: str) -> None:
    """Health, metrics and ``/api/…`` in any text or command; a name may stand where the path has one."""
    known = [re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(path)) for _, path in documented("paths")]
    named = re.findall(r"(?<![\w.])(?:http://[\w.:-]+)?(/(?:healthz|readyz|metrics|api/[\w{}<>/-]+))", PAGES[page])
    assert [] == [path for path in named if not any(re.fullmatch(one, path.rstrip("/")) for one in known)]


@each
def test_callback_paths_in_documents_exist(page: str) -> None:
    """``/callbacks/<name>`` of a built-in callback, or one that the page's own example configures."""
    named = set(re.findall(r"/callbacks/([a-z][a-z0-9-]*)", PAGES[page]))
    configured = set(re.findall(r"path: /callbacks/([a-z0-9-]+)", PAGES[page]))
    configured |= set(re.findall(r"(?m)^    ([a-z0-9-]+):\n      decoder: ", PAGES[page]))
    assert set() == named - set(CALLBACKS) - configured


def test_exit_codes_are_documented_as_the_help_says() -> None:
    """Word for word; another test holds the help against the errors."""
    shown = CliRunner().invoke(main, ["--help"]).stdout.partition("Exit codes\n")[2].partition("\n\n")[0]
    wanted = {(code, " ".join(text.split())) for code, text in re.findall(r"(?m)^ +(\d+)  +(.+)$", shown)}
    assert len(wanted) > 4
    assert wanted == set(re.findall(r"(?m)^\| (\d+) \| (.+) \|$", between("exit codes")))


@each
def test_event_types_in_documents_exist(page: str) -> None:
    """Types of the built-in callbacks, as ``gateway schema`` has them."""
    named = set(re.findall(r"`(nxcloud\.[a-z.-]+)`", PAGES[page])) | set(
        re.findall(r"--type (nxcloud\.[a-z.-]+)", PAGES[page])
    )
    assert set() == named - set(event_schemas())


def test_every_event_type_and_topic_is_documented_with_every_field() -> None:
    """The page is made from the schemas; here it is held against them once more, without what makes it."""
    page = PAGES["events.md"]
    assert list(topics()) == re.findall(r"(?m)^## Topic `(.+)`$", page)
    assert set(FAMILIES) == set(topics())
    sections = dict(re.findall(r"(?ms)^### `(.+?)`$(.*?)(?=^##|<!-- end)", page))
    assert set(event_schemas()) == set(sections)
    for kind, schema in event_schemas().items():
        assert set(schema["properties"]["data"]["properties"]) <= set(re.findall(r"(?m)^\| `(\w+)` \|", sections[kind]))
    attributes = set(re.findall(r"(?m)^\| `(\w+)` \|", page.partition("<!-- events -->")[0]))
    assert attributes == {name for schema in event_schemas().values() for name in schema["properties"]}


@each
def test_topics_in_documents_exist(page: str) -> None:
    """Those of events."""
    families = {topic.partition(".")[0] for topic in FAMILIES}
    # Fields of the platform stand in the page of events behind this mark, and look alike.
    text = PAGES[page].partition("<!-- events -->")[0]
    named = {name for name in re.findall(r"`([a-z]+\.[a-z]+)`", text) if name.partition(".")[0] in families}
    assert set() == named - set(FAMILIES)


def test_internal_topics_are_documented_where_kafka_needs_rights() -> None:
    """Whoever gives a user rights on topics must know all of them."""
    text = PAGES["kafka-consumers.md"].partition("Its consumer groups")[0]
    shown = set(re.findall(r"(?m)^\| `([a-z.<>]+)` \|", text))
    one = "<subscriber>"
    tier = retry_records.retry_topic(60.0).replace("60s", "<delay>")
    wanted = {tier, retry_records.dlq_topic(one), retry_records.REPLAY}
    wanted |= {publisher.DEAD_LETTERS, attempts.TOPIC, replay_board.TOPIC, subscriber_state.TOPIC}
    assert wanted | {subscriber_store.TOPIC, audit.TOPIC} == shown


def test_consumer_groups_are_documented_where_kafka_needs_rights() -> None:
    """A group without the right to read is a subscriber that gets nothing."""
    text = PAGES["kafka-consumers.md"].partition("Its consumer groups")[2].partition("\n## ")[0]
    shown = set(re.findall(r"(?m)^\| `([a-z.<>]+)` \|", text))
    assert {subscriptions.GROUP, group_name("<subscriber>"), retry_feed.GROUP} == shown


@each
def test_alerts_in_documents_exist(page: str) -> None:
    """The run-book has a section for each, which another test holds against the rules."""
    named = set(re.findall(r"\bGateway[A-Z]\w+", PAGES[page]))
    assert set() == named - {rule["alert"] for rule in render.alerts()}


def test_every_alert_has_its_section() -> None:
    """With its severity, and with meaning, check and action."""
    text = PAGES["operations.md"]
    for rule in render.alerts():
        section = text.partition(f"### {rule['alert']}\n")[2].partition("\n### ")[0]
        assert f"*{rule['labels']['severity']}*" in section
        assert all(f"**{part}:**" in section for part in ("Meaning", "Check", "Act"))


def test_the_newest_release_note_is_of_this_version() -> None:
    """Whoever upgrades finds what changed, and what it counts is right."""
    notes = PAGES["changelog.md"].partition("\n## ")[2].partition("\n## ")[0]
    assert notes.split()[0] == __version__
    assert f"{len(CALLBACKS)} NXCloud callbacks" in notes


def test_pages_are_in_the_repository() -> None:
    """What is read above is not empty."""
    assert len(PAGES) > 8
    assert all(len(text) > 300 for text in PAGES.values()), [Path(name) for name in PAGES]
