"""Pages of threads and items as ChatKit asks for them and takes them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from chatkit.types import Page

from mongo_datalayer.chatkit.queries import PageRequest
from mongo_datalayer.errors import StorageError
from mongo_datalayer.model.bson_values import to_id
from mongo_datalayer.model.documents import Document
from mongo_datalayer.mongodb.logger import get_logger
from mongo_datalayer.storage.conversion import converted

logger = get_logger(__name__)

# What a document raises that is read but was edited by hand. pydantic's is the first.
_DAMAGE = (ValueError, TypeError, KeyError, AttributeError)

MAX_LIMIT = 2**31 - 2
"""Most threads or items on one page: the server's ``$limit``, less one to see if there are more."""


def page_request(limit: int, after: str | None, order: str) -> PageRequest:
    """What to ask the database for: one more than ``limit``, which shows that there is more."""
    if order not in ("asc", "desc"):
        raise ValueError(f"order is 'asc' or 'desc', not {order!r}.")
    limit = min(max(limit, 1), MAX_LIMIT) + 1
    return PageRequest(to_id(after) if after else None, limit, order == "desc")


async def read_page(
    stored: list[Document], request: PageRequest, read: Callable[[Document], Any]
) -> Page[Any]:
    """A page of what was found; a damaged document is left out, and does not hide the others."""
    page = stored[: request.limit - 1]
    data = await converted(partial(_read_all, read), page)
    has_more = len(stored) == request.limit
    return Page(data=data, has_more=has_more, after=_id_of(page[-1]) if has_more else None)


async def read_one(stored: Document, read: Callable[[Document], Any]) -> Any:
    """One thread, item or attachment.

    Raises:
        StorageError: it was edited by hand, or this version of ChatKit does not know it.
    """
    try:
        return await converted(read, stored)
    except _DAMAGE as exc:
        # Not with pydantic's text, which quotes the conversation.
        raise StorageError(
            f"What is stored of {_id_of(stored)!r} cannot be read: {type(exc).__name__}. It is "
            "damaged, or made by a newer ChatKit."
        ) from exc


def _read_all(read: Callable[[Document], Any], page: list[Document]) -> list[Any]:
    data = []
    for document in page:
        try:
            data.append(read(document))
        except _DAMAGE as exc:
            logger.warning("Damaged, and left out: %r. %s", _id_of(document), type(exc).__name__)
    return data


def _id_of(stored: Document) -> str:
    return str(stored["id"] if "id" in stored else stored["_id"]["id"])
