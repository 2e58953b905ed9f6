"""The files of deploy/ for several gateways on one PostgreSQL: Compose and Kubernetes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml

from gatehouse import __version__
from gatehouse.config.load import load

DEPLOY = Path(__file__).parents[2] / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
KUSTOMIZATION = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())
COMPOSE = yaml.safe_load((DEPLOY / "compose.postgres.yaml").read_text())
SERVICES = COMPOSE["services"]
CONFIG = load(KUBERNETES / "gateway.yaml").config
#: The oldest version that supports these resources, and the newest one with published schemas.
VERSIONS = ["1.30", "1.37"]
#: Not resources of Kubernetes itself, and not applied by `kubectl apply`.
OTHERS = ("ServiceMonitor", "PrometheusRule")


def _documents() -> Iterator[dict[str, Any]]:
    for file in KUSTOMIZATION["resources"]:
        yield from yaml.safe_load_all((KUBERNETES / file).read_text())


RESOURCES = {f"{document['kind']}/{document['metadata']['name']}": document for document in _documents()}
POD = RESOURCES["Deployment/gatehouse"]["spec"]["template"]["spec"]
(CONTAINER,) = POD["containers"]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", [name for name in RESOURCES if name.partition("/")[0] not in OTHERS])
def test_resource_matches_the_published_schema(name: str, version: str) -> None:
    kubernetes_validate.validate(RESOURCES[name], version, strict=True)


def test_the_schema_refuses_a_key_that_kubernetes_does_not_know() -> None:
    service = RESOURCES["Service/gatehouse"]
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(
            {**service, "spec": {**service["spec"], "prots": []}}, "1.30", strict=True
        )


@pytest.mark.parametrize("kind", OTHERS)
def test_resource_of_the_prometheus_operator_matches_its_definition(kind: str) -> None:
    """The model drops unknown members, so nothing may be missing afterwards."""
    from cloudcoil.models.prometheus_operator import v1  # noqa: PLC0415 - it takes seconds to import

    document = RESOURCES[f"{kind}/gatehouse"]

    parsed = getattr(v1, kind).model_validate(document)

    assert parsed.model_dump(by_alias=True, exclude_unset=True, mode="json") == document


def test_every_promised_kind_exists() -> None:
    kinds = {name.partition("/")[0] for name in RESOURCES}

    assert kinds == {
        *("Deployment", "Service", "HorizontalPodAutoscaler", "PodDisruptionBudget", "NetworkPolicy"),
        *("ServiceMonitor", "PrometheusRule", "Secret", "ServiceAccount"),
    }
    assert KUSTOMIZATION["configMapGenerator"] == [{"name": "gatehouse", "files": ["gateway.yaml"]}]


def test_no_file_is_left_out_of_the_kustomization() -> None:
    files = {file.name for file in KUBERNETES.iterdir()}

    assert files == {*KUSTOMIZATION["resources"], "kustomization.yaml", "gateway.yaml"}


def test_image_has_this_version() -> None:
    assert KUSTOMIZATION["images"] == [{"name": CONTAINER["image"], "newTag": __version__}]


def test_every_selector_finds_the_pods() -> None:
    labels = RESOURCES["Deployment/gatehouse"]["spec"]["template"]["metadata"]["labels"]
    selectors = [
        RESOURCES["Deployment/gatehouse"]["spec"]["selector"]["matchLabels"],
        RESOURCES["Service/gatehouse"]["spec"]["selector"],
        RESOURCES["Service/gatehouse-operator"]["spec"]["selector"],
        RESOURCES["PodDisruptionBudget/gatehouse"]["spec"]["selector"]["matchLabels"],
        RESOURCES["NetworkPolicy/gatehouse"]["spec"]["podSelector"]["matchLabels"],
    ]

    assert all(selector == labels for selector in selectors)
    monitored = RESOURCES["ServiceMonitor/gatehouse"]["spec"]["selector"]["matchLabels"]
    assert RESOURCES["Service/gatehouse-operator"]["metadata"]["labels"] == monitored


def test_ports_match_the_config() -> None:
    ports = {port["name"]: port["containerPort"] for port in CONTAINER["ports"]}

    assert ports == {"http": CONFIG.server.listen.port, "operator": CONFIG.operator.listen.port}


def test_secret_has_exactly_what_the_config_names() -> None:
    text = (KUBERNETES / "gateway.yaml").read_text()
    (mount,) = [each for each in CONTAINER["volumeMounts"] if each["name"] == "secrets"]

    named = set(re.findall(rf"{mount['mountPath']}/(\w+)", text))
    secret = RESOURCES["Secret/gatehouse"]["stringData"]
    assert set(secret) == named
    assert not any(secret.values()), "a repository must not contain secrets"
    assert "env:" not in text


def test_pod_is_read_only_and_has_no_privileges() -> None:
    security = CONTAINER["securityContext"]

    assert security["readOnlyRootFilesystem"] is True
    assert security["allowPrivilegeEscalation"] is False
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert POD["securityContext"]["runAsNonRoot"] is True
    assert POD["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert POD["automountServiceAccountToken"] is False
    assert all(mount.get("readOnly") for mount in CONTAINER["volumeMounts"] if mount["name"] != "tmp")


def test_a_database_outage_restarts_no_gateway() -> None:
    probes = {
        name: CONTAINER[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "liveness", "readiness")
    }

    assert probes == {"startup": "/healthz", "liveness": "/healthz", "readiness": "/readyz"}


def test_pod_gets_enough_time_to_stop() -> None:
    wait = CONTAINER["lifecycle"]["preStop"]["sleep"]["seconds"]

    assert wait + 10 < POD["terminationGracePeriodSeconds"]


def test_gateways_run_on_different_nodes_and_at_least_one_stays_up() -> None:
    preferred = POD["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    autoscaler = RESOURCES["HorizontalPodAutoscaler/gatehouse"]["spec"]

    assert preferred[0]["podAffinityTerm"]["topologyKey"] == "kubernetes.io/hostname"
    assert autoscaler["minReplicas"] >= 2
    assert "replicas" not in RESOURCES["Deployment/gatehouse"]["spec"], "the autoscaler sets the replicas"
    assert RESOURCES["PodDisruptionBudget/gatehouse"]["spec"]["maxUnavailable"] == 1


def test_alerts_match_those_of_prometheus() -> None:
    rules = yaml.safe_load((DEPLOY / "prometheus" / "gatehouse.rules.yml").read_text())

    assert RESOURCES["PrometheusRule/gatehouse"]["spec"] == rules


@pytest.mark.parametrize("file", [KUBERNETES / "gateway.yaml", DEPLOY / "compose.postgres.gateway.yaml"])
def test_gateways_share_a_postgresql_whose_password_is_a_secret(file: Path) -> None:
    store = load(file).config.store

    assert store.url.startswith("postgresql://")
    assert str(store.password).startswith("file:/run/secrets/")


def test_two_gateways_of_compose_are_alike() -> None:
    assert SERVICES["gateway-1"] == SERVICES["gateway-2"]
    assert "volumes" in SERVICES["gateway-1"]
    assert SERVICES["gateway-1"]["volumes"] == [
        "./compose.postgres.gateway.yaml:/etc/gatehouse/gateway.yaml:ro"
    ]


@pytest.mark.parametrize("service", SERVICES)
def test_service_publishes_ports_only_on_loopback_and_mounts_existing_files(service: str) -> None:
    assert all(port.startswith("127.0.0.1:") for port in SERVICES[service].get("ports", []))
    for mount in SERVICES[service].get("volumes", []):
        source = mount.partition(":")[0]
        assert (DEPLOY / source).is_file() if source.startswith(".") else source in COMPOSE["volumes"]


@pytest.mark.parametrize("service", SERVICES)
def test_service_is_built_here_or_has_a_pinned_image(service: str) -> None:
    image = SERVICES[service]["image"] if "build" not in SERVICES[service] else ":0.0"

    assert re.search(r":\d+\.\d+(\.\d+)?(-\w+)?$", image)


def test_gateways_of_compose_get_exactly_the_secrets_that_their_config_names() -> None:
    text = (DEPLOY / "compose.postgres.gateway.yaml").read_text()

    assert sorted(set(re.findall(r"file:/run/secrets/(\w+)", text))) == sorted(
        SERVICES["gateway-1"]["secrets"]
    )
    assert {name for each in SERVICES.values() for name in each.get("secrets", [])} == set(COMPOSE["secrets"])


def test_proxy_sends_to_both_gateways_and_repeats_no_request() -> None:
    caddyfile = (DEPLOY / "compose.postgres.Caddyfile").read_text()

    assert "reverse_proxy gateway-1:8080 gateway-2:8080" in caddyfile
    assert "lb_retries 0" in caddyfile
    assert "9090" not in caddyfile
