"""Sizes: what people write, and what the API server makes of it."""

from __future__ import annotations

import pytest

from aurora_operator.core.cluster.quantity import parse_quantity_bytes, whole_quantity

SIZES = {
    "10Gi": 10 * 2**30,
    "1.1Gi": 1181116007,
    "1181116006400m": 1181116007,
    "1181116006400000u": 1181116007,
    "1n": 1,
    "12e6": 12_000_000,
    "1E": 10**18,
    "5k": 5000,
    "0": 0,
}


@pytest.mark.parametrize("text", SIZES)
def test_every_form_of_a_size_is_read_and_rounded_up(text: str) -> None:
    assert parse_quantity_bytes(text) == SIZES[text]


@pytest.mark.parametrize("text", ["big", "", "10GiB", "-1Gi", "1 Gi"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        parse_quantity_bytes(text)


def test_only_whole_numbers_are_asked_for() -> None:
    assert whole_quantity("1.1Gi") == "1181116007"
    assert whole_quantity("10Gi") == "10Gi"
