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
    """One image: its folder in images/ and its name in a cluster."""

    folder: str
    repository: str

    def inputs(self, *, with_our_wheel: bool = True) -> str:
        """The digest of everything that decides how the image turns out."""
        ours = wheels.our_inputs() if with_our_wheel else ""
        return digest_of([base.inputs(), IMAGES / self.folder, wheels.LOCK, ours])

    @property
    def reference(self) -> str:
        """The name under which a cluster runs it; new inputs get a new name."""
        return f"{self.repository}:{self.inputs()}"

    def lay_out(self, context: Path, *, with_our_wheel: bool = True) -> None:
        """Fill ``context`` with the Dockerfile and all that it copies."""
        shutil.copytree(IMAGES / self.folder, context, dirs_exist_ok=True)
        shutil.copy2(wheels.LOCK, context)
        shutil.copytree(wheels.locked(wheels.LOCK), context / "wheels" / "locked")
        if with_our_wheel:
            shutil.copytree(wheels.ours(), context / "wheels" / "ours")


ENGINE = Recipe("engine", "localhost/aurora-engine")
OPERATOR = Recipe("operator", "localhost/aurora-operator")
RECIPES = {recipe.folder: recipe for recipe in (ENGINE, OPERATOR)}
