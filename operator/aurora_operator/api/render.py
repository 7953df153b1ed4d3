"""The CRD, generated from the models of ``api/cluster.py``.

Kubernetes wants a *structural* schema: no references, no ``anyOf`` with null, no titles. Pydantic
writes JSON Schema with all of those. This module turns the one into the other and adds what is not
part of a schema: subresources, printer columns and the rule about the object's own name.
"""

from __future__ import annotations

from typing import Any, Final, cast

from aurora_operator.api import labels
from aurora_operator.api.cluster import (
    CLUSTER_NAME_LENGTH_MAX,
    ApiModel,
    ClusterSpec,
    ClusterStatus,
    rule,
)

Schema = dict[str, Any]

_KEPT: Final = (
    "type",
    "description",
    "default",
    "enum",
    "format",
    "pattern",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "maxItems",
    "maxProperties",
    "required",
    "x-kubernetes-validations",
    "x-kubernetes-int-or-string",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
)

_COLUMNS: Final = (
    ("Status", "string", ".status.status", 0),
    ("Writer", "string", ".status.writer", 0),
    ("Replicas", "string", ".status.replicasReady", 0),
    ("Copies", "string", ".status.copiesReady", 0),
    ("Age", "date", ".metadata.creationTimestamp", 0),
    ("Term", "integer", ".status.term", 1),
    ("VDL", "string", ".status.vdl", 1),
    ("Endpoint", "string", ".status.endpoint", 1),
)


def render_crd() -> Schema:
    """The CustomResourceDefinition of AuroraCluster."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{labels.PLURAL}.{labels.GROUP}"},
        "spec": {
            "group": labels.GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": labels.KIND,
                "listKind": f"{labels.KIND}List",
                "plural": labels.PLURAL,
                "singular": labels.KIND.lower(),
                "shortNames": ["ac"],
                "categories": ["aurora"],
            },
            "versions": [_version()],
        },
    }


def _version() -> Schema:
    return {
        "name": labels.VERSION,
        "served": True,
        "storage": True,
        "subresources": {
            "status": {},
            "scale": {
                "specReplicasPath": ".spec.replicas",
                "statusReplicasPath": ".status.replicas",
                "labelSelectorPath": ".status.selector",
            },
        },
        "additionalPrinterColumns": [
            {"name": name, "type": kind, "jsonPath": path, "priority": priority}
            for name, kind, path, priority in _COLUMNS
        ],
        "schema": {"openAPIV3Schema": _root()},
    }


def _root() -> Schema:
    spec = structural_schema(ClusterSpec)
    # Without a default here the defaults inside would not be applied to an absent spec.
    spec["default"] = {}
    status = structural_schema(ClusterStatus)
    # An absent status says that nothing was observed; a default would hide it.
    status.pop("default", None)
    return {
        "type": "object",
        "description": "A database cluster: one writer, replicas, and a volume of six copies.",
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": spec,
            "status": status,
        },
        "x-kubernetes-validations": [
            rule(
                f"self.metadata.name.size() <= {CLUSTER_NAME_LENGTH_MAX}",
                f"the name of a cluster may have at most {CLUSTER_NAME_LENGTH_MAX} characters: "
                "pods and Services append to it",
            ),
            rule(
                "self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
                "the name of a cluster is a DNS label: lower-case letters, digits and hyphens, "
                "beginning with a letter",
            ),
        ],
    }


def structural_schema(model: type[ApiModel]) -> Schema:
    """The structural schema of one model."""
    document = model.model_json_schema(by_alias=True, mode="validation")
    return _structural(document, cast("Schema", document.get("$defs", {})))


def _structural(node: Schema, definitions: Schema) -> Schema:
    if "$ref" in node:
        name = str(node["$ref"]).rsplit("/", 1)[1]
        node = {**definitions[name], **{k: v for k, v in node.items() if k != "$ref"}}
    if "anyOf" in node:
        # Optional[X]: absence says it, so null is not a value of its own.
        (wanted,) = [entry for entry in node["anyOf"] if entry.get("type") != "null"]
        outer = {k: v for k, v in node.items() if k != "anyOf"}
        return _structural({**wanted, **outer}, definitions)
    schema = {key: node[key] for key in _KEPT if node.get(key) not in (None, [])}
    if "description" in schema:
        schema["description"] = " ".join(str(schema["description"]).split())
    if "properties" in node:
        schema["properties"] = {
            name: _structural(child, definitions) for name, child in node["properties"].items()
        }
        if _has_inner_default(schema):
            # A default of a child counts only where its parent exists.
            schema.setdefault("default", {})
    elif schema.get("type") == "object" and isinstance(node.get("additionalProperties"), dict):
        schema["additionalProperties"] = _structural(node["additionalProperties"], definitions)
    if "items" in node:
        schema["items"] = _structural(node["items"], definitions)
    elif "prefixItems" in node:
        schema["items"] = _structural(node["prefixItems"][0], definitions)
    return schema


def _has_inner_default(schema: Schema) -> bool:
    """Whether some field below has a default worth filling in: never below required fields."""
    if schema.get("required"):
        return False
    return any(child.get("default") not in (None, {}) for child in schema["properties"].values())
