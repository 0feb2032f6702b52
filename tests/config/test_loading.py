"""Reading config.yaml: what is accepted, and every sentence that says what is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config.loading import load, loads
from gateway.config.rules import warnings
from gateway.config.settings import Settings
from gateway.errors import ConfigError
from tests.rows import rows

SECRET = "whsec_" + "c2VjcmV0" * 4

DESIGN_EXAMPLE = """
ingest:
  host: 127.0.0.1
  port: 8080
  workers: 1
  max_body_bytes: 1048576
  timezone: Asia/Shanghai
  trusted_proxies: []
  callbacks:
    sms-dr:
      path: /callbacks/sms-dr
      auth: {token: "${SMS_DR_TOKEN:-}"}
    callbot-task:
      - path: /callbacks/callbot-task
        account: main
        auth: {signature: {secret: "${CALLBOT_SECRET:-}", algorithm: md5}}
    shop-orders:
      decoder: json
      topic: shop.order
      key: $.order.id
journal:
  dir: data
  max_bytes: 10GiB
  retention: 7d
kafka:
  bootstrap_servers: localhost:9092
  security: {}
  partitions: 6
  replication_factor: 1
  create_topics: true
topics:
  prefix: ""
subscribers:
  - name: billing
    topics: [sms.dr]
    filter: {all: [{exact: {type: nxcloud.sms.dr}}, {prefix: {data.to: "+62"}}]}
    url: https://billing.example.com/hooks/sms
    secrets: ["${BILLING_SECRET}"]
    concurrency: 32
    rate_per_s: 500
    timeout_s: 10
    ordering: key
    retry: {attempts: 12, first_delay_s: 5, max_delay_s: 21600}
    allow_private: false
admin:
  host: 127.0.0.1
  port: 8081
  token: "${ADMIN_TOKEN:-}"
log: {level: info, format: auto}
"""


def problems(text: str, **environ: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        loads(text, environ)
    return caught.value.problems


def test_documented_example_loads_as_it_stands() -> None:
    """The example of the contract needs only the one variable that has no default."""
    settings = loads(DESIGN_EXAMPLE, {"BILLING_SECRET": SECRET})
    (billing,) = settings.subscribers
    assert [secret.get_secret_value() for secret in billing.secrets] == [SECRET]
    assert settings.journal.max_bytes == 10 * 1024**3
    assert settings.journal.retention == 7 * 86400
    assert settings.kafka.bootstrap_servers == ["localhost:9092"]
    assert settings.ingest.callbacks["callbot-task"][0].account == "main"
    assert settings.ingest.callbacks["sms-dr"][0].auth.is_open


def test_empty_file_is_the_default_configuration() -> None:
    """No key is needed."""
    assert Settings() == loads("", {})
    assert Settings() == loads("ingest:\nsubscribers:\nkafka:\nlog: {level: }\n", {})


def test_missing_file_says_what_to_do(tmp_path: Path) -> None:
    """A wrong name is one sentence with the way out."""
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "nope.yaml", {})
    (problem,) = caught.value.problems
    assert "nope.yaml: there is no such file; name yours with --config" in problem
    assert caught.value.exit_code == 2


def test_file_is_read_with_its_name_in_the_sentences(tmp_path: Path) -> None:
    """The line stands behind the file's own name."""
    path = tmp_path / "mine.yaml"
    path.write_text("ingest:\n  port: x\n")
    with pytest.raises(ConfigError) as caught:
        load(path, {})
    assert caught.value.problems == ["ingest.port: a whole number is needed (mine.yaml line 2)"]


@rows(
    ("text", "start"),
    [
        ("ingest:\n  port: 1\n port: 2\n", "config.yaml:3:"),
        ("ingest: {port: 1\n", "config.yaml:2:"),
        ("a: *top_secret_9\n", "config.yaml:1:4: not valid YAML: found undefined alias …"),
        ("\tingest: 1\n", "config.yaml:1:1:"),
        ("a: !hush x\n", "config.yaml:1:4:"),
        ("- a\n- b\n", "config.yaml: sections such as 'ingest:'"),
        ("just words\n", "config.yaml: sections such as 'ingest:'"),
        ("a: &a [*a]\n", "config.yaml:1: an alias refers to"),
        ("a: 2024-13-45\n", "config.yaml: a value cannot be read"),
        ("\x00", "config.yaml: not valid YAML: control characters are not allowed"),
        ("[" * 5000, "config.yaml:1: nested more than 100 levels deep"),
    ],
)
def test_what_is_not_yaml_is_told_with_its_place(text: str, start: str) -> None:
    """Line and column, and nothing of the file's content, which may be half of a secret."""
    (problem,) = problems(text)
    assert problem.startswith(start)
    assert "top_secret_9" not in problem


def test_key_given_twice_is_refused() -> None:
    """YAML itself would silently take the last one."""
    assert problems("admin: {port: 1, port: 2}\nlog: {}\nadmin: {}") == [
        "admin.port: given twice, in config.yaml line 1 and line 1; keep one",
        "admin: given twice, in config.yaml line 1 and line 3; keep one",
    ]


SUBSCRIBER = "name: s, url: 'https://example.com/', topics: [sms.dr]"

PROBLEMS = [
    ("ingest: {prot: 1}", "ingest.prot: unknown key; did you mean 'port'?"),
    ("ingets: {}", "ingets: unknown key; did you mean 'ingest'?"),
    ("log: {zzz: 1}", "log.zzz: unknown key; there are level, format"),
    ("admin: {token: 123}", "admin.token: a text is needed; put it in quotes"),
    ("admin: {port: 70000}", "admin.port: must be at most 65535"),
    ("ingest: {workers: 0}", "ingest.workers: must be at least 1"),
    ("ingest: {workers: all}", "ingest.workers: a whole number is needed"),
    ("ingest: {max_connections: 1}", "ingest.max_connections: must be at least 8"),
    ("ingest: {read_timeout: 0}", "ingest.read_timeout: must be more than 0"),
    ("ingest: {read_timeout: soon}", "ingest.read_timeout: a duration looks like 30s"),
    ("ingest: {timezone: Mars/Base}", "ingest.timezone: not a time zone of the IANA list"),
    ("ingest: {trusted_proxies: [1.2.3.4/99]}", "ingest.trusted_proxies[0]: an address or a network"),
    ("ingest: []", "ingest: a section of keys and values is needed"),
    ("ingest: {callbacks: {sms-dr: []}}", "ingest.callbacks.sms-dr: at least one is needed"),
    ("ingest: {callbacks: {'SMS DR': {}}}", "ingest.callbacks.SMS DR: use lower-case letters"),
    ("journal: {max_bytes: lots}", "journal.max_bytes: a size looks like"),
    ("journal: {max_bytes: 10XiB}", "journal.max_bytes: a size looks like"),
    ("log: {level: loud}", "log.level: one of debug, info, warning, error is needed"),
    ("topics: {prefix: 'a b'}", "topics.prefix: letters, digits, '.', '-' and '_' are allowed"),
    ("subscribers: [{topics: [sms.dr], url: 'https://x/'}]", "subscribers[0].name: is needed and not there"),
    ("subscribers: [{name: s, topics: [sms.dr]}]", "subscribers[0].url: a webhook needs an address"),
    ("subscribers: {name: s, topics: [], url: 'https://x/'}", "subscribers.topics: at least one is needed"),
    ("subscribers: [7]", "subscribers[0]: a section of keys and values is needed"),
    ("subscribers: {%s, url2: 1}", "subscribers.url2: unknown key; did you mean 'url'?"),
    ("subscribers: {name: s, topics: [sms.dr], url: ftp://x/}", "subscribers.url: an address of the form"),
    ("subscribers: {name: s, topics: [sms.dr], url: 'http://[x/'}", "subscribers.url: an address of the form"),
    ("subscribers: {name: s, topics: [sms.dr], url: 'http://u:p@x/'}", "subscribers.url: keep credentials out"),
    ("subscribers: {name: s, topics: [sms.dr], url: 'http://x/a b'}", "subscribers.url: holds a space at position 11"),
    ('subscribers: {name: s, topics: [sms.dr], url: "http://x/\\r\\nHost: y"}', "subscribers.url: holds a line end"),
    ("subscribers: {name: s, topics: [sms.dr], url: 'http://x/#a'}", "subscribers.url: what follows # is never sent"),
    ("subscribers: {name: s, topics: [sms.dr], url: 'http://x\\\\@y/'}", "subscribers.url: keep credentials out"),
    ("subscribers: {name: s, topics: [sms.dr], url: 'http://x\\\\y/'}", "subscribers.url: an address of the form"),
    ("subscribers: {name: s, topics: [sms.rd], url: 'http://x/'}", "the topic 'sms.rd'; did you mean 'sms.dr'?"),
    ("subscribers: {%s, filter: {exat: {type: x}}}", "subscribers.filter.exat: unknown dialect"),
    ("subscribers: {%s, secrets: [hunter2]}", "subscribers.secrets[0]: a secret is whsec_ followed by base64"),
    (
        "subscribers: {%s, token: hunter2}",
        "subscribers.token: only a stream is fetched with one, and this is a webhook",
    ),
    ("subscribers: {name: s, topics: [sms.dr], kind: stream, token: 'a b'}", "subscribers.token: is sent in a header"),
    ("subscribers: {%s, allow: [10.0.0.0/99]}", "subscribers.allow[0]:"),
    ("subscribers: {%s, headers: {Host: x}}", "subscribers.headers.Host: this header is the gateway's own"),
    ("subscribers: {%s, headers: {'a b': x}}", "subscribers.headers.a b: not a name of an HTTP header"),
    ('subscribers: {%s, headers: {a: "x\\ny"}}', "subscribers.headers.a: a header's value is one line"),
    ("subscribers: {%s, retry: {first_delay_s: 9, max_delay_s: 8}}", "retry.first_delay_s: must not be more than max"),
    ("subscribers: [{%s}, {%s}]", "subscribers[1].name: 's' is the name of subscribers[0] too"),
    (
        "subscribers: {name: fanout, topics: [sms.dr], url: 'http://x/'}",
        "subscribers.name: 'fanout' is the name of a pl",
    ),
    ("subscribers: {name: retry, topics: [sms.dr], url: 'http://x/'}", "subscribers.name: 'retry' is the name of a pl"),
    ("subscribers: {name: replay, topics: [sms.dr], url: 'http://x/'}", "subscribers.name: 'replay' is the name of a"),
    ("ingest: {callbacks: {shop: {decoder: json, topic: replay, key: $.a}}}", "shop.topic: 'replay' is the name of a"),
    (
        "ingest: {callbacks: {shop: {decoder: json, topic: dlq.x, key: $.a}}}",
        "shop.topic: 'dlq.x' is the name of a topic",
    ),
    ("subscribers: {%s, breaker: {first_open: 9s, max_open: 8s}}", "breaker.first_open: must not be more than max"),
    (
        "subscribers: [&a {name: a, topics: sms.dr, kind: file, path: y/../f}, {<<: *a, name: b, path: ./f}]",
        "subscribers[1].path: is the file of a too",
    ),
    ("ingest: {callbacks: {did-sms: {own_numbers: ['+1 555 010 0001', mine]}}}", "own_numbers[1]: a phone number with"),
    ("ingest: {callbacks: {sms-dr: {path: '/sms%2Ddr'}}}", "sms-dr.path: a path begins with /"),
    ('ingest: {callbacks: {sms-dr: {auth: {token: "abc\\n"}}}}', "sms-dr.auth.token: begins or ends with a line end"),
    (
        'ingest: {callbacks: {sms-dr: {auth: {tokens: [a, "b\\r\\n"]}}}}',
        "auth.tokens[1]: begins or ends with",
    ),
    ('admin: {token: "abc\\n"}', "admin.token: begins or ends with a line end"),
    ("admin: {token: clé}", "admin.token: is sent in a header"),
    ("admin: {tokens: [{name: ann, role: read, token: ' ab'}]}", "admin.tokens[0].token: is sent in a header"),
    ("ingest: {port: yes}", "ingest.port: a number is needed; yes, no, on, off"),
    ("ingest: {workers: on}", "ingest.workers: a number is needed; yes"),
    ("ingest: {read_timeout: yes}", "ingest.read_timeout: a number is needed; yes"),
    ("ingest: {max_body_bytes: true}", "ingest.max_body_bytes: a number is needed; yes"),
    ("subscribers: {%s, retry: {tiers: [off]}}", "subscribers.retry.tiers[0]: a number is needed; yes"),
    ("ingest: {read_timeout: .inf}", "ingest.read_timeout: at most 36500d"),
    ("ingest: {keepalive_timeout: .nan}", "ingest.keepalive_timeout: "),
    ("journal: {retention: 99999999d}", "journal.retention: at most 36500d"),
    ("subscribers: {%s, rate_per_s: .inf}", "subscribers.rate_per_s: a finite number is needed"),
    ("ingest: {host: ''}", "ingest.host: an address such as"),
    ("ingest: {host: 'http://0.0.0.0'}", "ingest.host: an address such as"),
    ("ingest: {host: '0.0.0.0:8080'}", "ingest.host: an address such as"),
    ("admin: {host: '127.0.0.1/8'}", "admin.host: an address such as"),
    ("ingest: {callbacks: {smsdr: {}}}", "ingest.callbacks.smsdr: unknown callback; did you mean 'sms-dr'?"),
    ("ingest: {callbacks: {sms-dr: {decoder: json}}}", "sms-dr.decoder: sms-dr is built in"),
    ("ingest: {callbacks: {sms-dr: {topic: x}}}", "sms-dr.topic: only other senders' callbacks have it"),
    ("ingest: {callbacks: {sms-dr: {own_numbers: ['1']}}}", "sms-dr.own_numbers: only did-sms uses it"),
    ("ingest: {callbacks: {ota: {default_country: '999'}}}", "ota.default_country: there is no country code 999"),
    (
        "ingest: {callbacks: {shop: {decoder: json, topic: s, key: $.a, default_country: '62'}}}",
        "shop.default_country: only built-in callbacks read phone numbers",
    ),
    ("ingest: {callbacks: {sms-dr: {path: 'x'}}}", "sms-dr.path: a path begins with /"),
    ("ingest: {callbacks: {sms-dr: {auth: {signature: {secret: x}}}}}", "does not sign sms-dr"),
    ("ingest: {callbacks: {whatsapp: {auth: {signature: {secret: x, header: y}}}}}", "platform's headers are fixed"),
    ("ingest: {callbacks: {whatsapp: {auth: {signature: {secret: x, encoding: base64}}}}}", "encoding: only for other"),
    (
        "ingest: {callbacks: {x: {decoder: json, topic: t, key: $.a, auth: {signature: {secret: x, window: 1m}}}}}",
        "window: hmac signs no time",
    ),
    ("ingest: {callbacks: {whatsapp: {auth: {signature: {secret: x, algorithm: sha1}}}}}", "signs with md5 or sha256"),
    ("ingest: {callbacks: {sms-dr: {path: /callbacks/whatsapp/}}}", "/callbacks/whatsapp is taken by whatsapp"),
    ("ingest: {callbacks: {sms-dr: [{}, {account: b}]}}", "sms-dr[1].path: /callbacks/sms-dr is taken by sms-dr"),
    ("ingest: {callbacks: {shop: {decoder: json, topic: x}}}", "shop.key: is needed with decoder: json"),
    ("ingest: {callbacks: {shop: {decoder: json, key: $.a}}}", "ingest.callbacks.shop.topic: is needed with decoder"),
    ("ingest: {callbacks: {shop: {decoder: json, topic: x, key: a.b}}}", "shop.key: not a path such as $.order.id"),
    ("ingest: {callbacks: {shop: {decoder: jsn, topic: x}}}", "no installed package offers the decoder 'jsn'"),
    ("admin: {host: 0.0.0.0}", "admin.token: is needed, as admin.host 0.0.0.0 can be reached"),
    ("admin: {port: 8080}", "admin.port: 8080 is ingest.port too"),
    ("kafka: {bootstrap_servers: 'a:1, b'}", "kafka.bootstrap_servers[1]: host:port is needed"),
    ("kafka: {bootstrap_servers: 'a:²'}", "kafka.bootstrap_servers: host:port is needed"),
    ("kafka: {bootstrap_servers: ''}", "kafka.bootstrap_servers: at least one is needed"),
]


@rows(("text", "expected"), PROBLEMS)
def test_each_mistake_has_its_sentence(text: str, expected: str) -> None:
    """The key path, what is wrong there, and the line."""
    (problem,) = problems(text.replace("%s", SUBSCRIBER))
    assert expected in problem
    assert problem.endswith("(config.yaml line 1)")


def test_problems_come_in_two_rounds() -> None:
    """Types, keys, unset variables and overrides come in one round, each once; then all that the rules find."""
    text = """
ingest:
  port: eighty
  callbacks:
    smsdr: {}
subscribers:
  - {name: a, topics: [sms.dr], url: "${NOWHERE}"}
  - {name: b, topics: [sms.dr], url: https://x/, secrets: [short]}
  - {name: b, topics: [sms.ddr], url: https://x/}
admin: {host: 0.0.0.0}
"""
    found = problems(text, GATEWAY__JOURNAL__SIZE="1", GATEWAY__LOG__LEVEL="loud")
    places = [problem.partition(": ")[0] for problem in found]
    assert sorted(places) == sorted(
        [
            "GATEWAY__JOURNAL__SIZE",
            "subscribers[0].url",
            "ingest.port",
            "log.level",
        ]
    )
    found = problems(text.replace("port: eighty", "port: 8080"), NOWHERE="https://x/")
    assert [problem.partition(": ")[0] for problem in found] == [
        "ingest.callbacks.smsdr",
        "subscribers[1].secrets[0]",
        "subscribers[2].name",
        "subscribers[2].topics[0]",
        "admin.token",
    ]


def test_no_secret_stands_in_any_sentence() -> None:
    """Whatever is wrong around a secret, it is not shown."""
    hidden = "h1dden-s3cret"
    for text in (
        f"admin: {{token: [{hidden}]}}",
        f"admin: {{token: {{{hidden}: 1}}}}",
        f"ingest: {{callbacks: {{sms-dr: {{auth: {{token:{hidden}}}}}}}}}",
        f"subscribers: {{{SUBSCRIBER}, secrets: [{hidden}]}}",
        f"subscribers: {{{SUBSCRIBER}, secrets: [whsec_{hidden}]}}",
        f"subscribers: {{{SUBSCRIBER}, headers: {{A: [{hidden}]}}}}",
        f"subscribers: {{name: s, topics: [sms.dr], url: 'https://x:{hidden}@/'}}",
        f"kafka: {{bootstrap_servers: a:1, security: {{protocol: SASL_SSL, username: u, password: {hidden}}}}}",
        f"kafka: {{bootstrap_servers: a:1, security: {{password: [{hidden}]}}}}",
        f"admin: {{token: '{hidden}\n",
        f"log: {{level: {hidden}}}",
        "admin: {port: '${VALUE}'}",
    ):
        found = problems(text, VALUE=hidden)
        assert all(hidden not in problem for problem in found), text


def test_settings_do_not_show_secrets() -> None:
    """A printed configuration can be pasted into a ticket."""
    text = f"""
ingest:
  callbacks:
    sms-dr: {{auth: {{token: aa11bb, tokens: [aa11bb]}}}}
    whatsapp: {{auth: {{signature: {{secret: aa11bb}}}}}}
kafka:
  bootstrap_servers: a:1
  security: {{protocol: SASL_SSL, sasl_mechanism: PLAIN, username: u, password: aa11bb}}
subscribers: {{{SUBSCRIBER}, secrets: [{SECRET}], headers: {{X-Key: aa11bb}}}}
admin: {{token: aa11bb}}
"""
    settings = loads(text, {})
    assert settings.admin.token.get_secret_value() == "aa11bb"
    assert "aa11bb" not in repr(settings)
    assert SECRET not in repr(settings)
    assert "aa11bb" not in settings.model_dump_json()


def test_topic_of_another_sender_can_be_subscribed_to() -> None:
    """What a configured callback produces is a topic like the built-in ones."""
    text = "ingest: {callbacks: {shop: {decoder: json, topic: shop.order, key: $.id}}}\n"
    settings = loads(text + "subscribers: {name: s, topics: shop.order, url: 'https://x/'}", {})
    assert settings.subscribers[0].topics == ["shop.order"]


def test_topics_in_kafka_may_be_filled_by_others() -> None:
    """There a topic that no callback has is a warning."""
    text = "kafka: {bootstrap_servers: 'a:1'}\nsubscribers: {name: s, topics: sms.rd, url: 'https://x/'}"
    found = warnings(loads(text, {}))
    assert any("subscribers[0].topics: no callback has the topic 'sms.rd'; did you mean 'sms.dr'?" in w for w in found)


def test_doubtful_settings_are_warned_of() -> None:
    """What works but should be looked at: open callbacks, unsigned webhooks, plain http, idle topics."""
    text = """
ingest: {callbacks: {sms-dr: {enabled: false}, did-sms: {enabled: false}}}
subscribers:
  - {name: a, topics: sms.dr, url: "http://example.com/"}
  - {name: b, topics: call.event, url: "http://127.0.0.1/"}
"""
    found = warnings(loads(text, {}))
    assert any(warning.startswith("ingest.callbacks: anyone who can reach /callbacks/") for warning in found)
    assert "subscribers[0].topics: the callbacks of sms.dr are switched off" in found
    assert "subscribers[0].url: plain http, so anyone on the path can read the events" in found
    assert "subscribers[1].secrets: none, so b cannot distinguish the webhooks from forged ones" in found
    assert not any(warning.startswith("subscribers[1].url") for warning in found)
    assert any(warning.startswith("subscribers: there are none") for warning in warnings(Settings()))
