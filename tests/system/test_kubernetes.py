"""The manifests in docs/kubernetes: valid, of one piece, and with what the server needs to leave without a failure."""

import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from bandit.settings import Settings

FOLDER = Path(__file__).parents[2] / "docs/kubernetes"
KUSTOMIZATION = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
OBJECTS = [
    document for name in KUSTOMIZATION["resources"] for document in yaml.safe_load_all((FOLDER / name).read_text())
]


def find(kind: str, name: str) -> dict[str, Any]:
    """The one object of this kind and name."""
    [found] = [each for each in OBJECTS if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    return dict(found)


POD = find("Deployment", "bandit")["spec"]["template"]["spec"]
[CONTAINER] = POD["containers"]
CONFIG = find("ConfigMap", "bandit")["data"]


@pytest.mark.parametrize("given", OBJECTS, ids=lambda each: f"{each['kind']}-{each['metadata']['name']}")
def test_every_object_is_valid_by_the_schema_of_kubernetes(given: dict[str, Any]) -> None:
    """Strictly: a misspelt field is an error, not ignored."""
    kubernetes_validate.validate(given, kubernetes_validate.latest_version(), strict=True)


def test_every_file_is_applied() -> None:
    """A file that the kustomization forgets would never be there."""
    assert {path.name for path in FOLDER.glob("*.yaml")} == {*KUSTOMIZATION["resources"], "kustomization.yaml"}
    assert [image["name"] for image in KUSTOMIZATION["images"]] == [CONTAINER["image"]]


def test_the_settings_exist_and_are_taken_beside_the_links_of_services(monkeypatch: pytest.MonkeyPatch) -> None:
    """The container's environment: the links of all these services, then the ConfigMap, then the Secret's address."""
    for name, value in {**_links("bandit"), **_links("bandit-valkey"), **CONFIG}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("BANDIT_REDIS_URL", "redis://bandit-valkey:6379/0")
    assert {name.removeprefix("BANDIT_").lower() for name in CONFIG} <= set(Settings.model_fields)
    settings = Settings()
    assert settings.port == CONTAINER["ports"][0]["containerPort"]
    assert settings.auth_on
    mount, snapshots = CONTAINER["volumeMounts"]
    volume, written = POD["volumes"]
    assert (str(settings.snapshot_dir), snapshots["name"]) == (snapshots["mountPath"], written["name"])
    assert "emptyDir" in written
    assert str(settings.admin_key_file) == f"{mount['mountPath']}/{volume['secret']['items'][0]['path']}"
    assert settings.redis_url == "redis://bandit-valkey:6379/0"


def _links(service: str) -> dict[str, str]:
    """What Kubernetes puts into the environment of each container beside a service."""
    name, at = service.upper().replace("-", "_"), "10.0.0.7"
    return {
        f"{name}_SERVICE_HOST": at, f"{name}_SERVICE_PORT": "80", f"{name}_SERVICE_PORT_HTTP": "80",
        f"{name}_PORT": f"tcp://{at}:80", f"{name}_PORT_80_TCP": f"tcp://{at}:80", f"{name}_PORT_80_TCP_PROTO": "tcp",
        f"{name}_PORT_80_TCP_PORT": "80", f"{name}_PORT_80_TCP_ADDR": at,
    }  # fmt: skip


@pytest.mark.parametrize("name", Settings.model_fields)
def test_no_setting_is_taken_from_the_link_of_a_service(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of whatever name the service is: where a setting's variable can be such a link, the link is passed over."""
    variable = f"BANDIT_{name.upper()}"
    found = re.fullmatch(r"(.+?)_(SERVICE_HOST|SERVICE_PORT(_.*)?|PORT|PORT_\d+_(TCP|UDP|SCTP)(_.*)?)", variable)
    if found is None:
        assert variable not in _links("bandit")
        return
    assert variable in _links(found[1].lower()), "a kind of link that is not passed over"
    monkeypatch.setenv(variable, _links(found[1].lower())[variable])
    assert getattr(Settings(), name) == Settings.model_fields[name].default


def test_a_pod_is_killed_only_after_its_drain_and_its_stop() -> None:
    """And while it drains its successor is there already: none is unavailable in a rollout or a disruption."""
    wanted = float(CONFIG["BANDIT_DRAIN_SECONDS"]) + float(CONFIG["BANDIT_STOP_TIMEOUT"])
    assert POD["terminationGracePeriodSeconds"] >= wanted + 5
    assert float(CONFIG["BANDIT_DRAIN_SECONDS"]) == 5
    deployment = find("Deployment", "bandit")["spec"]
    assert deployment["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert deployment["replicas"] > find("PodDisruptionBudget", "bandit")["spec"]["minAvailable"]


def test_probes_ask_what_they_should() -> None:
    """Liveness never touches the store; readiness is /readyz, looked at more often than a drain is long."""
    paths = {kind: CONTAINER[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "liveness", "readiness")}
    assert paths == {"startup": "/healthz", "liveness": "/healthz", "readiness": "/readyz"}
    readiness = CONTAINER["readinessProbe"]
    assert readiness["periodSeconds"] * readiness["failureThreshold"] <= float(CONFIG["BANDIT_DRAIN_SECONDS"])


def test_no_container_may_write_or_gain_rights() -> None:
    """A read-only root, no capabilities, no root user, and for the server any user id."""
    for kind, name in (("Deployment", "bandit"), ("StatefulSet", "bandit-valkey")):
        pod = find(kind, name)["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        [container] = pod["containers"]
        context = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
        assert container["securityContext"] == context
    assert "runAsUser" not in POD["securityContext"]


def test_selectors_find_their_pods_and_ports_have_names_that_exist() -> None:
    """A Service without endpoints is valid, and useless."""
    for name, owner in (("bandit", "Deployment"), ("bandit-valkey", "StatefulSet")):
        template = find(owner, name)["spec"]["template"]
        labels, [container] = template["metadata"]["labels"], template["spec"]["containers"]
        service = find("Service", name)["spec"]
        assert service["selector"].items() <= labels.items()
        assert find(owner, name)["spec"]["selector"]["matchLabels"].items() <= labels.items()
        assert {port["targetPort"] for port in service["ports"]} <= {port["name"] for port in container["ports"]}
    assert find("PodDisruptionBudget", "bandit")["spec"]["selector"] == find("Deployment", "bandit")["spec"]["selector"]


def test_only_servers_reach_the_store() -> None:
    """The policy is of the store's pods, and lets in those of the Deployment, to the port that the Service leads to."""
    policy = find("NetworkPolicy", "bandit-valkey")["spec"]
    assert policy["podSelector"] == find("StatefulSet", "bandit-valkey")["spec"]["selector"]
    [rule] = policy["ingress"]
    assert rule["from"] == [{"podSelector": find("Deployment", "bandit")["spec"]["selector"]}]
    assert rule["ports"][0]["port"] == find("Service", "bandit-valkey")["spec"]["ports"][0]["targetPort"]
    assert policy["policyTypes"] == ["Ingress"]


def test_the_store_keeps_what_it_is_given() -> None:
    """An append-only file on a volume of its own, no eviction, and less memory than its limit."""
    spec = find("StatefulSet", "bandit-valkey")["spec"]
    [container] = spec["template"]["spec"]["containers"]
    options = dict(zip(container["args"][::2], container["args"][1::2], strict=True))
    assert options["--appendonly"] == "yes"
    assert options["--maxmemory-policy"] == "noeviction"
    assert options["--dir"] == container["volumeMounts"][0]["mountPath"]
    assert container["volumeMounts"][0]["name"] == spec["volumeClaimTemplates"][0]["metadata"]["name"]
    assert options["--requirepass"] == f"$({container['env'][0]['name']})"  # and valkey-cli finds it there
    assert container["env"][0]["valueFrom"]["secretKeyRef"] == {"name": "bandit", "key": "store-password"}
    assert options["--maxmemory"].endswith("mb")
    assert (
        int(options["--maxmemory"].removesuffix("mb")) * 2 <= int(container["resources"]["limits"]["memory"][0]) * 1024
    )
