"""`make demo`: from a bare machine to a cluster whose writer is killed before your eyes."""
