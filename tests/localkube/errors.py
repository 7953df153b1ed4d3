"""The one error that the local cluster raises for reasons a person can act on."""


class LocalKubeError(RuntimeError):
    """Says what happened, what it means and what to do; printed without a traceback."""
