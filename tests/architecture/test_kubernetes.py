"""Do the manifests agree with Kubernetes, with the settings and with the roles in the code?"""

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema_rs
import kubernetes_validate
import pytest
import yaml
from kubernetes_validate import utils

from consumers.__main__ import CLOSING_SECONDS, DECLARE_TOPOLOGY, ROLES
from contracts import topology
from contracts.settings import Settings, UnusableSettings
from ingress.app import BLUEPRINTS
from tests.kustomized import Manifest, UnknownToUs, containers_of, kustomized

REPOSITORY = Path(__file__).resolve().parents[2]
FOLDER = REPOSITORY / "ops" / "kubernetes"
OVERLAYS = ("production", "small")
# The oldest that upstream still mends, as far as the schemas at hand go.
KUBERNETES = "1.31"

TEXT = {"type": "string"}
COUNT = {"type": "integer", "minimum": 1}


def strict(properties: Manifest, required: tuple[str, ...]) -> Manifest:
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


METADATA = strict({"name": TEXT, "namespace": TEXT, "labels": {"type": "object"}}, ("name",))


def resource(spec: Manifest) -> Manifest:
    return strict(
        {"apiVersion": TEXT, "kind": TEXT, "metadata": METADATA, "spec": spec}, ("apiVersion", "kind", "spec")
    )


def trigger(kind: str, properties: Manifest, required: tuple[str, ...]) -> Manifest:
    reference = strict({"name": TEXT}, ("name",))
    return strict(
        {"type": {"const": kind}, "metadata": strict(properties, required), "authenticationRef": reference},
        ("type", "metadata"),
    )


# Of custom resources, written from their documentation: only what ours use, and nothing else is let through.
CUSTOM: dict[str, Manifest] = {
    "keda.sh/v1alpha1 ScaledObject": resource(
        strict(
            {
                "scaleTargetRef": strict({"name": TEXT}, ("name",)),
                "pollingInterval": COUNT,
                "cooldownPeriod": COUNT,
                "minReplicaCount": COUNT,
                "maxReplicaCount": COUNT,
                "fallback": strict({"failureThreshold": COUNT, "replicas": COUNT}, ("failureThreshold", "replicas")),
                "advanced": strict(
                    {"horizontalPodAutoscalerConfig": strict({"behavior": {"type": "object"}}, ("behavior",))}, ()
                ),
                "triggers": {
                    "type": "array",
                    "minItems": 1,
                    "items": {
                        "oneOf": [
                            trigger(
                                "prometheus",
                                {"serverAddress": TEXT, "query": TEXT, "threshold": TEXT},
                                ("serverAddress", "query", "threshold"),
                            ),
                            trigger(
                                "rabbitmq",
                                {
                                    "protocol": {"enum": ["http", "amqp", "auto"]},
                                    "queueName": TEXT,
                                    "vhostName": TEXT,
                                    "mode": {"enum": ["QueueLength", "MessageRate"]},
                                    "value": TEXT,
                                },
                                ("queueName", "mode", "value"),
                            ),
                        ]
                    },
                },
            },
            ("scaleTargetRef", "triggers"),
        )
    ),
    "keda.sh/v1alpha1 TriggerAuthentication": resource(
        strict(
            {
                "secretTargetRef": {
                    "type": "array",
                    "items": strict({"parameter": TEXT, "name": TEXT, "key": TEXT}, ("parameter", "name", "key")),
                }
            },
            ("secretTargetRef",),
        )
    ),
    "monitoring.coreos.com/v1 PodMonitor": resource(
        strict(
            {
                "selector": strict({"matchLabels": {"type": "object"}}, ("matchLabels",)),
                "podMetricsEndpoints": {
                    "type": "array",
                    "items": strict(
                        {
                            "port": TEXT,
                            "path": TEXT,
                            "interval": TEXT,
                            "relabelings": {
                                "type": "array",
                                "items": strict(
                                    {
                                        "sourceLabels": {"type": "array", "items": TEXT},
                                        "targetLabel": {"const": "role"},
                                    },
                                    ("sourceLabels", "targetLabel"),
                                ),
                            },
                        },
                        ("port", "path", "relabelings"),  # without the role every alert of a missing one fires
                    ),
                },
            },
            ("selector", "podMetricsEndpoints"),
        )
    ),
}


# ---- what may be wrong

Look = Callable[[list[Manifest]], Iterator[str]]


def problems_of(manifests: list[Manifest]) -> list[str]:
    """Everything in which the manifests disagree with Kubernetes, the code, or each other."""
    return [
        problem
        for look in (
            against_schemas,
            against_roles,
            against_settings,
            against_probes,
            against_each_other,
            against_safety,
        )
        for problem in look(manifests)
    ]


def against_schemas(manifests: list[Manifest]) -> Iterator[str]:
    for manifest in manifests:
        named = f"{manifest['kind']} {manifest['metadata']['name']}"
        if custom := CUSTOM.get(f"{manifest['apiVersion']} {manifest['kind']}"):
            yield from (f"{named}: {error.message}" for error in jsonschema_rs.iter_errors(custom, manifest))
            continue
        try:
            kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
        except kubernetes_validate.ValidationError as error:
            yield f"{named}: {error.message}"
        except kubernetes_validate.SchemaNotFoundError as error:
            yield f"{named}: {error.message}"


def against_roles(manifests: list[Manifest]) -> Iterator[str]:
    started = {tuple(container["command"]) for manifest in manifests for container in containers_of(manifest)}
    wanted = {("python", "-m", "consumers", role) for role in (*ROLES, DECLARE_TOPOLOGY)}
    wanted |= {("python", "-m", "ingress"), ("python", "-m", "db.migrate")}
    yield from (f"nobody starts {' '.join(words)}" for words in sorted(wanted - started))
    yield from (f"there is no {' '.join(words)}" for words in sorted(started - wanted) if words[0] == "python")


def against_settings(manifests: list[Manifest]) -> Iterator[str]:
    try:
        settings = Settings.model_validate(read_environment(manifests))
    except (UnusableSettings, ValueError) as unusable:
        yield str(unusable)
        return
    drained = settings.drain_seconds + CLOSING_SECONDS
    for manifest in deployments(manifests):
        spec = manifest["spec"]["template"]["spec"]
        pauses = [
            int(word)
            for container in spec["containers"]
            for word in container.get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command", [])
            if word.isdecimal()
        ]
        if spec["terminationGracePeriodSeconds"] <= drained + sum(pauses):
            yield f"{manifest['metadata']['name']} is killed before it has drained"


def read_environment(manifests: list[Manifest]) -> dict[str, str]:
    """What every process is told, by field; raises UnusableSettings for a variable that is not a setting."""
    told: dict[str, str] = {}
    for manifest in manifests:
        if manifest["kind"] in ("ConfigMap", "Secret") and manifest["metadata"]["name"] in ("settings", "secrets"):
            told |= manifest["data"]
    # Judged as on a laptop: the secrets are placeholders, and production refuses those (a test below).
    return Settings.read({**told, "BOXOFFICE_ENVIRONMENT": "development"}).model_dump()


def against_probes(manifests: list[Manifest]) -> Iterator[str]:
    settings = Settings.model_validate(read_environment(manifests))
    listens = {"http": settings.http_port, "metrics": settings.metrics_port}
    for manifest in deployments(manifests):
        name = manifest["metadata"]["name"]
        for container in containers_of(manifest):
            ports = {port["name"]: port["containerPort"] for port in container["ports"]}
            for probe, path in (("startupProbe", "/live"), ("livenessProbe", "/live"), ("readinessProbe", "/ready")):
                asked = container.get(probe, {}).get("httpGet")
                if asked is None:
                    yield f"{name} has no {probe}"
                elif asked["port"] not in ports:
                    yield f"{name}: {probe} asks the port {asked['port']}, which it does not have"
                elif name != "nginx" and (asked["path"] != path or ports[asked["port"]] != listens[asked["port"]]):
                    yield f"{name}: {probe} asks {asked['path']} at {ports[asked['port']]}"


def against_each_other(manifests: list[Manifest]) -> Iterator[str]:
    names = {(manifest["kind"], manifest["metadata"]["name"]) for manifest in manifests}
    components = {
        manifest["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/component"]
        for manifest in deployments(manifests)
    }
    for manifest in manifests:
        named = f"{manifest['kind']} {manifest['metadata']['name']}"
        for kind, name in referred_to(manifest):
            if (kind, name) not in names:
                yield f"{named} refers to {kind} {name}, which is not there"
        wanted = selected(manifest)
        if wanted is not None and wanted not in components:
            yield f"{named} selects {wanted}, which nobody is"


def selected(manifest: Manifest) -> str | None:
    spec = manifest.get("spec", {})
    selector = spec.get("podSelector") or spec.get("selector") or {}
    labels: Manifest = selector.get("matchLabels", selector)
    component: str | None = labels.get("app.kubernetes.io/component")
    return component


def referred_to(manifest: Manifest) -> Iterator[tuple[str, str]]:
    spec = manifest.get("spec", {})
    if manifest["kind"] in ("HorizontalPodAutoscaler", "ScaledObject"):
        yield "Deployment", spec["scaleTargetRef"]["name"]
    for each in spec.get("triggers", []):
        if "authenticationRef" in each:
            yield "TriggerAuthentication", each["authenticationRef"]["name"]
    for each in spec.get("secretTargetRef", []):
        yield "Secret", each["name"]
    if manifest["kind"] not in ("Deployment", "Job"):
        return
    pod = spec["template"]["spec"]
    if "serviceAccountName" in pod:
        yield "ServiceAccount", pod["serviceAccountName"]
    for volume in pod.get("volumes", []):
        if "configMap" in volume:
            yield "ConfigMap", volume["configMap"]["name"]
    for container in pod["containers"]:
        for source in container.get("envFrom", []):
            if "configMapRef" in source:
                yield "ConfigMap", source["configMapRef"]["name"]
            else:
                yield "Secret", source["secretRef"]["name"]


def against_safety(manifests: list[Manifest]) -> Iterator[str]:
    """What the namespace's `restricted` would refuse, and what it does not ask."""
    for manifest in manifests:
        if manifest["kind"] not in ("Deployment", "Job"):
            continue
        name, pod = manifest["metadata"]["name"], manifest["spec"]["template"]["spec"]
        if not pod.get("securityContext", {}).get("runAsNonRoot"):
            yield f"{name} may run as root"
        if pod.get("automountServiceAccountToken") is not False:
            yield f"{name} is given a token"
        for container in pod["containers"]:
            rights = container.get("securityContext", {})
            if not rights.get("readOnlyRootFilesystem") or rights.get("capabilities") != {"drop": ["ALL"]}:
                yield f"{name} may write to its image or has capabilities"
            if "memory" not in container.get("resources", {}).get("limits", {}):
                yield f"{name} has no bound of memory"
            if not re.search(r":\d+\.\d+", container["image"]):
                yield f"{name} runs an image without a version: {container['image']}"


def deployments(manifests: list[Manifest]) -> Iterator[Manifest]:
    return (manifest for manifest in manifests if manifest["kind"] == "Deployment")


def named(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    (found,) = (m for m in manifests if m["kind"] == kind and m["metadata"]["name"] == name)
    return found


# ---- tests


@pytest.fixture(scope="module", autouse=True)
def _schemas_are_read_once() -> Iterator[None]:
    # The package reads and parses a file for each manifest, which takes far longer than holding the manifest against it.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(utils, "schema_contents", cache(utils.schema_contents))
        yield


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_manifests_agree_with_everything(overlay: str) -> None:
    assert problems_of(kustomized(FOLDER / overlay)) == []


def command_of(manifests: list[Manifest], name: str) -> list[str]:
    words: list[str] = next(containers_of(named(manifests, "Deployment", name)))["command"]
    return words


COMPONENT = "app.kubernetes.io/component"


@pytest.mark.parametrize(
    ("look", "spoil", "words"),
    [
        (
            against_settings,
            lambda ms: named(ms, "ConfigMap", "settings")["data"].update(BOXOFFICE_METRIC_PORT="1"),
            "METRIC_PORT is not a setting",
        ),
        (
            against_settings,
            lambda ms: named(ms, "ConfigMap", "settings")["data"].update(BOXOFFICE_DRAIN_SECONDS="60"),
            "before it has drained",
        ),
        (
            against_roles,
            lambda ms: ms.remove(named(ms, "Deployment", "webhooks")),
            "nobody starts python -m consumers webhooks",
        ),
        (
            against_roles,
            lambda ms: command_of(ms, "relay").append("twice"),
            "there is no python -m consumers relay twice",
        ),
        (
            against_probes,
            lambda ms: named(ms, "ConfigMap", "settings")["data"].update(BOXOFFICE_METRICS_PORT="9000"),
            "asks /live at 8411",
        ),
        (
            against_probes,
            lambda ms: next(containers_of(named(ms, "Deployment", "ingress"))).pop("readinessProbe"),
            "has no readinessProbe",
        ),
        (against_schemas, lambda ms: named(ms, "Deployment", "commands")["spec"].update(replica=3), "replica"),
        (against_each_other, lambda ms: ms.remove(named(ms, "Secret", "secrets")), "refers to Secret secrets"),
        (
            against_each_other,
            lambda ms: named(ms, "Service", "ingress")["spec"]["selector"].update({COMPONENT: "ingres"}),
            "which nobody is",
        ),
        (
            against_safety,
            lambda ms: next(containers_of(named(ms, "Job", "migrations")))["securityContext"].pop(
                "readOnlyRootFilesystem"
            ),
            "may write to its image",
        ),
    ],
    ids=["variable", "drain", "role", "command", "port", "probe", "field", "secret", "selector", "safety"],
)
def test_what_is_wrong_is_seen(look: Look, spoil: Callable[[list[Manifest]], Any], words: str) -> None:
    manifests = kustomized(FOLDER / "small")
    spoil(manifests)
    assert any(words in problem for problem in look(manifests)), words


def test_an_unknown_trigger_of_the_autoscaler_is_seen() -> None:
    manifests = kustomized(FOLDER / "production")
    named(manifests, "ScaledObject", "payments")["spec"]["triggers"][0]["metadata"]["queueLength"] = "5"
    assert any(problem.startswith("ScaledObject payments") for problem in against_schemas(manifests))


def test_production_does_not_start_with_the_placeholders() -> None:
    manifests = kustomized(FOLDER / "production")
    told = {**named(manifests, "ConfigMap", "settings")["data"], **named(manifests, "Secret", "secrets")["data"]}
    with pytest.raises(UnusableSettings) as unusable:
        Settings.read(told)
    refused = {line.split()[0] for line in str(unusable.value).splitlines()}
    assert refused == set(named(manifests, "Secret", "secrets")["data"]), "every secret, and nothing else"


def test_what_scales_by_depth_names_queues_of_ours() -> None:
    queues = {queue.name for queue in topology.QUEUES}
    for manifest in kustomized(FOLDER / "production"):
        for each in manifest.get("spec", {}).get("triggers", []):
            if each["type"] == "rabbitmq":
                assert each["metadata"]["queueName"] in queues
                assert each["metadata"]["vhostName"] == topology.VHOST


def test_the_gauge_that_the_engine_scales_by_is_exported() -> None:
    query = named(kustomized(FOLDER / "production"), "ScaledObject", "commands")["spec"]["triggers"][0]["metadata"][
        "query"
    ]
    (gauge,) = re.findall(r"boxoffice_\w+", query)
    sources = [file.read_text() for file in (REPOSITORY / "consumers").rglob("*.py")]
    assert any(f'"{gauge}"' in source for source in sources), gauge


def test_an_autoscaler_and_a_fixed_number_do_not_fight() -> None:
    manifests = kustomized(FOLDER / "production")
    scaled = {m["spec"]["scaleTargetRef"]["name"] for m in manifests if "scaleTargetRef" in m.get("spec", {})}
    assert scaled == {m["metadata"]["name"] for m in deployments(manifests) if "replicas" not in m["spec"]}


def test_the_paths_that_are_asked_exist_in_the_code() -> None:
    paths = {route.uri for blueprint in BLUEPRINTS for route in blueprint._future_routes}
    assert {"/live", "/ready", "/metrics"} <= paths
    assert "/nginx-health" in (REPOSITORY / "ops" / "nginx" / "nginx.conf").read_text()


def test_a_file_that_is_not_there_and_a_patch_that_applies_to_nothing_are_seen(tmp_path: Path) -> None:
    (tmp_path / "kustomization.yaml").write_text("resources: [missing.yaml]\n")
    with pytest.raises(FileNotFoundError):
        kustomized(tmp_path)
    (tmp_path / "kustomization.yaml").write_text("patches: [{target: {kind: Deployment}, patch: '[]'}]\n")
    with pytest.raises(UnknownToUs, match="applies to nothing"):
        kustomized(tmp_path)


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="needs kubectl, which is not installed everywhere")
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_kustomize_makes_of_it_what_we_do(overlay: str) -> None:
    done = subprocess.run(["kubectl", "kustomize", str(FOLDER / overlay)], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    theirs = {
        _key(m): m.get("spec") for m in yaml.safe_load_all(re.sub(r"-[a-z0-9]{10}$", "", done.stdout, flags=re.M))
    }
    ours = {_key(m): m.get("spec") for m in kustomized(FOLDER / overlay)}
    assert theirs == ours


def _key(manifest: Manifest) -> tuple[str, str]:
    return manifest["kind"], manifest["metadata"]["name"]
