"""The only place that knows Kopf: it turns the watch into wake-ups of loops, nothing more."""
