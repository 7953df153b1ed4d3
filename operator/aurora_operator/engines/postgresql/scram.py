"""SCRAM-SHA-256 verifiers, as PostgreSQL stores passwords (RFC 5802, RFC 7677).

Making the verifier here keeps the password out of every statement and log; checking one tells
whether the password in a Secret is still the one that the server knows.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import stringprep
import unicodedata
from typing import Final

_SCHEME: Final = "SCRAM-SHA-256"
_ITERATIONS: Final = 4096
_SALT_BYTES: Final = 16


def scram_verifier(password: str) -> str:
    """A verifier with a new random salt."""
    return _verifier(password, secrets.token_bytes(_SALT_BYTES), _ITERATIONS)


def matches_verifier(password: str, verifier: str) -> bool:
    """Whether ``verifier`` was made from ``password``; false for any other kind of verifier."""
    try:
        scheme, salted, _ = verifier.split("$")
        iterations, _, salt = salted.partition(":")
        if scheme != _SCHEME:
            return False
        again = _verifier(password, base64.b64decode(salt, validate=True), int(iterations))
    except ValueError:
        return False
    return hmac.compare_digest(again, verifier)


def _verifier(password: str, salt: bytes, iterations: int) -> str:
    salted = hashlib.pbkdf2_hmac("sha256", prepared(password).encode(), salt, iterations)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    stored_key = hashlib.sha256(client_key).digest()
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    keys = f"{_base64(stored_key)}:{_base64(server_key)}"
    return f"{_SCHEME}${iterations}:{_base64(salt)}${keys}"


def prepared(password: str) -> str:
    """SASLprep (RFC 4013); like PostgreSQL, a password that it forbids is used as it is."""
    mapped = "".join(
        " " if stringprep.in_table_c12(c) else c for c in password if not stringprep.in_table_b1(c)
    )
    normal = unicodedata.ucd_3_2_0.normalize("NFKC", mapped)
    if not normal or any(_is_prohibited(c) for c in normal) or not _is_one_direction(normal):
        return password
    return normal


def _is_prohibited(character: str) -> bool:
    tables = (
        stringprep.in_table_a1,
        stringprep.in_table_c12,
        stringprep.in_table_c21_c22,
        stringprep.in_table_c3,
        stringprep.in_table_c4,
        stringprep.in_table_c5,
        stringprep.in_table_c6,
        stringprep.in_table_c7,
        stringprep.in_table_c8,
        stringprep.in_table_c9,
    )
    return any(is_in_table(character) for is_in_table in tables)


def _is_one_direction(text: str) -> bool:
    """Right-to-left text must begin and end so, and hold no left-to-right letters."""
    if not any(stringprep.in_table_d1(c) for c in text):
        return True
    edges = stringprep.in_table_d1(text[0]) and stringprep.in_table_d1(text[-1])
    return edges and not any(stringprep.in_table_d2(c) for c in text)


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()
