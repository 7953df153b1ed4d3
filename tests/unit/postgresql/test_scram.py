"""Password verifiers."""

from __future__ import annotations

import pytest

from aurora_operator.engines.postgresql.scram import matches_verifier, prepared, scram_verifier


@pytest.mark.parametrize("password", ["secret", "", "pässwörd", "ﬁ Ⅸ", "a\u00adb", "x" * 2000])
def test_a_verifier_matches_its_password_only(password: str) -> None:
    verifier = scram_verifier(password)
    assert matches_verifier(password, verifier)
    assert not matches_verifier(password + "x", verifier)
    assert scram_verifier(password) != verifier, "every verifier has its own salt"


@pytest.mark.parametrize(
    "verifier", ["", "md5abc", "SCRAM-SHA-256$x", "SCRAM-SHA-256$4096:??$a:b", "MD5$1:eA==$a:b"]
)
def test_anything_else_does_not_match(verifier: str) -> None:
    assert not matches_verifier("secret", verifier)


@pytest.mark.parametrize(
    ("password", "result"),
    [("a\u00adb", "ab"), ("\u2168", "IX"), ("a\u00a0b", "a b"), ("bell\u0007", "bell\u0007")],
    ids=["soft-hyphen", "compatibility", "space", "forbidden-stays"],
)
def test_saslprep(password: str, result: str) -> None:
    assert prepared(password) == result
