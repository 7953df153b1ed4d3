"""What can be wrong with a copy's storage.

::

    StorageError
    ├── LogDamaged       bytes that were durable are not there, or not what was written
    ├── RecordDamaged    the record beside the log cannot be believed
    ├── StorageFailed    an fsync or a write failed: nothing after it can be trusted
    ├── NotWritten       the system refused a write, as a full disk does; all is as it was
    ├── LogRemoved       the position asked for is below the start of the log
    └── LogRefused       bytes that do not belong at the end of this log; nothing was written

The first three make the copy FAILED: it votes for nothing and is not counted (I5) until it is
filled anew. The others concern one request only; the copy stays what it was.
"""

from __future__ import annotations


class StorageError(Exception):
    """Base of everything that a copy's storage raises by itself."""


class LogDamaged(StorageError):
    """Bytes that were durable are missing or changed; the copy is FAILED."""


class RecordDamaged(StorageError):
    """The copy's record cannot be believed; the copy is FAILED."""


class StorageFailed(StorageError):
    """The operating system could not make something durable; the copy is FAILED."""


class NotWritten(StorageError):
    """Nothing changed, because the system refused; the same may succeed when there is room."""


class LogRemoved(StorageError):
    """The log asked for was removed; a peer may still have it."""


class LogRefused(StorageError):
    """Log that does not continue this copy's log; nothing was written."""
