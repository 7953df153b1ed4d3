"""The images by name: what goes into each, what it is called, and how its context is laid out."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from imagekit import base, wheels
from imagekit.cache import CHECKOUT, digest_of

IMAGES = CHECKOUT / "images"


@dataclass(frozen=True)
class Recipe:
    """One image: its folder in images/, its name in a cluster, and the wheel that goes in last.

    The wheel is made before the image is named, so that sources which change during a build cannot
    end up under the name of the older ones. Without it the recipe is that of the runtime alone.
    """

    folder: str
    repository: str
    our_wheel: Path | None

    @property
    def inputs(self) -> str:
        """The digest of everything that decides how the image turns out."""
        ours = self.our_wheel.name if self.our_wheel else ""
        return digest_of([base.inputs(), IMAGES / self.folder, wheels.LOCK, ours])

    @property
    def reference(self) -> str:
        """The name under which a cluster runs it; new inputs get a new name."""
        return f"{self.repository}:{self.inputs}"

    def lay_out(self, context: Path) -> None:
        """Fill ``context`` with the Dockerfile and all that it copies."""
        shutil.copytree(IMAGES / self.folder, context, dirs_exist_ok=True)
        shutil.copy2(wheels.LOCK, context)
        shutil.copytree(wheels.locked(wheels.LOCK), context / "wheels" / "locked")
        if self.our_wheel:
            shutil.copytree(self.our_wheel, context / "wheels" / "ours")


def engine() -> Recipe:
    """What instances and storage pods run."""
    return Recipe("engine", "localhost/aurora-engine", wheels.ours())


def engine_runtime() -> Recipe:
    """The engine image but for our wheel: component tests take our code from the checkout."""
    return Recipe("engine", "localhost/aurora-engine-runtime", None)


def operator() -> Recipe:
    """What the operator's Deployment runs."""
    return Recipe("operator", "localhost/aurora-operator", wheels.ours())


RECIPES = {"engine": engine, "operator": operator}
