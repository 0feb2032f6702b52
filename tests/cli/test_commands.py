"""Every command from its outside: what it prints, where, and its exit code."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from gateway import __version__
from gateway.cli import COMMANDS, main
from gateway.cli.options import url_of
from gateway.errors import Broken, ConfigError, JournalDamaged, JournalInUse
from gateway.log import Entry
from gateway.log.journal import batch_format
from gateway.log.journal.files import FILE_NAME
from gateway.log.journal.storage import Store
from gateway.traffic.client import Target
from tests.ports import free_port
from tests.rows import rows


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GATEWAY_CONFIG", raising=False)


def gateway(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def journal_with(folder: Path, *events: tuple[str, str]) -> None:
    """A journal with (topic, type) events."""
    folder.mkdir(exist_ok=True)
    store = Store(folder, is_writer=True)
    for number, (topic, kind) in enumerate(events):
        draft = batch_format.Draft()
        value = json.dumps({"type": kind, "subject": f"s{number}", "data": {"to": "+155", "raw": {"secret": "x"}}})
        draft.add((one := Entry(topic, "k", f"{number:032x}", value.encode())).topic, batch_format.encode(one))
        store.commit({topic if topic.startswith("dlq.") else "events": draft}, {}, 1_770_000_000.0 + number)
    store.close()


def test_without_arguments_it_helps() -> None:
    """Commands, exit codes, a first look and completion."""
    result = gateway()
    assert result.exit_code == 0
    assert all(re.search(rf"^  {name} ", result.stdout, re.MULTILINE) for name in COMMANDS)
    assert "Exit codes" in result.stdout
    assert 'eval "$(gateway completion bash)"' in result.stdout


def test_documented_exit_codes_are_the_errors_own() -> None:
    """The list in the help is the one that the errors carry."""
    text = gateway("--help").stdout
    found = {int(code) for code in re.findall(r"^ +(\d+)  ", text.partition("Exit codes")[2], re.MULTILINE)}
    assert {0, 130} | {error.exit_code for error in (Broken, ConfigError, JournalInUse, JournalDamaged)} == found


def test_version() -> None:
    """The package's own."""
    assert gateway("--version").stdout == f"gateway {__version__}\n"


def leaves() -> list[str]:
    """Every command that does something, as it is typed."""

    def below(command: click.Command, path: str) -> Iterator[str]:
        if not isinstance(command, click.Group):
            yield path
            return
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from below(inner, f"{path} {name}".strip())

    return list(below(main, ""))


@rows("name", leaves())
def test_every_command_has_help_with_examples(name: str) -> None:
    """What it does, how it is called, and its configuration."""
    result = gateway(*name.split(), "--help")
    assert result.exit_code == 0
    assert f"gateway {name}" in result.stdout.partition("Example")[2]
    assert "-c, --config" in result.stdout or name == "completion"


def test_misspelt_command_is_told_with_the_near_one() -> None:
    """Usage errors exit with 2."""
    result = gateway("sned")
    assert result.exit_code == 2
    assert "Did you mean 'send'?" in result.stderr


@pytest.mark.parametrize("name", ["run", "check", "tail"])
def test_missing_configuration_is_one_sentence(name: str) -> None:
    """On standard error, without a stack trace."""
    result = gateway(name)
    assert result.exit_code == 2
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: config.yaml: there is no such file; ")
    assert "gateway init" in line


def test_init_writes_the_documented_default_once(tmp_path: Path) -> None:
    """Every command takes it; what is there already is left as it is."""
    assert gateway("init").exit_code == 0
    assert gateway("check", "--offline").exit_code == 0
    (tmp_path / "config.yaml").write_text("ingest:\n")
    result = gateway("init")
    assert result.exit_code == 1
    assert "config.yaml: is there already" in result.stderr
    assert (tmp_path / "config.yaml").read_text() == "ingest:\n"


def test_init_says_why_it_cannot_write() -> None:
    """A folder that is missing is not made."""
    result = gateway("init", "-c", "nowhere/config.yaml")
    assert result.exit_code == 1
    assert "nowhere/config.yaml: cannot be written: No such file or directory" in result.stderr


def test_commands_without_a_file_read_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody named a file and there is none, the defaults hold, and GATEWAY__… over them."""
    monkeypatch.setenv("GATEWAY__ADMIN__PORT", "1")
    result = gateway("subscribers", "list")
    assert result.exit_code == 1
    assert "http://127.0.0.1:1" in result.stderr


def test_every_problem_of_a_configuration_has_a_line(tmp_path: Path) -> None:
    """As many errors as there are mistakes."""
    (tmp_path / "config.yaml").write_text("ingest: {port: x}\nlog: {level: y}\nzzz: 1\n")
    result = gateway("run")
    assert result.exit_code == 2
    assert 3 == len(result.stderr.splitlines())
    assert all(line.startswith("Error: ") for line in result.stderr.splitlines())


def test_check_of_a_sound_configuration(tmp_path: Path) -> None:
    """Warnings do not make it fail."""
    (tmp_path / "config.yaml").write_text("ingest:\n")
    result = gateway("check")
    assert result.exit_code == 0
    assert "config.yaml: no mistakes" in result.stdout
    assert re.search(r"^warning +ingest.callbacks: anyone who can reach", result.stdout, re.MULTILINE)
    assert re.search(r"^ok +journal.dir: data can be made", result.stdout, re.MULTILINE)
    assert not (tmp_path / "data").exists()


def test_check_reaches_everything_and_tells_all_at_once(tmp_path: Path) -> None:
    """A refused address, a closed port, a broker that is away: exit code 1, each with its key path."""
    (tmp_path / "config.yaml").write_text(
        f"""
kafka: {{bootstrap_servers: "127.0.0.1:{free_port()}"}}
subscribers:
  - {{name: a, topics: [sms.dr], url: "http://127.0.0.1:{free_port()}/"}}
  - {{name: b, topics: [sms.dr], url: "http://127.0.0.1:{free_port()}/", allow_private: true}}
  - {{name: c, topics: [sms.dr], url: "http://169.254.169.254/", allow: [10.0.0.0/8]}}
  - {{name: d, topics: [sms.dr], url: "http://nobody.invalid/"}}
journal: {{dir: config.yaml}}
"""
    )
    result = gateway("check", "--json")
    assert result.exit_code == 1
    found = {one["path"]: one["text"] for one in json.loads(result.stdout)["findings"] if one["level"] == "problem"}
    assert "cannot be reached: connection refused" in found["kafka.bootstrap_servers[0]"]
    assert "127.0.0.1 is 127.0.0.1, a loopback address, and refused" in found["subscribers[0].url"]
    assert "cannot be reached: connection refused" in found["subscribers[1].url"]
    assert "a metadata address, and refused" in found["subscribers[2].url"]
    assert "cannot be resolved" in found["subscribers[3].url"]
    assert "config.yaml is not a folder" in found["journal.dir"]


def test_check_offline_reaches_nothing(tmp_path: Path) -> None:
    """For CI: the file alone."""
    (tmp_path / "config.yaml").write_text(f"kafka: {{bootstrap_servers: '127.0.0.1:{free_port()}'}}")
    assert gateway("check", "--offline").exit_code == 0


def test_check_tells_problems_as_json(tmp_path: Path) -> None:
    """For programs, on standard output, with exit code 2."""
    (tmp_path / "config.yaml").write_text("zzz: 1\n")
    result = gateway("check", "--json")
    assert result.exit_code == 2
    document = json.loads(result.stdout)
    assert document["is_ok"] is False
    assert document["problems"][0].startswith("zzz: unknown key")


def test_tail_prints_what_is_there(tmp_path: Path) -> None:
    """By topic and by type, without the vendor's own fields; --json gives the bytes."""
    (tmp_path / "config.yaml").write_text("")
    journal_with(tmp_path / "data", ("sms.dr", "nxcloud.sms.dr"), ("call.event", "nxcloud.voice.dr"), ("dlq.a", "x"))
    text = gateway("tail", "--once", "--pretty").stdout
    assert re.search(r"^.* nxcloud.sms.dr  s0  → \+155 ", text, re.MULTILINE)
    assert re.search(r"^.* nxcloud.voice.dr  s1  → \+155 ", text, re.MULTILINE)
    assert len(text.splitlines()) == 2
    assert gateway("tail", "--once").stdout == gateway("tail", "--once", "--json").stdout
    assert "secret" not in text
    assert ["nxcloud.voice.dr"] == [
        json.loads(line)["type"]
        for line in gateway("tail", "--once", "--topic", "call.event", "--json").stdout.splitlines()
    ]
    assert 1 == len(gateway("tail", "--once", "--type", "nxcloud.sms.dr", "--json").stdout.splitlines())
    assert '"x"' in gateway("tail", "--once", "--topic", "dlq.a", "--json").stdout
    since = gateway("tail", "--once", "--json", "--since", "2026-02-02T02:40:01Z").stdout
    assert 1 == len(since.splitlines())


def test_tail_tells_of_damage_and_goes_on(tmp_path: Path) -> None:
    """On standard error; the other events come."""
    (tmp_path / "config.yaml").write_text("")
    journal_with(tmp_path / "data", *[("sms.dr", f"type{number}") for number in range(3)])
    path = tmp_path / "data" / FILE_NAME
    path.write_bytes(path.read_bytes().replace(b'"type1"', b'"typeX"'))
    result = gateway("tail", "--once", "--json")
    assert ["type0", "type2"] == [json.loads(line)["type"] for line in result.stdout.splitlines()]
    assert "events offsets 1 to 1 are damaged" in result.stderr


def test_tail_without_a_journal_says_so(tmp_path: Path) -> None:
    """A wrong folder is not an empty log."""
    (tmp_path / "config.yaml").write_text("")
    result = gateway("tail")
    assert result.exit_code == 1
    assert "there is no journal yet" in result.stderr


@pytest.mark.parametrize("value", ["yesterday", "15 parsecs", "", "0001-01-01"])
def test_time_that_is_none_is_a_usage_error(tmp_path: Path, value: str) -> None:
    """With what a time looks like."""
    result = gateway("tail", "--since", value)
    assert result.exit_code == 2
    assert "is not a time such as 15m" in result.stderr


def test_journal_check_and_salvage(tmp_path: Path) -> None:
    """Sound: 0. Damaged: 4 with the offsets, and a copy that is sound."""
    journal_with(tmp_path / "data", *[("sms.dr", f"type{number}") for number in range(3)])
    (tmp_path / "config.yaml").write_text("")
    assert gateway("journal", "check").exit_code == 0
    path = tmp_path / "data" / FILE_NAME
    path.write_bytes(path.read_bytes().replace(b'"type1"', b'"typeX"'))
    result = gateway("journal", "check")
    assert result.exit_code == 4
    assert "Damaged: events offsets 1 to 1: the checksum is wrong" in result.stdout
    document = json.loads(gateway("journal", "check", "--json").stdout)
    assert [{"first": 1, "last": 1, "reason": "the checksum is wrong"}] == document["streams"][0]["damages"]
    result = gateway("journal", "salvage", "--to", "new")
    assert result.exit_code == 0
    assert "2 records are in new" in result.stderr
    assert gateway("journal", "salvage", "--to", "new").exit_code == 1
    left = gateway("tail", "--once", "--json").stdout.splitlines()
    assert 2 == len(left)


def test_journal_salvage_to_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    """Exit code 1 and one sentence, no stack trace."""
    journal_with(tmp_path / "data", ("sms.dr", "x"))
    (tmp_path / "config.yaml").write_text("")
    result = gateway("journal", "salvage", "--to", "config.yaml/new")
    assert result.exit_code == 1
    assert "config.yaml/new: cannot be written" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_send_without_a_gateway_fails_with_the_reason() -> None:
    """Exit code 1, counted, no stack trace."""
    result = gateway("send", "sms-dr", "-n", "3", "--url", f"http://127.0.0.1:{free_port()}", "--json")
    assert result.exit_code == 1
    summary = json.loads(result.stdout)
    assert summary["answers"] == {"no answer": 3}
    assert "is the gateway running?" in next(iter(summary["refused"]))


@rows(
    ("arguments", "said"),
    [
        (("send", "sms-rd"), "'sms-rd' is not one of"),
        (("send", "sms-dr", "--url", "ftp://x"), "--url: an address such as http://127.0.0.1:8080 is needed"),
        (("send", "sms-dr", "--url", "http://x/callbacks"), "--url: give the address without a path"),
        (("send", "sms-dr", "--account", "nobody"), "sms-dr has no such path in the configuration"),
        (("send", "sms-dr", "--rate", "0"), "0.0 is not in the range x>0"),
        (("send", "sms-dr", "--rate", "nan"), "'nan' is not a number that can be reached"),
        (("send", "sms-dr", "--repeat-rate", "nan"), "'nan' is not a number"),
        (("send", "sms-dr", "--url", "http://[::1"), "--url: "),
        (("replay", "--subscriber", "s", "--since", "1h", "--rate", "nan"), "'nan' is not a number"),
        (("replay", "--subscriber", "s", "--since", "1h", "--rate", "inf"), "'inf' is not a number"),
        (("tail", "--since", "1969-12-31T23:59:59Z"), "is before 1970"),
        (("tail", "--since", "9" * 400 + "d"), "is before 1970"),
        (("explain", "x", "--admin", "notaurl"), "'notaurl' is not an address such as http://127.0.0.1:8081"),
        (("explain", "x", "--admin", "http://[::1"), "'http://[::1' is not an address"),
        (("explain", "x", "--admin", "http://x:99999"), "is not an address"),
        (("explain", "x", "--admin", "http://ü"), "is not an address"),
        (("dlq", "list", "--admin", "ftp://x"), "is not an address"),
        (("schema", "--asyncapi", "--openapi"), "one document at a time"),
        (("schema", "--config", "--type", "nxcloud.sms.dr"), "one document at a time"),
        (("listen", "--fail-rate", "nan"), "'nan' is not a number"),
        (("listen", "--secret", "hunter2"), "--secret: a secret is whsec_ followed by base64"),
        (("tail", "--filter", "data.status"), "'data.status' is no condition such as data.status=delivered"),
        (("tail", "--filter", '{"like": 1}'), "like"),
        (("top", "--json"), "--json goes with --once"),
        (("top",), "elsewhere use --once"),
        (("completion", "tcsh"), "'tcsh' is not one of 'bash', 'zsh', 'fish'"),
        (("listen", "--delay", "-1"), "'-1' is not a duration such as 2, 250ms or 5m"),
    ],
)
def test_bad_options_are_told(arguments: tuple[str, ...], said: str) -> None:
    """One sentence, exit code 2, and never the secret."""
    result = gateway(*arguments)
    assert result.exit_code == 2
    assert said in result.stderr
    assert "hunter2" not in result.stderr


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("0.0.0.0", "http://127.0.0.1:80"),
        ("::", "http://127.0.0.1:80"),
        ("::1", "http://[::1]:80"),
        ("a", "http://a:80"),
    ],
)
def test_a_server_of_the_configuration_is_asked_where_it_listens(host: str, url: str) -> None:
    """An address without a name is the loopback's; one of IPv6 stands in brackets, for callbacks and the admin port."""
    assert url == url_of(host, 80)
    assert url == str(Target.parse(url))
