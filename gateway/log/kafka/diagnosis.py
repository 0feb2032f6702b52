"""``gateway check`` and Kafka: connects as the gateway would, requests what it would need, and changes nothing.

It connects to each bootstrap server, then to each broker under the address that the cluster advertises for it. Then it
requests from the brokers: topics, groups and cluster with the rights of the user (KIP-430), settings of topics and
brokers, and the controller's clock. If a request fails, the finding is "not known" with the reason; the check writes
and creates nothing and joins no group.

Only a group's coordinator returns its rights. A cluster in which no group has ever committed has no coordinators; there
the answer to a heartbeat of a member that does not exist shows the right: the broker refuses it for the right, or for
the member.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Final

from aiokafka import errors
from aiokafka.protocol.admin import DescribeConfigsRequest
from aiokafka.protocol.group import HeartbeatRequest

from gateway.finding import Finding, Gathered
from gateway.log.kafka import check_rules, connecting
from gateway.log.kafka.check_rules import ClusterAnswers, ClusterTopic, Needs
from gateway.log.kafka.connecting import Broker
from gateway.log.kafka.errors import TOO_OLD
from gateway.log.kafka.options import KafkaOptions
from gateway.log.kafka.outage import limit_logs
from gateway.log.kafka.requests import groups_and_rights, quorum, topics_and_rights

#: For one request to a connected broker.
_ASK_S: Final = 2.5
#: Clocks closer than this count as equal: beginnings and due times have a precision of seconds.
_CLOCK_S: Final = 1.0
_GROUP_REFUSED: Final = 30
_LEADERLESS: Final = 5
_SERVERS: Final = "kafka.bootstrap_servers"
#: Kafka 2.8 has DescribeCluster, and asks no IDEMPOTENT_WRITE of producers that may write.
_DESCRIBE_CLUSTER: Final = 60
_TOPIC, _BROKER = 2, 4
#: Bits of authorized operations (AclOperation of Kafka's protocol) by name.
OPERATIONS: Final = {
    "READ": 3,
    "WRITE": 4,
    "CREATE": 5,
    "DESCRIBE": 8,
    "DESCRIBE_CONFIGS": 10,
    "IDEMPOTENT_WRITE": 12,
}
#: The answer of a broker that does not know the operations.
_NOT_SAID: Final = -(2**31)


async def diagnose(options: KafkaOptions, needs: Needs, seconds: float) -> list[Finding]:
    """Return the findings.

    Args:
        options: brokers, names, format.
        needs: what the role uses.
        seconds: limit of the whole check.
    """
    limit_logs()
    found = Gathered()
    try:
        async with asyncio.timeout(seconds), AsyncExitStack() as stack:
            cluster = await _reach(options, found, stack)
            if cluster is None:
                found.unknown("kafka", "rights, settings and clock not checked: no broker can be asked")
                return found.findings()
            answers = await _ask(options, needs, cluster)
    except TimeoutError:
        found.unknown("kafka", f"not checked to the end: the brokers took more than {seconds:g} s in all")
        return found.findings()
    check_rules.judge_rights(options, needs, answers, found)
    check_rules.judge_settings(options, needs, answers, found)
    _clock(answers, found)
    return found.findings()


@dataclass(frozen=True, slots=True)
class _Cluster:
    """Connected brokers: the first one, and all by node id."""

    first: Broker
    nodes: Mapping[int, Any] = field(default_factory=dict)


async def _reach(options: KafkaOptions, found: Gathered, stack: AsyncExitStack) -> _Cluster | None:
    """Connect to every bootstrap server, then to every broker that is advertised under another address."""
    addresses = [_address(server) for server in options.bootstrap_servers]
    tried = await asyncio.gather(*(connecting.connect(options, host, port) for host, port in addresses))
    _in_clear(options, found)
    reached: dict[tuple[str, int], Broker] = {}
    for position, (address, outcome) in enumerate(zip(addresses, tried, strict=True)):
        path = f"{_SERVERS}[{position}]"
        if isinstance(outcome, Broker):
            stack.push_async_callback(connecting.close, outcome.connection)
            reached[address] = outcome
            found.ok(path, f"{outcome.where} answers{_login(options)}")
        else:
            found.problem(path, *outcome)
    if not reached:
        return None
    first = next(iter(reached.values()))
    if len({broker.metadata.cluster_id for broker in reached.values()}) > 1:
        found.problem(_SERVERS, "they belong to different clusters", "name brokers of one cluster only")
    nodes = {node: (host, port) for node, host, port, _ in first.metadata.brokers}
    connected = {node: reached[address].connection for node, address in nodes.items() if address in reached}
    # Brokers that were tried under their own address have been reported already.
    others = {node: address for node, address in nodes.items() if address not in addresses}
    return _Cluster(first, connected | await _advertised(options, others, found, stack))


def _in_clear(options: KafkaOptions, found: Gathered) -> None:
    protocol, mechanism = options.security.get("security_protocol"), options.security.get("sasl_mechanism")
    if protocol == "SASL_PLAINTEXT" and mechanism in ("PLAIN", "OAUTHBEARER"):
        text = f"with {mechanism}, anyone on the path to Kafka can read the password or token"
        found.warning("kafka.security.protocol", text, "use SASL_SSL where Kafka has such a listener")


async def _advertised(
    options: KafkaOptions, others: Mapping[int, tuple[str, int]], found: Gathered, stack: AsyncExitStack
) -> dict[int, Any]:
    """Connect to brokers under the addresses that the cluster advertises; return the connections by node id."""
    tried = await asyncio.gather(*(connecting.connect(options, host, port) for host, port in others.values()))
    connected: dict[int, Any] = {}
    for node, outcome in zip(others, tried, strict=True):
        host, port = others[node]
        if isinstance(outcome, Broker):
            stack.push_async_callback(connecting.close, outcome.connection)
            connected[node] = outcome.connection
            found.ok(_SERVERS, f"broker {node} answers as {host}:{port}, as it is advertised")
        else:
            found.problem(
                _SERVERS,
                f"broker {node} is advertised as {host}:{port}, and events go there: {outcome.text}",
                f"{outcome.advice}; or correct its advertised.listeners",
            )
    return connected


def _address(server: str) -> tuple[str, int]:
    host, _, port = server.rpartition(":")
    return host.strip("[]"), int(port)


def _login(options: KafkaOptions) -> str:
    security = options.security
    with_tls = " by TLS" if str(security.get("security_protocol", "")).endswith("SSL") else ""
    mechanism = security.get("sasl_mechanism")
    if mechanism is None:
        return with_tls
    user = security.get("sasl_plain_username")
    return f"{with_tls}, and the login {f'of {user} ' if user else ''}by {mechanism} is accepted"


async def _ask(options: KafkaOptions, needs: Needs, cluster: _Cluster) -> ClusterAnswers:
    first = cluster.first
    answers = ClusterAnswers(
        brokers=len(first.metadata.brokers),
        cluster_operations=operations_of(first.metadata.authorized_operations),
        needs_idempotent_write=_DESCRIBE_CLUSTER not in first.connection._versions,
    )
    names = [options.kafka_name(need.name) for need in needs.topics]
    groups = [options.kafka_name(name) for name in needs.groups]
    await asyncio.gather(
        _topics(first.connection, names, answers),
        _topic_settings(first.connection, names, answers),
        *(_broker_settings(node, connection, answers) for node, connection in cluster.nodes.items()),
        _groups(cluster, groups, answers),
        _time(first.connection, answers),
    )
    return answers


async def _answer(connection: Any, request: Any, about: str, answers: ClusterAnswers) -> Any:
    """Return the answer to a request; None if there is none, with the reason stored in ``answers``."""
    try:
        async with asyncio.timeout(_ASK_S):
            return await connection.send(request)
    except TimeoutError:
        answers.unasked[about] = f"no answer within {_ASK_S:g} s"
    except TOO_OLD:
        answers.unasked[about] = "the brokers are too old to be asked"
    except (errors.KafkaError, OSError, ValueError) as exc:
        answers.unasked[about] = f"the question failed: {exc}"
    return None


async def _topics(connection: Any, names: Collection[str], answers: ClusterAnswers) -> None:
    answer = await _answer(connection, topics_and_rights(names), "topics", answers)
    for code, name, _, partitions, operations in answer.topics if answer is not None else ():
        answers.topics[name] = ClusterTopic(
            0 if code == _LEADERLESS else code,
            tuple(len(replicas) for *_, replicas, _, _ in partitions),
            tuple(len(in_sync) for *_, in_sync, _ in partitions),
            sum(leader < 0 for _, _, leader, *_ in partitions),
            operations_of(operations),
        )


async def _topic_settings(connection: Any, names: Collection[str], answers: ClusterAnswers) -> None:
    resources = [(_TOPIC, name, list(check_rules.TOPIC_SETTINGS)) for name in names]
    answer = await _answer(connection, DescribeConfigsRequest(resources), "topic_settings", answers)
    for code, _, _, name, entries in answer.resources if answer is not None else ():
        if code == 0:
            answers.topic_settings[name] = _settings(entries)
        elif code != check_rules.MISSING:
            answers.unasked["topic_settings"] = (
                f"{_said(code)}; grant DESCRIBE_CONFIGS on the topics to have it checked"
            )


async def _broker_settings(node: int, connection: Any, answers: ClusterAnswers) -> None:
    request = DescribeConfigsRequest([(_BROKER, str(node), list(check_rules.BROKER_SETTINGS))])
    answer = await _answer(connection, request, "broker_settings", answers)
    for code, _, _, _, entries in answer.resources if answer is not None else ():
        if code == 0:
            answers.broker_settings[node] = _settings(entries)
        else:
            answers.unasked["broker_settings"] = (
                f"{_said(code)}; grant DESCRIBE_CONFIGS on the cluster to have it checked"
            )


def _settings(entries: Collection[Any]) -> dict[str, str]:
    return {name: value for name, value, *_ in entries if value is not None}


async def _groups(cluster: _Cluster, groups: Collection[str], answers: ClusterAnswers) -> None:
    """Request all groups from every broker: each answers for those that it coordinates."""
    if not groups:
        return
    asked = [_answer(connection, groups_and_rights(groups), "groups", answers) for connection in cluster.nodes.values()]
    for answer in await asyncio.gather(*asked):
        for code, name, *_, operations in answer.groups if answer is not None else ():
            if code == _GROUP_REFUSED:
                answers.groups[name] = frozenset()
            elif code == 0 and (said := operations_of(operations)) is not None:
                answers.groups[name] = said
    left = [name for name in groups if name not in answers.groups]
    await asyncio.gather(*(_group_by_heartbeat(cluster.first.connection, name, answers) for name in left))


async def _group_by_heartbeat(connection: Any, name: str, answers: ClusterAnswers) -> None:
    answer = await _answer(connection, HeartbeatRequest(name, -1, "nobody"), "groups", answers)
    if answer is not None:
        answers.groups[name] = frozenset() if answer.error_code == _GROUP_REFUSED else frozenset({"READ"})


async def _time(connection: Any, answers: ClusterAnswers) -> None:
    """Request the controller's clock; its answer is right, to the millisecond, at a time between request and answer."""
    sent = time.time()
    answer = await _answer(connection, quorum(), "clock", answers)
    came = time.time()
    if answer is None:
        return
    if answer.error_code:
        answers.unasked["clock"] = f"{_said(answer.error_code)}; grant DESCRIBE on the cluster to have it checked"
        return
    for _, partitions, _ in answer.topics:
        for _, _, leader, _, _, voters, _, _ in partitions:
            for node, _, _, caught_up_ms, _ in voters:
                if node == leader and caught_up_ms > 0:
                    answers.clock = caught_up_ms / 1000 - came, (caught_up_ms + 1) / 1000 - sent
    if answers.clock is None:
        answers.unasked["clock"] = "the controller does not report it"


def _clock(answers: ClusterAnswers, found: Gathered) -> None:
    if answers.clock is None:
        why = answers.unasked.get("clock", "no broker reports it")
        found.unknown(_SERVERS, f"whether its clock agrees with this machine's is not known: {why}")
        return
    least, most = answers.clock
    apart = max(least, -most, 0.0)
    if apart < _CLOCK_S:
        found.ok(_SERVERS, "the clock of Kafka's controller agrees with this machine's")
        return
    found.warning(
        _SERVERS,
        f"the clock of Kafka's controller is {apart:.1f} s {'ahead of' if least > 0 else 'behind'} this machine's",
        "set both by a time service: where new subscribers begin and when retries are due depends on clocks",
    )


def _said(code: int) -> str:
    name = errors.for_code(code).__name__.removesuffix("Error")
    return f"the broker says {name}"


def operations_of(bits: int) -> frozenset[str] | None:
    """Return the names of authorized operations; None if the broker does not return them."""
    if bits == _NOT_SAID:
        return None
    return frozenset(name for name, bit in OPERATIONS.items() if bits >> bit & 1)
