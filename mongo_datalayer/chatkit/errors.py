"""The errors of the ChatKit store, each also of the kind that ChatKit knows."""

from __future__ import annotations

from chatkit.store import NotFoundError as ChatKitNotFoundError

from mongo_datalayer.errors import MongoDataLayerError, NotFoundError
from mongo_datalayer.model.printable import printable


class MissingError(ChatKitNotFoundError, NotFoundError):
    """The thread, item or attachment is not among the owner's."""

    def __init__(self, message: str) -> None:
        # An app logs it, and browsers choose the ids in it.
        super().__init__(printable(message))


class UploadRefusedError(MongoDataLayerError, ValueError):
    """The file of an attachment is not taken: it is empty, too large, or not what was announced.

    Attributes:
        status: The HTTP status of the answer.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class AlreadyExistsError(MongoDataLayerError):
    """Something else is stored under the id; nothing was overwritten."""

    @classmethod
    def of_item(cls, item_id: str, thread_id: str) -> AlreadyExistsError:
        """The error for an item."""
        message = f"Another item {item_id!r} is stored in thread {thread_id!r}."
        if item_id == "__fake_id__":
            message += (
                " The Agents SDK gives this id to every message of a model that is reached by Chat "
                "Completions. Give its items ids of their own, as docs/chatkit.md shows under "
                '"Models reached by Chat Completions".'
            )
        return cls(message)
