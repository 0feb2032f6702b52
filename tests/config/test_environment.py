"""``${NAME}`` in values and ``GATEWAY__…`` over keys."""

from __future__ import annotations

import pytest

from gateway.config.loading import loads
from gateway.errors import ConfigError
from tests.rows import rows

TWO = """
subscribers:
  - {name: a, topics: [sms.dr], url: "https://a.example.com/"}
  - {name: b, topics: [sms.dr], url: "https://b.example.com/"}
"""


@rows(
    ("value", "expected"),
    [
        ("${NAME}", "anna"),
        ("${NAME:-x}", "anna"),
        ("${UNSET:-x y}", "x y"),
        ("${UNSET:-}", ""),
        ("${EMPTY:-x}", "x"),
        ("${EMPTY}", ""),
        ("a${NAME}b${NAME}c", "aannabannac"),
        ("$${NAME}", "${NAME}"),
        ("$NAME $ {NAME} }", "$NAME $ {NAME} }"),
    ],
)
def test_variables_stand_anywhere_in_a_value(value: str, expected: str) -> None:
    """With a default, without, several at once, and escaped."""
    settings = loads(f"admin: {{token: '{value}'}}", {"NAME": "anna", "EMPTY": ""})
    assert expected == settings.admin.token.get_secret_value()


def test_variable_can_be_a_number_or_a_list_item() -> None:
    """What comes from the environment is text, and becomes what its key wants."""
    text = "admin: {port: '${PORT}'}\ningest: {trusted_proxies: ['${A}', '${B:-}'], max_body_bytes: '${SIZE}'}"
    settings = loads(text, {"PORT": "9000", "A": "10.0.0.0/8", "SIZE": "2MiB"})
    assert settings.admin.port == 9000
    assert [str(one) for one in settings.ingest.trusted_proxies] == ["10.0.0.0/8"]
    assert settings.ingest.max_body_bytes == 2 * 1024**2


@rows(
    ("value", "expected"),
    [
        ("${UNSET}", "admin.token: the environment variable UNSET is not set; set it, or write ${UNSET:-default}"),
        ("${1X}", "admin.token: '${' must be followed by NAME} or NAME:-default}"),
        ("${UNSET", "admin.token: '${' must be followed by"),
        ("${UNSET:-${NAME}}", "admin.token: '${' must be followed by"),
    ],
)
def test_variables_that_cannot_be_filled_in_are_problems(value: str, expected: str) -> None:
    """Unset without a default, or not a variable at all."""
    with pytest.raises(ConfigError) as caught:
        loads(f"admin: {{token: '{value}'}}", {"NAME": "anna"})
    assert caught.value.problems[0].startswith(expected)
    assert caught.value.problems[0].endswith("(config.yaml line 1)")


@rows(
    ("name", "value", "path", "expected"),
    [
        ("GATEWAY__INGEST__PORT", "9000", "ingest.port", 9000),
        ("gateway__ingest__port", "9000", "ingest.port", 9000),
        ("GATEWAY__JOURNAL__RETENTION", "2h", "journal.retention", 7200.0),
        ("GATEWAY__LOG__LEVEL", "debug", "log.level", "debug"),
        ("GATEWAY__LOG", "{level: debug}", "log.level", "debug"),
        ("GATEWAY__INGEST__TIMEZONE", "UTC", "ingest.timezone", "UTC"),
        ("GATEWAY__KAFKA__BOOTSTRAP_SERVERS", "a:1,b:2", "kafka.bootstrap_servers", ["a:1", "b:2"]),
        ("GATEWAY__KAFKA__BOOTSTRAP_SERVERS", "[a:1, b:2]", "kafka.bootstrap_servers", ["a:1", "b:2"]),
        ("GATEWAY__KAFKA__BOOTSTRAP_SERVERS__0", "a:1", "kafka.bootstrap_servers", ["a:1"]),
        ("GATEWAY__SUBSCRIBERS__1__URL", "https://c.example.com/", "subscribers.1.url", "https://c.example.com/"),
        ("GATEWAY__SUBSCRIBERS__1__RETRY__ATTEMPTS", "3", "subscribers.1.retry.attempts", 3),
        ("GATEWAY__SUBSCRIBERS__1__RATE_PER_S", "null", "subscribers.1.rate_per_s", None),
        ("GATEWAY__SUBSCRIBERS__1__FILTER__EXACT__TYPE", "x", "subscribers.1.filter", {"exact": {"type": "x"}}),
        ("GATEWAY__SUBSCRIBERS__2", "{name: c, topics: sms.dr, url: 'https://c/'}", "subscribers.2.name", "c"),
        ("GATEWAY__SUBSCRIBERS", "[]", "subscribers", []),
        ("GATEWAY__INGEST__CALLBACKS__SMS_DR__ACCOUNT", "main", "ingest.callbacks.sms-dr.0.account", "main"),
        ("GATEWAY__INGEST__CALLBACKS__SMS_DR__0__ACCOUNT", "main", "ingest.callbacks.sms-dr.0.account", "main"),
        ("GATEWAY__INGEST__CALLBACKS__SMS_DR__ENABLED", "false", "ingest.callbacks.sms-dr.0.enabled", False),
    ],
)
def test_overrides_set_one_key(name: str, value: str, path: str, expected: object) -> None:
    """Letter case does not matter, ``_`` means ``-``, numbers are places in lists."""
    found: object = loads(TWO, {name: value})
    for step in path.split("."):
        if isinstance(found, list):
            found = found[int(step)]
        else:
            found = found[step] if isinstance(found, dict) else getattr(found, step)
    assert expected == found


@rows("value", ["12345", "0x10", "yes", "a: b", "x # y", "${NAME}", "'quoted'", "*", "null"])
def test_override_of_a_secret_is_taken_as_it_stands(value: str) -> None:
    """No YAML, no variables: a token may look like anything."""
    settings = loads("", {"GATEWAY__ADMIN__TOKEN": value, "NAME": "anna"})
    assert value == settings.admin.token.get_secret_value()


def test_override_stands_over_a_variable_that_is_not_set() -> None:
    """What is replaced needs no value of its own."""
    settings = loads("admin: {token: '${UNSET}'}", {"GATEWAY__ADMIN__TOKEN": "x"})
    assert settings.admin.token.get_secret_value() == "x"


@rows(
    ("name", "value", "expected"),
    [
        ("GATEWAY__INGEST__PROT", "1", "GATEWAY__INGEST__PROT: ingest has no key 'prot'; did you mean PORT?"),
        ("GATEWAY__ZZZ", "1", "GATEWAY__ZZZ: config.yaml has no key 'zzz'"),
        ("GATEWAY__INGEST__PORT__X", "1", "GATEWAY__INGEST__PORT__X: ingest.port is a single value and has no keys"),
        ("GATEWAY__SUBSCRIBERS__7__URL", "x", "GATEWAY__SUBSCRIBERS__7__URL: subscribers has 2 items; say which"),
        ("GATEWAY__SUBSCRIBERS__URL", "x", "GATEWAY__SUBSCRIBERS__URL: subscribers has 2 items; say which"),
        ("GATEWAY__SUBSCRIBERS__²__URL", "x", "GATEWAY__SUBSCRIBERS__²__URL: subscribers has 2 items; say which"),
        (
            "GATEWAY__SUBSCRIBERS__" + "9" * 5000,
            "x",
            "GATEWAY__SUBSCRIBERS__" + "9" * 5000 + ": subscribers has 2 items",
        ),
        (
            "GATEWAY__SUBSCRIBERS__0__TOPICS__X",
            "x",
            "GATEWAY__SUBSCRIBERS__0__TOPICS__X: subscribers[0].topics[0] is a single value and has no keys",
        ),
        (
            "GATEWAY__SUBSCRIBERS__0__TOPICS__X__Y",
            "x",
            "GATEWAY__SUBSCRIBERS__0__TOPICS__X__Y: subscribers[0].topics[0] is a single value and has no keys",
        ),
        (
            "GATEWAY__INGEST__TRUSTED_PROXIES__X",
            "x",
            "GATEWAY__INGEST__TRUSTED_PROXIES__X: ingest.trusted_proxies[0] is a single value and has no keys",
        ),
        ("GATEWAY__LOG", "{", "GATEWAY__LOG: the value is not YAML"),
        ("GATEWAY__ADMIN__PORT", "x", "admin.port: a whole number is needed (from GATEWAY__ADMIN__PORT)"),
        ("GATEWAY__", "x", "GATEWAY__: config.yaml has no key ''"),
    ],
)
def test_overrides_that_mean_nothing_are_problems(name: str, value: str, expected: str) -> None:
    """A misspelt variable is not silently ignored; a wrong value names the variable."""
    with pytest.raises(ConfigError) as caught:
        loads(TWO, {name: value})
    assert caught.value.problems[0].startswith(expected)


def test_override_of_a_key_in_what_is_no_section() -> None:
    """Where the file has a single value for a section, what the variable says stands instead."""
    with pytest.raises(ConfigError) as caught:
        loads("subscribers: [x]", {"GATEWAY__SUBSCRIBERS__NAME": "a"})
    assert any(problem.startswith("subscribers[0].topics") for problem in caught.value.problems)


def test_variables_of_others_are_left_alone() -> None:
    """Kubernetes sets GATEWAY_PORT and the like for a service of that name."""
    assert loads("", {"GATEWAY_PORT": "tcp://10.0.0.1:80", "GATEWAY": "x"}).ingest.port == 8080
