"""A storage pod: one copy of the volume, the gate that serves it, and a page store behind it."""
