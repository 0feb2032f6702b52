"""The chart, as rendered: confined, probed, drained before it goes, and configured with keys that exist."""

from __future__ import annotations

import json
import re
from base64 import b64decode
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from deploy import render
from gateway.cli import COMMANDS
from gateway.config.loading import loads
from gateway.config.settings import Settings
from gateway.fanout.reader import group_name
from gateway.supervisor import SupervisorPolicy
from tests.deploy.artefacts import DEPLOY, ROOT, STOP_S, documents, run, walk
from tests.rows import rows

CHART = DEPLOY / "helm/nxcloud-gateway"
EVERYTHING, PLAIN, EMBEDDED = "everything", "plain", "embedded"
WORKLOADS = ("StatefulSet", "Job")
EACH = pytest.mark.parametrize("name", [PLAIN, EVERYTHING, EMBEDDED])
OVER_KAFKA = pytest.mark.parametrize("name", [PLAIN, EVERYTHING])


@cache
def rendered(name: str) -> list[dict[str, Any]]:
    return documents((ROOT / f"tests/deploy/rendered/{name}.yaml").read_text())


def of_kind(name: str, *kinds: str) -> list[dict[str, Any]]:
    return [document for document in rendered(name) if document["kind"] in kinds]


def pods(name: str) -> list[dict[str, Any]]:
    return [document["spec"]["template"] for document in of_kind(name, *WORKLOADS)]


def component(document: dict[str, Any]) -> str:
    return str(document["metadata"]["labels"].get("app.kubernetes.io/component", ""))


def one(name: str, kind: str, part: str = "") -> dict[str, Any]:
    found = [document for document in of_kind(name, kind) if component(document) == part]
    assert 1 == len(found), (kind, part)
    return found[0]


def environment(name: str, container: dict[str, Any]) -> dict[str, str]:
    """Variables of a container, those of the Secret among them."""
    secret = {key: b64decode(value).decode() for key, value in of_kind(name, "Secret")[0]["data"].items()}
    values = {
        variable["name"]: variable.get("value") or secret[variable["valueFrom"]["secretKeyRef"]["key"]]
        for variable in container["env"]
    }
    return secret | values


def settings_of(name: str, container: dict[str, Any]) -> Settings:
    """The gateway's own reading of what the chart gives it."""
    config = next(one["data"] for one in of_kind(name, "ConfigMap") if "config.yaml" in one["data"])
    return loads(config["config.yaml"], environment(name, container))


@EACH
def test_configuration_is_valid_for_every_pod(name: str) -> None:
    """Every key and variable exists; the admin side is open to other hosts and has a token."""
    for pod in pods(name):
        settings = settings_of(name, pod["spec"]["containers"][0])
        assert "0.0.0.0" == settings.ingest.host == settings.admin.host
        assert settings.admin.token.get_secret_value()
        assert (settings.kafka is None) == (name == EMBEDDED)


def test_without_kafka_one_pod_does_everything() -> None:
    """One replica of ``run`` with one volume, no budget that would hold up its node; the platform reaches it."""
    only = one(EMBEDDED, "StatefulSet", "run")
    assert [only] == of_kind(EMBEDDED, "StatefulSet", "Deployment", "Job")
    assert 1 == only["spec"]["replicas"]
    assert ["run"] == only["spec"]["template"]["spec"]["containers"][0]["args"]
    assert ["journal"] == [claim["metadata"]["name"] for claim in only["spec"]["volumeClaimTemplates"]]
    assert "Retain" == only["spec"]["persistentVolumeClaimRetentionPolicy"]["whenDeleted"]
    assert [] == of_kind(EMBEDDED, "PodDisruptionBudget", "HorizontalPodAutoscaler", "ScaledObject")
    service = one(EMBEDDED, "Service", "run")
    assert "run" == service["spec"]["selector"]["app.kubernetes.io/component"]
    named = [each["metadata"]["name"] for each in of_kind(EMBEDDED, "Service")]
    assert only["spec"]["serviceName"] in named
    (policy,) = of_kind(EMBEDDED, "NetworkPolicy")
    assert [53, 53, 443] == [port["port"] for rule in policy["spec"]["egress"] for port in rule["ports"]]


@EACH
def test_pods_are_confined(name: str) -> None:
    """Not root, read-only, no privileges to gain, the runtime's seccomp profile, no token of the cluster."""
    for pod in pods(name):
        spec = pod["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert f"USER {spec['securityContext']['runAsUser']}:" in (DEPLOY / "Dockerfile").read_text()
        assert {"type": "RuntimeDefault"} == spec["securityContext"]["seccompProfile"]
        assert spec["automountServiceAccountToken"] is False
        for container in spec["containers"]:
            context = container["securityContext"]
            assert (False, False, True) == (
                context["allowPrivilegeEscalation"],
                context["privileged"],
                context["readOnlyRootFilesystem"],
            )
            assert ["ALL"] == context["capabilities"]["drop"]
            assert container["resources"]["limits"]["memory"]


@EACH
def test_what_is_written_has_a_place(name: str) -> None:
    """With a read-only root the journal's folder and /tmp are mounts."""
    for pod in pods(name):
        container = pod["spec"]["containers"][0]
        mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
        writable = {path for path, mount in mounts.items() if not mount.get("readOnly")}
        assert {"/tmp", settings_of(name, container).journal.dir} <= writable


@EACH
def test_a_changed_file_reaches_the_running_gateway(name: str) -> None:
    """A mount by subPath would never change; the folder is mounted whole, and GATEWAY_CONFIG points into it."""
    for pod in pods(name):
        container = pod["spec"]["containers"][0]
        assert [] == [mount for mount in container["volumeMounts"] if "subPath" in mount]
        config = Path(environment(name, container)["GATEWAY_CONFIG"])
        assert str(config.parent) in [mount["mountPath"] for mount in container["volumeMounts"]]


@EACH
def test_commands_exist(name: str) -> None:
    """Each container runs a command that the gateway has."""
    for pod in pods(name):
        container = pod["spec"]["containers"][0]
        asked = container.get("args") or container["command"][container["command"].index("gateway") + 1 :]
        assert asked[0] in COMMANDS


@EACH
def test_probes_ask_what_needs_no_token(name: str) -> None:
    """Alive and ready are different questions; both go to the admin port."""
    for document in of_kind(name, "StatefulSet"):
        container = document["spec"]["template"]["spec"]["containers"][0]
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        assert settings_of(name, container).admin.port == ports["admin"]
        asked = {probe: container[probe]["httpGet"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")}
        assert {"admin"} == {get["port"] for get in asked.values()}
        assert ["/healthz", "/healthz", "/readyz"] == [get["path"] for get in asked.values()]


@EACH
def test_a_process_that_is_being_started_again_costs_no_pod(name: str) -> None:
    """The probes are answered by ``deliver``: while it is away the platform is answered all the same."""
    longest_s = SupervisorPolicy().last_pause_s
    for document in of_kind(name, "StatefulSet"):
        container = document["spec"]["template"]["spec"]["containers"][0]
        for probe in (container["livenessProbe"], container["readinessProbe"]):
            assert probe["periodSeconds"] * (probe["failureThreshold"] - 1) > 2 * longest_s


@EACH
def test_grace_is_longer_than_drain_and_stop_together(name: str) -> None:
    """Nobody is killed who would have ended by itself; who takes callbacks waits for the load balancers."""
    for document in of_kind(name, *WORKLOADS):
        spec = document["spec"]["template"]["spec"]
        hook = spec["containers"][0].get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command", [])
        words = " ".join(hook)
        before_s = sum(int(number) for number in re.findall(r"(?:--(?:settle|timeout)=|^sleep )(\d+)", words))
        assert spec["terminationGracePeriodSeconds"] > before_s + STOP_S
        assert (component(document) in ("serve", "run")) == (before_s > 0)


@OVER_KAFKA
def test_drain_script_is_where_the_image_has_it(name: str) -> None:
    """The hook and the Job call a file of the image."""
    path = re.findall(r"COPY deploy/drain.py (\S+)", (DEPLOY / "Dockerfile").read_text())[0]
    calls = [value for pod in pods(name) for value in walk(pod) if str(value).endswith("drain.py")]
    assert {path} == set(calls)


@OVER_KAFKA
def test_volume_of_a_replica_that_is_scaled_away_stays(name: str) -> None:
    """What the drain did not get to Kafka is not thrown away."""
    assert "Retain" == one(name, "StatefulSet", "serve")["spec"]["persistentVolumeClaimRetentionPolicy"]["whenScaled"]


def test_job_for_an_orphan_takes_that_replicas_volume() -> None:
    """Claims of a StatefulSet are called <template>-<set>-<number>."""
    serve = one(EVERYTHING, "StatefulSet", "serve")
    job = one(EVERYTHING, "Job", "drain")
    claims = [
        volume["persistentVolumeClaim"]["claimName"]
        for volume in job["spec"]["template"]["spec"]["volumes"]
        if "persistentVolumeClaim" in volume
    ]
    template = serve["spec"]["volumeClaimTemplates"][0]["metadata"]["name"]
    assert [f"{template}-{serve['metadata']['name']}-2"] == claims
    assert serve["spec"]["replicas"] <= 2


@OVER_KAFKA
def test_selectors_find_their_pods(name: str) -> None:
    """Services, budgets and policies speak of pods that exist, and the platform reaches serve only."""
    labels = [pod["metadata"]["labels"] for pod in pods(name)]
    for document in of_kind(name, "Service", "PodDisruptionBudget"):
        wanted = document["spec"]["selector"]
        wanted = wanted.get("matchLabels", wanted)
        assert [found for found in labels if wanted.items() <= found.items()], document["metadata"]["name"]
    assert "serve" == one(name, "Service", "serve")["spec"]["selector"]["app.kubernetes.io/component"]
    assert {"serve", "fanout"} == {component(budget) for budget in of_kind(name, "PodDisruptionBudget")}


@OVER_KAFKA
def test_network_is_closed_but_for_what_is_needed(name: str) -> None:
    """Both directions are ruled; subscribers are looked for outside private networks."""
    policies = of_kind(name, "NetworkPolicy")
    assert 2 == len(policies)
    for policy in policies:
        assert ["Ingress", "Egress"] == policy["spec"]["policyTypes"]
        admin = [rule for rule in policy["spec"]["ingress"] if {"port": 8081, "protocol": "TCP"} in rule["ports"]]
        assert all(rule.get("from") for rule in admin)
    blocks = [
        value["ipBlock"]
        for policy in policies
        for value in walk(policy)
        if isinstance(value, dict) and "ipBlock" in value
    ]
    assert all("169.254.0.0/16" in block["except"] for block in blocks if block["cidr"] == "0.0.0.0/0")


def test_scaling_by_lag_knows_the_consumer_groups() -> None:
    """One trigger for each subscriber that has a group; names with the prefix of topics."""
    scaled = one(EVERYTHING, "ScaledObject")
    assert ["prod." + group_name("billing")] == [
        trigger["metadata"]["consumerGroup"] for trigger in scaled["spec"]["triggers"]
    ]
    workload = one(EVERYTHING, "StatefulSet", "fanout")
    target = scaled["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("StatefulSet", workload["metadata"]["name"])
    assert "replicas" not in workload["spec"]
    settings = settings_of(EVERYTHING, workload["spec"]["template"]["spec"]["containers"][0])
    assert settings.kafka is not None
    assert scaled["spec"]["maxReplicaCount"] <= settings.kafka.partitions


def test_metrics_are_scraped_under_the_name_that_the_rules_ask_for() -> None:
    """job="nxcloud-gateway" comes from the label; the token from the Secret."""
    monitor = one(EVERYTHING, "ServiceMonitor")
    service = one(EVERYTHING, "Service", "admin")
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert "nxcloud-gateway" == service["metadata"]["labels"][monitor["spec"]["jobLabel"]]
    assert "ADMIN_TOKEN" == monitor["spec"]["endpoints"][0]["authorization"]["credentials"]["key"]


def test_alert_rules_arrive_whole() -> None:
    """Helm evaluates nothing of Prometheus' own templates."""
    rules = one(EVERYTHING, "PrometheusRule")["spec"]["groups"]
    assert yaml.safe_load(render.ALERTS.read_text())["groups"] == rules


@EACH
def test_pods_roll_when_configuration_or_secrets_change(name: str) -> None:
    """Both checksums are annotations of the pods."""
    for document in of_kind(name, "StatefulSet"):
        assert {"checksum/config", "checksum/secrets"} <= set(document["spec"]["template"]["metadata"]["annotations"])


def helm(*command: str, values: str = EVERYTHING) -> str:
    """Output of helm for the chart with one of our files of values; see :func:`run`."""
    given = ["-f", str(ROOT / f"tests/deploy/{values}.yaml"), "--kube-version", "1.34.0"]
    return run("helm", *command, *given, install="helm.sh", is_on_ci=False)


def template(*arguments: str, values: str = EVERYTHING) -> list[dict[str, Any]]:
    """What helm makes of the chart with these arguments."""
    return documents(helm("template", "gateway", str(CHART), *arguments, values=values))


def checksums(rendering: list[dict[str, Any]]) -> list[str]:
    return [
        str(document["spec"]["template"]["metadata"]["annotations"])
        for document in rendering
        if document["kind"] == "StatefulSet"
    ]


def test_a_change_of_subscribers_alone_rolls_no_pod() -> None:
    """The running gateway takes it up by itself; anything else rolls."""
    before = checksums(template())
    assert before == checksums(template("--set", "config.subscribers[0].concurrency=7"))
    assert before != checksums(template("--set", "config.ingest.max_waiting=7"))
    assert before != checksums(template("--set", "secrets.SMS_DR_TOKEN=other"))


@rows(
    "arguments",
    [
        ("--set", "config.kafka=null"),
        ("--set", "mode=embedded"),
        ("--set", "fanout.autoscaling.enabled=true"),
        ("--set", "serve.drainOrphans[0]=0"),
    ],
    ids=lambda arguments: arguments[1],
)
def test_what_cannot_work_is_refused_with_a_sentence(arguments: tuple[str, ...]) -> None:
    """Better at helm upgrade than at night."""
    with pytest.raises(AssertionError, match="execution error"):
        template(*arguments)


def test_commands_of_the_readme_render() -> None:
    """The chart's address is replaced by its folder, and its version is this one."""
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["version"]
    lines = re.findall(r"(?m)^helm install gateway (\S+) --version (\S+) (.*)$", (CHART / "README.md").read_text())
    kinds = []
    for address, given, options in lines:
        assert (address.rpartition("/")[2], given) == (CHART.name, version)
        command = ("template", "gateway", str(CHART), *options.split(), "--kube-version", "1.34.0")
        made = documents(run("helm", *command, install="helm.sh", is_on_ci=False))
        kinds.append([component(each) for each in made if each["kind"] == "StatefulSet"])
    assert [["run"], ["fanout", "serve"]] == kinds


def test_readme_of_the_chart_names_values_that_exist() -> None:
    """Its example is valid, as are the values and the image that it speaks of."""
    text = (CHART / "README.md").read_text()
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    (example,) = (yaml.safe_load(block) for block in re.findall(r"(?ms)^```yaml\n(.*?)^```", text))
    jsonschema.Draft202012Validator(json.loads(render.VALUES_SCHEMA.read_text())).validate(example)
    assert loads(yaml.safe_dump(example["config"]), example["secrets"]).subscribers[0].name == "billing"
    for path in re.findall(r"`((?:serve|fanout|run|image)\.\w+)`", text):
        section, _, name = path.partition(".")
        assert name in values[section], path
    assert f"`{values['image']['repository']}`" in text


def test_dashboard_arrives_whole() -> None:
    """As Grafana's sidecar finds it."""
    maps = [one for one in template("--set", "dashboard.enabled=true") if one["kind"] == "ConfigMap"]
    assert render.dashboard_text().rstrip() in [
        str(one["data"].get("nxcloud-gateway.json", "")).rstrip() for one in maps
    ]


@EACH
def test_helm_lint_finds_nothing(name: str) -> None:
    """The linter of charts agrees."""
    helm("lint", "--strict", str(CHART), values=name)


@EACH
def test_schemas_of_kubernetes_agree(name: str) -> None:
    """Every field exists and has the right type, for the versions that the chart is for."""
    validate = pytest.importorskip(
        "kubernetes_validate", reason="the schemas are not installed (pip install kubernetes-validate)"
    )
    for document in rendered(name):
        if re.match(r"(apps|batch|autoscaling|policy|networking\.k8s\.io)?/?v\d$", document["apiVersion"]):
            for version in ("1.27", "1.34"):
                validate.validate(document, version, strict=True)
