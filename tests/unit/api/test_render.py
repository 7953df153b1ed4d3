"""The CRD: structural, complete, and saying what the models say."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from aurora_operator.api.cluster import AuroraCluster, ClusterSpec, RetainPolicy
from aurora_operator.api.render import render_crd
from aurora_operator.core.cluster.parameters import REFUSED_PARAMETERS, refused_parameters

Schema = dict[str, Any]


@pytest.fixture(scope="module")
def version() -> Schema:
    (only,) = render_crd()["spec"]["versions"]
    return only  # type: ignore[no-any-return]


def schemas(node: Schema) -> Iterator[Schema]:
    yield node
    for child in (node.get("properties") or {}).values():
        yield from schemas(child)
    for key in ("items", "additionalProperties"):
        if isinstance(node.get(key), dict):
            yield from schemas(node[key])


def test_the_schema_is_structural(version: Schema) -> None:
    for node in schemas(version["schema"]["openAPIV3Schema"]):
        assert not {"$ref", "anyOf", "$defs", "title"} & node.keys()
        assert "type" in node or node.get("x-kubernetes-int-or-string")


def test_fields_carry_the_names_of_rds(version: Schema) -> None:
    spec = version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    assert set(spec) == {
        "engine",
        "engineVersion",
        "databaseName",
        "port",
        "masterUsername",
        "manageMasterUserPassword",
        "masterUserPassword",
        "replicas",
        "instanceTemplate",
        "storage",
        "parameterOverrides",
        "deletionProtection",
    }
    status = version["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"]
    assert "volumeID" in status["volume"]["properties"]
    assert {"readerEndpoint", "dbClusterMembers", "masterUserSecret"} <= set(status)


def test_an_empty_spec_means_the_defaults() -> None:
    spec = AuroraCluster.model_validate({}).spec
    assert (spec.engine, spec.engine_version) == ("aurora-postgresql", "17")
    assert (spec.port, spec.master_username, spec.replicas) == (5432, "postgres", 1)
    assert spec.storage.retain_policy is RetainPolicy.RETAIN
    assert spec.manages_password


def test_the_schemas_defaults_are_the_models(version: Schema) -> None:
    spec = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    filled = {
        key: child["default"] for key, child in spec["properties"].items() if "default" in child
    }
    assert ClusterSpec.model_validate(filled) == ClusterSpec()


def test_every_refused_parameter_is_refused_by_name_at_the_door(version: Schema) -> None:
    spec = version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    messages = [rule["message"] for rule in spec["parameterOverrides"]["x-kubernetes-validations"]]
    for name in REFUSED_PARAMETERS:
        assert sum(message.startswith(f"{name} ") for message in messages) == 1


def test_parameters_are_refused_in_any_case() -> None:
    refused = refused_parameters({"Synchronous_Commit": "off", "work_mem": "8MB"})
    assert list(refused) == ["Synchronous_Commit"]


def test_scale_and_columns_point_at_fields_that_exist(version: Schema) -> None:
    root = version["schema"]["openAPIV3Schema"]
    scale = version["subresources"]["scale"]
    paths = [column["jsonPath"] for column in version["additionalPrinterColumns"]]
    paths += [scale[key] for key in scale]
    for path in paths:
        node = root
        for word in path.strip(".").split("."):
            if word == "metadata":
                break
            node = node["properties"][word]


def test_quantities_may_be_numbers() -> None:
    spec = ClusterSpec.model_validate(
        {"instanceTemplate": {"resources": {"requests": {"cpu": 2, "memory": "1Gi"}}}}
    )
    assert spec.instance_template.resources.requests == {"cpu": "2", "memory": "1Gi"}


@pytest.mark.parametrize(
    "name", ["no such name", "", "1st", "work_mem = 1\nfsync", "a..b", "include", "Include_Dir"]
)
def test_what_is_no_setting_is_refused(name: str) -> None:
    assert list(refused_parameters({name: "x"})) == [name]


@pytest.mark.parametrize("name", ["work_mem", "DateStyle", "pg_stat_statements.max", "_x"])
def test_settings_are_taken(name: str) -> None:
    assert refused_parameters({name: "x"}) == {}
