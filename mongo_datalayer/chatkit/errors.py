"""The errors of the ChatKit store, each also of the kind that ChatKit knows."""

from __future__ import annotations

from chatkit.store import NotFoundError as ChatKitNotFoundError

from mongo_datalayer.errors import MongoDataLayerError, NotFoundError


class MissingError(ChatKitNotFoundError, NotFoundError):
    """The thread, item or attachment is not among the owner's."""


class AlreadyExistsError(MongoDataLayerError):
    """Something else is stored under the id; nothing was overwritten."""
