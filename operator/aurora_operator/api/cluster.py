"""AuroraCluster, the one kind that people write: its spec and its status.

Fields that Amazon RDS has carry the camelCase names of its Kubernetes controller (ACK), with the
same ranges and defaults, so that a person who knows Aurora knows this. The CRD is generated from
these models (``api/render.py``): what a schema can say is said by types here, the rest by the CEL
rules beside them.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic.alias_generators import to_camel

from aurora_operator.core.cluster.parameters import PARAMETER_PATTERN, REFUSED_PARAMETERS
from aurora_operator.core.cluster.quantity import QUANTITY_PATTERN

CLUSTER_NAME_LENGTH_MAX: Final = 45
"""Pods and Services append up to 17 characters, and a DNS label holds 63."""

_RESERVED_DATABASES: Final = ("postgres", "template0", "template1", "rdsadmin")
_RESERVED_PORTS: Final = (5433, 8443, 9187)


def rule(expression: str, message: str) -> dict[str, str]:
    """One entry of ``x-kubernetes-validations``."""
    return {"rule": expression, "message": message}


def rules(*entries: dict[str, str]) -> dict[str, Any]:
    """The extra schema that carries CEL rules."""
    return {"x-kubernetes-validations": list(entries)}


def immutable(what: str) -> dict[str, str]:
    """A CEL rule that refuses any later change."""
    return rule("self == oldSelf", f"{what} cannot be changed after the cluster was created")


def _immutable_optional(field: str, what: str) -> dict[str, str]:
    """The same for a field that may be absent: it may neither appear nor vanish later."""
    return rule(
        f"has(self.{field}) == has(oldSelf.{field}) && "
        f"(!has(self.{field}) || self.{field} == oldSelf.{field})",
        f"{what} cannot be changed after the cluster was created",
    )


class ApiModel(BaseModel):
    """Base of everything in an AuroraCluster: camelCase outside, unknown fields ignored."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True
    )


class RetainPolicy(StrEnum):
    """What becomes of the volume when the AuroraCluster is deleted."""

    RETAIN = "Retain"
    """The claims stay; a cluster of the same name opens the same volume again."""
    DELETE = "Delete"
    """The claims are deleted with the cluster, and the data with them."""


class SecretKeyRef(ApiModel):
    """One key of a Secret in the cluster's namespace."""

    name: Annotated[str, Field(min_length=1, max_length=253)]
    key: Annotated[str, Field(min_length=1, max_length=253)] = "password"


class Toleration(ApiModel):
    """A toleration, as in a pod."""

    key: str | None = None
    operator: str | None = None
    value: str | None = None
    effect: str | None = None
    toleration_seconds: int | None = None


QuantityText = Annotated[
    str,
    BeforeValidator(str),
    WithJsonSchema({"x-kubernetes-int-or-string": True}),
]
"""A quantity such as 500m or 2; Kubernetes takes the number for the text."""


class Resources(ApiModel):
    """Requests and limits, as in a container."""

    requests: dict[str, QuantityText] = Field(default_factory=dict)
    limits: dict[str, QuantityText] = Field(default_factory=dict)


class InstanceTemplate(ApiModel):
    """What every instance's pod has in common; the writer is one of them."""

    resources: Resources = Field(default_factory=Resources)
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    node_selector: dict[str, str] = Field(default_factory=dict)
    tolerations: tuple[Toleration, ...] = Field(default=(), json_schema_extra={"maxItems": 50})
    affinity: dict[str, Any] | None = Field(
        default=None,
        description="Affinity of the pod, as in Kubernetes; ours (spread over zones) when absent.",
        json_schema_extra={"x-kubernetes-preserve-unknown-fields": True},
    )


class Storage(ApiModel):
    """The volume's disks: six claims, one a storage pod."""

    model_config = ConfigDict(
        json_schema_extra=rules(_immutable_optional("storageClassName", "storage.storageClassName"))
    )

    storage_class_name: Annotated[str, Field(min_length=1, max_length=253)] | None = Field(
        default=None, description="Storage class of the claims; the default class when absent."
    )
    size: str = Field(
        default="10Gi",
        max_length=32,
        pattern=QUANTITY_PATTERN,
        description="Size of each of the six copies' claims. It may grow, never shrink.",
        json_schema_extra=rules(
            rule("quantity(self).compareTo(quantity('1Gi')) >= 0", "must be at least 1Gi"),
            rule(
                "!self.contains('.')",
                "must be a whole number: write 1100Mi for what would be about 1.1Gi",
            ),
            rule(
                "quantity(self).compareTo(quantity(oldSelf)) >= 0",
                "a volume can grow, but it cannot shrink",
            ),
        ),
    )
    retain_policy: RetainPolicy = Field(
        default=RetainPolicy.RETAIN,
        description="Retain keeps the claims when the cluster is deleted; Delete removes them.",
    )
    replace_after_seconds: int = Field(
        default=600,
        ge=30,
        le=604800,
        description="A copy whose pod cannot run for so long, because its node is gone or cannot "
        "take it, is replaced: its claim is deleted and made anew on another node of the zone, and "
        "filled from the other copies.",
    )
    allow_zone_move: bool = Field(
        default=False,
        description="Allow a copy that is replaced to move to another zone when its own has no "
        "node left.",
    )


_PASSWORD_RULE: Final = rule(
    "!(has(self.manageMasterUserPassword) && self.manageMasterUserPassword && "
    "has(self.masterUserPassword))",
    "masterUserPassword and manageMasterUserPassword exclude each other: give one of them",
)


class ClusterSpec(ApiModel):
    """The wanted state."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            _PASSWORD_RULE,
            rule(
                "!has(self.manageMasterUserPassword) || self.manageMasterUserPassword || "
                "has(self.masterUserPassword)",
                "without masterUserPassword the operator has to manage the password: "
                "leave manageMasterUserPassword out or set it to true",
            ),
            _immutable_optional("databaseName", "databaseName"),
        )
    )

    engine: str = Field(
        default="aurora-postgresql",
        max_length=64,
        description="aurora-postgresql.",
        json_schema_extra=rules(
            rule(
                "self != 'aurora-mysql'",
                "aurora-mysql is planned and not available yet; use aurora-postgresql",
            ),
            rule(
                "self in ['aurora-postgresql', 'aurora-mysql']",
                "unknown engine; use aurora-postgresql",
            ),
            immutable("engine"),
        ),
    )
    engine_version: str = Field(
        default="17",
        max_length=16,
        description="Major version of the engine, or an exact minor of it: 17 or 17.6.",
        json_schema_extra=rules(
            rule(
                r"self.matches('^17(\\.[0-9]+)?$')",
                "unknown engineVersion; available: 17 (or an exact minor such as 17.6)",
            )
        ),
    )
    database_name: str | None = Field(
        default=None,
        max_length=63,
        pattern=r"^[A-Za-z][A-Za-z0-9_]*$",
        description="A database to create beside postgres, which always exists.",
        json_schema_extra=rules(
            rule(
                f"!(self in {list(_RESERVED_DATABASES)!r})",
                "this database name is reserved: leave databaseName out, or choose another",
            )
        ),
    )
    port: int = Field(
        default=5432,
        ge=1150,
        le=65535,
        description="Port of PostgreSQL for clients.",
        json_schema_extra=rules(
            rule(
                f"!(self in {list(_RESERVED_PORTS)!r})",
                "ports 5433, 8443 and 9187 are used by the cluster itself",
            ),
            immutable("port"),
        ),
    )
    master_username: str = Field(
        default="postgres",
        max_length=16,
        pattern=r"^[A-Za-z][A-Za-z0-9_]*$",
        description="Name of the master user, a member of rds_superuser.",
        json_schema_extra=rules(
            rule(
                "!self.lowerAscii().startsWith('rds') && !self.lowerAscii().startsWith('pg_') && "
                "!self.lowerAscii().startsWith('aurora') && "
                "!(self.lowerAscii() in ['public', 'none', 'admin'])",
                "this name is reserved: it may not begin with rds, pg_ or aurora",
            ),
            immutable("masterUsername"),
        ),
    )
    manage_master_user_password: bool | None = Field(
        default=None,
        description="Make a password and keep it in the Secret of the master user. "
        "True when masterUserPassword is absent.",
    )
    master_user_password: SecretKeyRef | None = Field(
        default=None, description="A Secret of yours that holds the master user's password."
    )
    replicas: int = Field(
        default=1, ge=0, le=15, description="Number of replicas; the writer is not counted."
    )
    instance_template: InstanceTemplate = Field(default_factory=InstanceTemplate)
    storage: Storage = Field(default_factory=Storage)
    parameter_overrides: dict[str, str] = Field(
        default_factory=dict,
        description="PostgreSQL settings. Those that would break the volume are refused by name.",
        json_schema_extra={
            "maxProperties": 200,
            **rules(
                rule(
                    f"self.all(name, name.size() <= 127 && name.matches('{PARAMETER_PATTERN}'))",
                    "the name of a setting is letters, digits and underscores, "
                    "with the extension's name and a dot before it where it has one",
                ),
                *(
                    rule(f"!('{name}' in self)", f"{name} cannot be overridden: {reason}")
                    for name, reason in sorted(REFUSED_PARAMETERS.items())
                ),
            ),
        },
    )
    deletion_protection: bool = Field(
        default=False, description="Refuse to delete the cluster while this is true."
    )

    @property
    def manages_password(self) -> bool:
        """Whether the operator makes the master user's password itself."""
        return self.master_user_password is None


class Condition(ApiModel):
    """One condition, in Kubernetes' own form."""

    type: str
    status: str
    reason: str
    message: str
    last_transition_time: str
    observed_generation: int | None = None


class ClusterMember(ApiModel):
    """One instance, as DescribeDBClusters lists it."""

    db_instance_identifier: str
    is_cluster_writer: bool
    db_instance_status: str
    zone: str | None = None
    node: str | None = None


class VolumeCopy(ApiModel):
    """One copy of the volume."""

    slot: int
    identity: str
    pod: str
    zone: str | None = None
    node: str | None = None
    state: str
    progress: str | None = Field(
        default=None, description="How far the copy is filled, while it is."
    )
    scl: str | None = None
    pressure: str | None = None
    """What keeps it from doing its part: low-space, slow, no-room or left-behind."""


class LostCopies(ApiModel):
    """Three copies that are gone for good, recorded once by compare-and-swap."""

    identities: tuple[str, ...]
    reason: str


class VolumeRecord(ApiModel):
    """What was recorded by compare-and-swap before the volume was formatted, and since."""

    volume_id: Annotated[str, Field(alias="volumeID")]
    identities: tuple[str, ...]
    members_version: str | None = Field(
        default=None, description="Version of the member list that the volume keeps: term.number."
    )
    lost: LostCopies | None = None
    system_identifier: str | None = None
    complete: bool = False
    """Six full copies were seen. From then on nothing is ever formatted."""


class MasterUserSecret(ApiModel):
    """Where clients find the master user's password."""

    name: str
    secret_status: str = "active"  # noqa: S105 - a word of RDS, not a secret


class ClusterStatus(ApiModel):
    """The observed state."""

    status: str | None = Field(default=None, description="In the words of RDS: available, …")
    endpoint: str | None = None
    reader_endpoint: str | None = None
    port: int | None = None
    writer: str | None = None
    term: int | None = None
    vdl: str | None = Field(default=None, description="Volume durable position.")
    replicas: int = Field(default=0, description="Replicas that exist.")
    ready_replicas: int = 0
    replicas_ready: str | None = Field(default=None, description="Replicas: ready/wanted.")
    copies_ready: str | None = Field(
        default=None, description="Copies that are full and, while a writer is open, take its log."
    )
    selector: str | None = None
    db_cluster_members: tuple[ClusterMember, ...] = ()
    copies: tuple[VolumeCopy, ...] = ()
    volume: VolumeRecord | None = None
    master_user_secret: MasterUserSecret | None = None
    server_version: str | None = None
    observed_generation: int | None = None
    conditions: tuple[Condition, ...] = Field(
        default=(),
        json_schema_extra={
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["type"],
        },
    )


class AuroraCluster(ApiModel):
    """The whole object, as far as the operator reads it."""

    spec: ClusterSpec = Field(default_factory=ClusterSpec)
    status: ClusterStatus = Field(default_factory=ClusterStatus)
