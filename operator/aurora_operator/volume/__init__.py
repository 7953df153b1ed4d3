"""A storage pod's copy without an engine: the log, the record beside it, and the hub's state."""
