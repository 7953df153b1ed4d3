"""Which fields of a live object differ from what is wanted.

Only what we want is compared: the API server adds defaults and other controllers their own fields,
and those are none of our business. Lists are compared whole, because a merge patch replaces them.
"""

from __future__ import annotations

import hashlib
import json

from aurora_operator.api import labels
from aurora_operator.resources.context import Manifest

_IDENTITY = ("apiVersion", "kind", "status")


def differing_fields(wanted: Manifest, live: Manifest) -> tuple[str, ...]:
    """Paths such as ``spec.ports`` whose live value is not the wanted one."""
    body = {key: value for key, value in wanted.items() if key not in _IDENTITY}
    return tuple(_differences("", body, live))


def _differences(path: str, wanted: object, live: object) -> list[str]:
    if isinstance(wanted, dict):
        if not wanted and not live:
            return []
        if not isinstance(live, dict):
            return [path]
        found = []
        for key, value in wanted.items():
            found += _differences(f"{path}.{key}" if path else key, value, live.get(key))
        return found
    if isinstance(wanted, list):
        if not wanted and not live:
            return []
        if not isinstance(live, list) or len(live) != len(wanted):
            return [path]
        pairs = zip(wanted, live, strict=True)
        return [path] if any(_differences("", one, other) for one, other in pairs) else []
    return [] if wanted == live else [path]


def template_hash(manifest: Manifest) -> str:
    """A short hash of a manifest, equal exactly when the manifest is."""
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def with_template_hash(manifest: Manifest) -> Manifest:
    """The manifest, carrying the hash of itself."""
    metadata = dict(manifest["metadata"])
    annotations = dict(metadata.get("annotations") or {})
    annotations[labels.TEMPLATE_HASH] = template_hash(manifest)
    return {**manifest, "metadata": {**metadata, "annotations": annotations}}
