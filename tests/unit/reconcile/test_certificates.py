"""The authority: what it issues is trusted, says whose it is, and is renewed in time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509

from aurora_operator.reconcile.certificates import (
    Authority,
    KeyPair,
    make_authority,
    needs_renewal,
    renew_after,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
NAMES = ("shop-storage-0", "shop-storage-0.shop-storage.ns.svc")


@pytest.fixture(scope="module")
def authority() -> Authority:
    return make_authority("ns/shop", NOW)


@pytest.fixture(scope="module")
def pair(authority: Authority) -> KeyPair:
    return authority.issue(role="storage", organisation="ns/shop", names=NAMES, now=NOW)


def test_a_certificate_says_role_cluster_and_names(authority: Authority, pair: KeyPair) -> None:
    certificate = x509.load_pem_x509_certificate(pair.certificate_pem)
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(authority.certificate_pem))
    assert certificate.subject.rfc4514_string() == "CN=storage,O=ns/shop"
    held = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert tuple(held.get_values_for_type(x509.DNSName)) == NAMES


def test_it_is_renewed_after_two_thirds_of_its_life(authority: Authority, pair: KeyPair) -> None:
    moment = renew_after(pair.certificate_pem)
    assert timedelta(days=240) < moment - NOW < timedelta(days=247)
    before, after = moment - timedelta(seconds=1), moment
    assert needs_renewal(pair, authority, NAMES, before) is None
    assert needs_renewal(pair, authority, NAMES, after) == "two thirds of its life are over"


def test_it_is_renewed_when_names_or_authority_change(authority: Authority, pair: KeyPair) -> None:
    other = make_authority("ns/shop", NOW)
    assert needs_renewal(pair, authority, (*NAMES, "new"), NOW) == "its names have changed"
    assert needs_renewal(pair, other, NAMES, NOW) == "another authority issued it"
    broken = KeyPair(b"nonsense", pair.key_pem)
    assert str(needs_renewal(broken, authority, NAMES, NOW)).startswith("it cannot be read")
