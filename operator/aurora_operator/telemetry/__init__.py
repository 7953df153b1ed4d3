"""Every metric, and the one format of the log."""
