"""Kubernetes quantities (``10Gi``) as numbers of bytes, for the sizes that decisions compare."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

QUANTITY_PATTERN: Final = r"^[0-9]+(\.[0-9]+)?(Ki|Mi|Gi|Ti|Pi|Ei|k|M|G|T|P|E)?$"

_FACTORS: Final = {
    "": 1,
    "k": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "P": 10**15,
    "E": 10**18,
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
    "Pi": 2**50,
    "Ei": 2**60,
}


def parse_quantity_bytes(text: str) -> int:
    """The bytes that ``text`` stands for; raises ``ValueError`` for what is not a size."""
    if not re.match(QUANTITY_PATTERN, text):
        raise ValueError(f"{text!r} is not a size; one looks like 10Gi")
    number = text.rstrip("KMGTPEki")
    return int(Decimal(number) * _FACTORS[text[len(number) :]])
