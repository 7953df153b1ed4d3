"""Command lines: where the parts are wired together."""
