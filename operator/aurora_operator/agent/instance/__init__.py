"""An instance: a cache of the volume with a PostgreSQL server on top, replica or writer."""
