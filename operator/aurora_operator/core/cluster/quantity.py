"""Kubernetes quantities (``10Gi``) as numbers of bytes, for the sizes that decisions compare.

The API server rewrites what it is given: 1.1Gi becomes ``1181116006400m``. So everything that it
may tell is read here, and only whole numbers are ever asked for.
"""

from __future__ import annotations

import re
from decimal import ROUND_CEILING, Decimal
from typing import Final

QUANTITY_PATTERN: Final = r"^[0-9]+(\.[0-9]+)?(Ki|Mi|Gi|Ti|Pi|Ei|k|M|G|T|P|E)?$"
"""What a spec may say; a fraction is refused beside it, by a rule that says how to write it."""

_READABLE: Final = re.compile(
    r"(?P<number>[0-9]+(\.[0-9]*)?)"
    r"(?P<suffix>[KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]+|)"
)
_FACTORS: Final = {
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "": Decimal(1),
    "k": Decimal(10**3),
    "M": Decimal(10**6),
    "G": Decimal(10**9),
    "T": Decimal(10**12),
    "P": Decimal(10**15),
    "E": Decimal(10**18),
    "Ki": Decimal(2**10),
    "Mi": Decimal(2**20),
    "Gi": Decimal(2**30),
    "Ti": Decimal(2**40),
    "Pi": Decimal(2**50),
    "Ei": Decimal(2**60),
}


def parse_quantity_bytes(text: str) -> int:
    """The bytes that ``text`` stands for, rounded up; ``ValueError`` for what is not a size."""
    found = _READABLE.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is not a size; one looks like 10Gi")
    suffix = found["suffix"]
    factor = _FACTORS[suffix] if suffix in _FACTORS else Decimal(f"1{suffix}")
    return int((Decimal(found["number"]) * factor).to_integral_value(ROUND_CEILING))


def whole_quantity(text: str) -> str:
    """The size as it is asked for: a fraction of a unit becomes a whole number of bytes."""
    return str(parse_quantity_bytes(text)) if "." in text else text
