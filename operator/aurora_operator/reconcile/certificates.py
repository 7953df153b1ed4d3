"""The cluster's own certificate authority, and the certificates that it issues.

Elliptic keys on P-256. The authority lasts ten years and lies in a Secret; a pod's certificate
lasts one year and is renewed after two thirds of it, without a restart (agents read it again).
A certificate's common name is a role, its organisation the cluster, its alternative names the
names that the pod is reached by.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_AUTHORITY_LIFE: Final = timedelta(days=3650)
_LEAF_LIFE: Final = timedelta(days=365)
_CLOCK_SKEW: Final = timedelta(minutes=10)
"""Certificates begin a little in the past: nodes' clocks differ."""


@dataclass(frozen=True)
class KeyPair:
    """A certificate and its key, both as PEM."""

    certificate_pem: bytes
    key_pem: bytes


@dataclass(frozen=True)
class Authority:
    """The authority of one cluster."""

    certificate_pem: bytes
    key_pem: bytes

    def issue(
        self, *, role: str, organisation: str, names: Sequence[str], now: datetime
    ) -> KeyPair:
        """A certificate for ``names``."""
        issuer = x509.load_pem_x509_certificate(self.certificate_pem)
        issuer_key = serialization.load_pem_private_key(self.key_pem, password=None)
        if not isinstance(issuer_key, ec.EllipticCurvePrivateKey):
            raise TypeError("the authority's key is not an elliptic one; delete the CA Secret")
        key = ec.generate_private_key(ec.SECP256R1())
        builder = (
            _builder(_subject(role, organisation), issuer.subject, key, now, _LEAF_LIFE)
            .add_extension(
                x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False
            )
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage(
                    [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
                ),
                critical=False,
            )
            .add_extension(_usage(authority=False), critical=True)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()),
                critical=False,
            )
        )
        return KeyPair(_pem(builder.sign(issuer_key, hashes.SHA256())), _key_pem(key))


def organisation_name(namespace: str, cluster: str) -> str:
    """The organisation in all certificates of one cluster."""
    return f"{namespace}/{cluster}"


def make_authority(organisation: str, now: datetime) -> Authority:
    """A new authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _subject("authority", organisation)
    builder = (
        _builder(name, name, key, now, _AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(authority=True), critical=True)
    )
    return Authority(_pem(builder.sign(key, hashes.SHA256())), _key_pem(key))


def renew_after(certificate_pem: bytes) -> datetime:
    """When two thirds of a certificate's life are over."""
    certificate = x509.load_pem_x509_certificate(certificate_pem)
    life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    return certificate.not_valid_before_utc + life * 2 / 3


def needs_renewal(
    pair: KeyPair, authority: Authority, names: Sequence[str], now: datetime
) -> str | None:
    """Why a stored certificate must be replaced, if it must."""
    try:
        certificate = x509.load_pem_x509_certificate(pair.certificate_pem)
        issuer = x509.load_pem_x509_certificate(authority.certificate_pem)
        held = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, x509.ExtensionNotFound) as error:
        return f"it cannot be read ({error})"
    except InvalidSignature:
        return "another authority issued it"
    if set(held.value.get_values_for_type(x509.DNSName)) != set(names):
        return "its names have changed"
    if now >= renew_after(pair.certificate_pem):
        return "two thirds of its life are over"
    return None


def _subject(role: str, organisation: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation),
            x509.NameAttribute(NameOID.COMMON_NAME, role),
        ]
    )


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    now: datetime,
    life: timedelta,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + life)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
