"""Every error this package raises on its own account.

::

    MongoDataLayerError
    ├── ConfigurationError    (also ValueError)   a setting is missing or wrong
    ├── InvalidCursorError    (also ValueError)   a page cursor that this package did not make
    ├── InvalidIdError        (also ValueError)   an id that is empty or too long
    ├── ExportFormatError     (also ValueError)   a file that is not a whole export
    ├── NotFoundError         (also LookupError)  what should be changed is not there
    ├── StorageError          (also OSError)      a storage client failed to keep or serve a file
    ├── SearchTimeoutError    (also TimeoutError) a keyword search took too long
    ├── SourceError           (also OSError)      a migration's source could not be read to its end
    ├── MigrationConflictError                    a migration met something else in the target
    └── ServerError           (also RuntimeError) a local mongod could not be found or started

Errors of the database itself reach the caller as the driver raises them
(:class:`pymongo.errors.PyMongoError`): a failed operation never looks like an empty result.
"""

from __future__ import annotations


class MongoDataLayerError(Exception):
    """Base of every error raised by this package."""


class ConfigurationError(MongoDataLayerError, ValueError):
    """A setting is missing or wrong; the message names it and what to set."""


class InvalidCursorError(MongoDataLayerError, ValueError):
    """A page cursor that this package did not make."""


class InvalidIdError(MongoDataLayerError, ValueError):
    """An id that is longer than ids may be, or empty where something is written."""


class ExportFormatError(MongoDataLayerError, ValueError):
    """A file that is not a whole, unchanged export of this package; the message says why."""


class NotFoundError(MongoDataLayerError, LookupError):
    """The thread or step that should be changed does not exist, or was deleted."""


class StorageError(MongoDataLayerError, OSError):
    """A storage client failed to keep, serve or delete a file."""


class SearchTimeoutError(MongoDataLayerError, TimeoutError):
    """A keyword search took longer than a search may, and was stopped."""


class SourceError(MongoDataLayerError, OSError):
    """The source of a migration could not be read to its end."""


class MigrationConflictError(MongoDataLayerError):
    """A migration met something else under the same id, and was told to stop there."""


class ServerError(MongoDataLayerError, RuntimeError):
    """A local mongod could not be found, started or stopped."""
