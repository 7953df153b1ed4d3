"""How long properties are searched for counterexamples.

The profile ``steady`` searches the same examples every time (as long as the same modules are
loaded), so that a failure is hardly ever news about the weather; developers search further with
``pytest tests/property --hypothesis-profile=thorough`` (two minutes of a core).
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings

_CHECKS = (HealthCheck.too_slow, HealthCheck.function_scoped_fixture)

settings.register_profile(
    "steady", derandomize=True, max_examples=150, deadline=None, suppress_health_check=_CHECKS
)
settings.register_profile(
    "thorough", max_examples=5000, deadline=None, suppress_health_check=_CHECKS
)
if settings.get_current_profile_name() != "thorough":
    settings.load_profile("steady")
