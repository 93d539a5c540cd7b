"""What is shipped for Prometheus and Kubernetes: it can be read, and it speaks of what exists."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from prometheus_client import REGISTRY, CollectorRegistry
from studio_agent import metrics as agent_metrics
from studio_coordinator import fleet_metrics, loop
from studio_coordinator.authority import office
from studio_gateway.account import Metrics

ROOT = Path(__file__).parents[3]
ALERTS = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text())
RULES = [rule for group in ALERTS["groups"] for rule in group["rules"]]
MANIFESTS = [
    (file.name, manifest)
    for file in sorted((ROOT / "deploy/kubernetes").glob("*.yaml"))
    for manifest in yaml.safe_load_all(file.read_text())
]
CLUSTER = "1.33"


def served() -> set[str]:
    """Every metric that a role serves."""
    assert all(module.__name__ for module in (agent_metrics, fleet_metrics, loop, office))
    gateway = CollectorRegistry()
    Metrics(gateway)
    return {*REGISTRY._names_to_collectors, *gateway._names_to_collectors}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule["alert"]))
def test_an_alert_is_about_metrics_that_exist_and_has_a_page_of_its_name(rule: dict[str, Any]) -> None:
    names = set(re.findall(r"\bstudio_\w+", rule["expr"]))
    assert names
    assert names <= served()
    assert rule["labels"]["severity"] in ("warning", "critical")
    assert rule["annotations"]["runbook"] == f"docs/runbooks/{rule['alert']}.md"
    assert (ROOT / rule["annotations"]["runbook"]).read_text().startswith(f"# {rule['alert']}\n")


def test_no_runbook_is_left_without_an_alert() -> None:
    named = {Path(rule["annotations"]["runbook"]).stem for rule in RULES}
    assert {page.stem for page in (ROOT / "docs/runbooks").glob("*.md")} == named


def test_prometheus_reads_the_rules_and_every_role() -> None:
    config = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    assert config["rule_files"] == ["alerts.yml"]
    jobs = {job["job_name"] for job in config["scrape_configs"]}
    assert jobs == {"studio-coordinator", "studio-gateway", "studio-agent"}


@pytest.mark.parametrize(
    ("file", "manifest"), MANIFESTS, ids=lambda value: value if isinstance(value, str) else value["kind"]
)
def test_kubernetes_takes_the_manifest(file: str, manifest: dict[str, Any]) -> None:
    assert file
    kubernetes_validate.validate(manifest, CLUSTER, strict=True)


def pods() -> Iterator[dict[str, Any]]:
    for _, manifest in MANIFESTS:
        if "template" in manifest["spec"]:
            yield manifest["spec"]["template"]["spec"]


def test_pods_keep_to_the_restricted_standard() -> None:
    assert len(list(pods())) == 2
    for pod in pods():
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
        assert not pod["automountServiceAccountToken"]
        for container in (*pod.get("initContainers", ()), *pod["containers"]):
            context = container["securityContext"]
            assert not context["allowPrivilegeEscalation"]
            assert context["readOnlyRootFilesystem"]
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert "memory" in container["resources"]["limits"]
