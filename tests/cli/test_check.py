"""``gateway check`` passes exactly what a start takes."""

from __future__ import annotations

import json
import socket
import tempfile
from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.cli import main
from gateway.clock import SystemClock
from gateway.config.loading import load
from gateway.errors import ConfigError
from gateway.fanout import subscription
from gateway.fanout.subscriptions import FanOut
from tests.effort import examples
from tests.fanout.authority import Authority
from tests.fanout.memory_log import MemoryLog
from tests.fanout.running import SECRET
from tests.ports import free_port


def check(config: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["check", "-c", str(config), *arguments])


def starts(config: Path) -> bool:
    """Whether ``run`` gets as far as delivering with this file."""
    try:
        settings = load(config, {})
        FanOut(MemoryLog(), settings.subscribers)
    except ConfigError:
        return False
    for subscriber in settings.subscribers:
        if subscriber.kind != "stream":
            subscription.build(subscriber)
            subscription.sink(subscriber, clock=SystemClock(), rng=Random(1))
    return True


@pytest.fixture(scope="module")
def files() -> dict[str, str]:
    """Certificate files: an authority's, one with its key, one with something else in it, and one that is missing."""
    folder = Path(tempfile.mkdtemp())
    authority = Authority(folder, "authority")
    (folder / "junk.pem").write_text("junk")
    return {
        "good": str(authority.file),
        "pair": str(authority.issue("ours")),
        "junk": str(folder / "junk.pem"),
        "missing": str(folder / "nowhere" / "ca.pem"),
    }


def mostly(good: list[Any], bad: list[Any]) -> st.SearchStrategy[Any]:
    """One of the good more often than one of the bad: with seven keys some files have to be sound."""
    return st.one_of(*[st.sampled_from(good)] * 4, st.sampled_from(bad))


_FILE = mostly(["good", "pair"], ["junk", "missing"])
_HEADER = mostly(
    ["X-Tenant", "Authorization", "x_y"],
    ["Connection", "host", "User-Agent", "webhook-id", "Webhook-Any", "a b", "a:b", "", "ü", "Content-Length"],
)
_SUBSCRIBER = st.fixed_dictionaries(
    {"name": st.just("s"), "topics": st.just(["sms.dr"]), "url": st.just("https://example.com/hook")},
    optional={
        "headers": st.dictionaries(_HEADER, mostly(["v", "ü ü", ""], ["a\nb", "a\x7f", "\t", "\u2028"]), max_size=2),
        "transform": st.fixed_dictionaries(
            {},
            optional={
                "include": st.lists(mostly(["data", "data.to", "type"], ["DATA..x", "data.", ""]), max_size=2),
                "exclude": st.lists(mostly(["data.raw", "subject"], ["id", "Data", "data..x"]), max_size=2),
            },
        ),
        "tls": st.fixed_dictionaries({}, optional={"ca_file": _FILE, "cert_file": _FILE, "key_file": _FILE}),
        "filter": mostly(
            [{"exact": {"type": "x"}}, [{"any": [{"prefix": {"data.to": "+62"}}]}]],
            [{"exactly": {}}, {"exact": {"DATA": "x"}}, {"all": []}, {"exact": {"type": 5}}],
        ),
        "secrets": st.lists(mostly([SECRET], ["whsec_short", "whpk_x", "%%%"]), max_size=2),
        "allow": st.lists(mostly(["10.0.0.0/8", "inside.example"], ["10.0.0.1/8", "300.1.1.1"]), max_size=2),
        "retry": st.fixed_dictionaries(
            {},
            optional={
                "first_delay_s": mostly([0.1, 5], [0]),
                "max_delay_s": mostly([5, 100], [0.05]),
                "tiers": st.lists(mostly([1, 60, "10m"], ["x"]), max_size=3),
            },
        ),
        "token": mostly([""], ["t"]),
        "allow_private": st.booleans(),
    },
)


@settings(max_examples=examples(20))  # each reads the file twice
@given(subscriber=_SUBSCRIBER)
@example(subscriber={"headers": {"connection": "close"}})
@example(subscriber={"headers": {"user-agent": "mine"}})
@example(subscriber={"tls": {"ca_file": "missing"}})
@example(subscriber={"tls": {"key_file": "pair"}})
@example(subscriber={"transform": {"include": ["DATA..x"]}})
def test_check_passes_what_a_start_takes_and_nothing_else(files: dict[str, str], subscriber: dict[str, Any]) -> None:
    """Exit code 0 if and only if the parts are made of the same file without an error."""
    tls = {key: files[name] for key, name in subscriber.get("tls", {}).items()}
    whole = {"name": "s", "topics": ["sms.dr"], "url": "https://example.com/hook", **subscriber, "tls": tls}
    config = Path(files["good"]).parent / "config.yaml"
    config.write_text(yaml.safe_dump({"subscribers": [whole]}))
    result = check(config, "--offline")
    assert result.exit_code == (0 if starts(config) else 2), result.output
    assert all(line.startswith("Error: ") for line in result.stderr.splitlines())


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"headers": {"connection": "close"}}, "headers.connection: this header is the gateway's own"),
        ({"tls": {"ca_file": "/nowhere.pem"}}, "tls.ca_file: /nowhere.pem cannot be used"),
        ({"transform": {"include": ["DATA..x"]}}, "transform.include[0]: name an attribute"),
    ],
)
def test_what_a_start_refuses_is_told_offline(tmp_path: Path, given: dict[str, Any], said: str) -> None:
    """With its key path, as text and as JSON; exit code 2."""
    config = tmp_path / "config.yaml"
    whole = {"name": "s", "topics": ["sms.dr"], "url": "https://example.com/", **given}
    config.write_text(yaml.safe_dump({"subscribers": [whole]}))
    result = check(config, "--offline")
    assert 2 == result.exit_code
    assert said in result.stderr
    document = json.loads(check(config, "--offline", "--json").stdout)
    assert (False, []) == (document["is_ok"], document["findings"])
    assert any(said in problem for problem in document["problems"])


def test_files_of_a_role_that_is_not_started_here_may_be_missing(tmp_path: Path) -> None:
    """``serve`` has no subscribers' certificates; it has those of Kafka, and all of them are told at once."""
    config = tmp_path / "config.yaml"
    config.write_text(
        """
kafka: {bootstrap_servers: "localhost:9092", security: {protocol: SSL, ca_file: /nowhere-kafka.pem}}
subscribers: {name: s, topics: [sms.dr], url: "https://example.com/", tls: {ca_file: /nowhere.pem}}
"""
    )
    for role, count in (("run", 2), ("fanout", 2), ("serve", 1)):
        result = check(config, "--offline", "--role", role)
        assert (2, count) == (result.exit_code, len(result.stderr.splitlines()))
        assert "kafka.security.ca_file: /nowhere-kafka.pem cannot be used" in result.stderr


def test_offline_opens_no_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither Kafka nor a subscriber is looked up or connected to."""
    config = tmp_path / "config.yaml"
    config.write_text(
        f"""
kafka: {{bootstrap_servers: "127.0.0.1:{free_port()}"}}
subscribers: {{name: s, topics: [sms.dr], url: "https://example.invalid/"}}
"""
    )

    def refuse(*_: object, **__: object) -> Any:
        raise AssertionError("the network was touched")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    result = check(config, "--offline")
    assert 0 == result.exit_code, result.output
    assert not any(line.startswith("ok        kafka") for line in result.stdout.splitlines())


def test_each_finding_is_a_line_with_what_to_do(tmp_path: Path) -> None:
    """Level, key path, what was seen, advice; what could not be asked is unknown, and the exit code is 1."""
    port = free_port()
    config = tmp_path / "config.yaml"
    config.write_text(f'kafka: {{bootstrap_servers: "127.0.0.1:{port}"}}\njournal: {{dir: {tmp_path}/data}}\n')
    result = check(config)
    assert 1 == result.exit_code
    lines = result.stdout.splitlines()
    assert f"ok        {config}: no mistakes" == lines[0]
    assert (
        f"problem   kafka.bootstrap_servers[0]: 127.0.0.1:{port} cannot be reached: connection refused; "
        "nothing listens there: start it, or correct host and port"
    ) in lines
    assert "unknown   kafka: rights, settings and clock not checked: no broker can be asked" in lines
    assert "" == result.stderr
    document = json.loads(check(config, "--json").stdout)
    assert document["is_ok"] is False
    assert {"level", "path", "text", "advice"} == set(document["findings"][0])
