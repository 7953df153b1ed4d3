"""The master user's password when the user gives it: read from his Secret, and checked."""

from __future__ import annotations

from typing import Any, Final

from aurora_operator.api.cluster import SecretKeyRef
from aurora_operator.resources.secrets import secret_content

_LENGTH_MIN: Final = 8
_LENGTH_MAX: Final = 128
_EXCLUDED: Final = '/"@'
"""As in RDS: they would have to be escaped in connection strings."""


def read_user_password(
    reference: SecretKeyRef, secret: dict[str, Any] | None
) -> tuple[str | None, str | None]:
    """The password, or what is wrong with it."""
    where = f"Secret {reference.name}, key {reference.key}"
    if secret is None:
        return None, (
            f"masterUserPassword names {where}, and there is no such Secret in this namespace. "
            "Create it, or leave masterUserPassword out to have a password made"
        )
    value = secret_content(secret).get(reference.key)
    if value is None:
        return None, (
            f"masterUserPassword names {where}, and the Secret has no such key. Add the key"
        )
    password = value.decode(errors="replace").rstrip("\n")
    fits = _LENGTH_MIN <= len(password) <= _LENGTH_MAX
    if not fits or any(not "!" <= sign <= "~" or sign in _EXCLUDED for sign in password):
        return None, (
            f"the password in {where} cannot be used: it needs {_LENGTH_MIN} to {_LENGTH_MAX} "
            f"printable ASCII characters, and none of {' '.join(_EXCLUDED)} or blank"
        )
    return password, None
