"""The examples say what the AuroraCluster's schema knows, and fit any Kubernetes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from aurora_operator.api.cluster import ClusterSpec, RetainPolicy

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
CRD = EXAMPLES.parent / "crds" / "aurora-operator.io_auroraclusters.yaml"


def clusters() -> dict[str, dict[str, Any]]:
    """Specs of all AuroraClusters among the examples, by the name of their file."""
    return {
        path.name: document.get("spec", {})
        for path in sorted(EXAMPLES.glob("*.yaml"))
        for document in yaml.safe_load_all(path.read_text())
        if document["kind"] == "AuroraCluster"
    }


def unknown_fields(value: Any, schema: dict[str, Any], where: str = "spec") -> list[str]:
    """Paths of what the schema does not know; the API server would drop it without a word."""
    known = schema.get("properties")
    if known is None or not isinstance(value, dict):
        return []
    return [
        path
        for key, inner in value.items()
        for path in (
            unknown_fields(inner, known[key], f"{where}.{key}")
            if key in known
            else [f"{where}.{key}"]
        )
    ]


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    crd = yaml.safe_load(CRD.read_text())
    spec: dict[str, Any] = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"][
        "spec"
    ]
    return spec


def test_a_field_that_nobody_knows_is_found(schema: dict[str, Any]) -> None:
    assert unknown_fields({"storage": {"sise": "1Gi"}}, schema) == ["spec.storage.sise"]


@pytest.mark.parametrize("name", ["complete.yaml", "minimal.yaml", "shop.yaml"])
def test_an_example_is_accepted_everywhere(name: str, schema: dict[str, Any]) -> None:
    spec = clusters()[name]
    assert not unknown_fields(spec, schema)
    parsed = ClusterSpec.model_validate(spec)
    assert parsed.storage.storage_class_name is None, "no class exists in every Kubernetes"
    assert parsed.storage.retain_policy is RetainPolicy.RETAIN, "who tries it must not lose data"
