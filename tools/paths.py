"""Where things lie: the checkout, its parts, and the cache outside it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
BUILD: Final = ROOT / "build"
CHART: Final = ROOT / "charts" / "aurora-operator"
IMPORT_PATH: Final = (ROOT / "operator", ROOT / "tests", ROOT)


def cache_root() -> Path:
    """Where builds are kept between runs; never inside the checkout."""
    explicit = os.environ.get("AURORA_CACHE")
    if explicit:
        return Path(explicit)
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "aurora-operator"
