"""PraisonAI's ``SQLAlchemyDataLayer`` on MongoDB: its arguments, its methods, what they return.

What differs stands in the tables of ``docs/praisonai.md``.
"""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING, Any, NoReturn, cast
from urllib.parse import urlsplit, urlunsplit

from chainlit.types import PageInfo, PaginatedResponse, Pagination, ThreadFilter

from mongo_datalayer.chainlit.data_layer import MongoDataLayer
from mongo_datalayer.errors import ConfigurationError, MongoDataLayerError
from mongo_datalayer.model.bson_values import to_id
from mongo_datalayer.model.times import iso, now

if TYPE_CHECKING:
    from chainlit.data.storage_clients.base import BaseStorageClient
    from chainlit.types import ThreadDict

AT_ONCE = 20
"""How many whole threads are read at the same time."""

_SQL = frozenset({"sqlite", "postgresql", "postgres", "mysql", "mariadb"})
_CLIENT_METHODS = ("upload_file", "get_read_url", "delete_file", "close")
_NO_SQL = (
    "There is no SQL in MongoDB. Use the methods of the data layer, or PyMongo on the same URI; "
    "docs/data-model.md of mongo-datalayer shows the documents."
)


class SQLAlchemyDataLayer(MongoDataLayer):
    """PraisonAI's data layer, with the conversations in MongoDB.

    Args:
        conninfo: A MongoDB URI.
        ssl_require: Connect with TLS. The server's certificate is checked.
        storage_provider: Where the files of elements go: any Chainlit storage client. None for
            GridFS in the same database.
        user_thread_limit: How many threads :meth:`get_all_user_threads` returns at most; None for
            all.
        show_logger: Accepted, and without effect: the logger ``pymongo.command`` shows every
            command.
        options: Other arguments of :class:`~mongo_datalayer.MongoDataLayer`: ``database`` and
            ``search_index``, for example.

    Attributes:
        user_thread_limit: As given.
        show_logger: As given.

    Raises:
        ConfigurationError: ``conninfo`` is a SQL database, which the message tells how to move, or
            no MongoDB URI; or ``storage_provider`` is none of Chainlit's storage clients.
    """

    def __init__(
        self,
        conninfo: str,
        ssl_require: bool = False,
        storage_provider: BaseStorageClient | None = None,
        user_thread_limit: int | None = 1000,
        show_logger: bool | None = False,
        **options: Any,
    ) -> None:
        _refuse_sql(conninfo)
        _check_storage(storage_provider)
        self._conninfo = conninfo
        self.user_thread_limit = user_thread_limit
        self.show_logger = show_logger
        super().__init__(
            _with_tls(conninfo) if ssl_require else conninfo,
            # By creation, as PraisonAI's lists are.
            **{"storage_client": storage_provider, "order_by": "creation", **options},
        )

    @classmethod
    def from_env(cls, **_options: Any) -> NoReturn:
        """Always raises: the other class reads the environment.

        Raises:
            MongoDataLayerError: with its name.
        """
        raise MongoDataLayerError("DatabaseManager() takes its settings from the environment.")

    @property
    def storage_provider(self) -> BaseStorageClient:
        """Where the files of elements go."""
        return self.storage_client

    async def get_thread_author(self, thread_id: str) -> str:
        """The identifier of the thread's owner.

        Raises:
            ValueError: there is no such thread, or it has no owner.
        """
        author = await super().get_thread_author(thread_id)
        if not author:
            raise ValueError(f"Author not found for thread_id {thread_id}")
        return author

    async def get_all_user_threads(
        self, user_id: str | None = None, thread_id: str | None = None
    ) -> list[ThreadDict] | None:
        """Whole threads, newest first: of a user, with an id, or of everybody.

        Each thread is one command, and all of them are in memory.

        Args:
            user_id: Only threads of this user.
            thread_id: Only the thread with this id.
        """
        if thread_id is not None:
            thread = await self.get_thread(thread_id)
            owned = user_id is None or (thread is not None and thread["userId"] == to_id(user_id))
            return [thread] if thread is not None and owned else []
        limit = self.user_thread_limit
        owner = None if user_id is None else to_id(user_id)
        ids = await self._connection.read(
            lambda: self._threads.lists.newest(owner, limit=limit, time_field=self._time_field)
        )
        return await self._whole_threads(ids)

    async def list_threads(
        self, pagination: Pagination, filters: ThreadFilter
    ) -> PaginatedResponse[ThreadDict]:
        """A page of a user's threads, newest first, with steps and elements.

        Args:
            pagination: ``first`` is at most
                :data:`~mongo_datalayer.chainlit.data_layer.PAGE_LIMIT`; ``cursor`` is the id of
                the last thread of the page before. With any other text the first page returns.
            filters: As of :meth:`MongoDataLayer.list_threads`.

        Raises:
            ValueError: ``userId`` is missing, or the search text is too long.
        """
        cursor = None
        if pagination.cursor and filters.userId:
            user_id, last = to_id(filters.userId), to_id(pagination.cursor)
            cursor = await self._connection.read(
                lambda: self._threads.lists.cursor_after(user_id, last, time_field=self._time_field)
            )
        place = Pagination(first=pagination.first, cursor=cursor.encode() if cursor else None)
        page = await super().list_threads(place, filters)
        threads = await self._whole_threads([entry["id"] for entry in page.data])
        ends = (threads[0]["id"], threads[-1]["id"]) if threads else (None, None)
        info = PageInfo(page.pageInfo.hasNextPage, *ends)
        return PaginatedResponse(pageInfo=info, data=threads)

    async def delete_feedback(self, feedback_id: str) -> bool:
        """Remove feedback; True also when there was none with this id."""
        await super().delete_feedback(feedback_id)
        return True

    async def get_current_timestamp(self) -> str:
        """The current time as ISO 8601 text, in UTC."""
        return iso(now())

    def clean_result(self, obj: Any) -> Any:
        """``obj`` with every UUID in its maps and lists as text."""
        if isinstance(obj, dict):
            return {key: self.clean_result(value) for key, value in obj.items()}
        if isinstance(obj, list):
            return [self.clean_result(item) for item in obj]
        return str(obj) if isinstance(obj, uuid.UUID) else obj

    async def execute_sql(
        self, query: str, parameters: dict[str, Any], expand: str | None = None
    ) -> NoReturn:
        """Always raises: MongoDB takes no SQL.

        Raises:
            MongoDataLayerError: with what to use in its place.
        """
        raise MongoDataLayerError(f"execute_sql cannot run {query!r:.80}. {_NO_SQL}")

    @property
    def engine(self) -> NoReturn:
        """Not there, so ``hasattr`` is false."""
        raise AttributeError(f"This data layer has no engine. {_NO_SQL}")

    @property
    def async_session(self) -> NoReturn:
        """Not there, so ``hasattr`` is false."""
        raise AttributeError(f"This data layer has no async_session. {_NO_SQL}")

    async def _whole_threads(self, thread_ids: list[str]) -> list[ThreadDict]:
        """The threads that are still there, in this order."""
        threads: list[ThreadDict | None] = []
        for start in range(0, len(thread_ids), AT_ONCE):
            some = thread_ids[start : start + AT_ONCE]
            threads += await asyncio.gather(*map(self.get_thread, some))
        return [thread for thread in threads if thread is not None]


def _refuse_sql(conninfo: object) -> None:
    """Raise ConfigurationError, with the command that moves the data, for a SQL database."""
    scheme = conninfo.partition("://")[0] if isinstance(conninfo, str) else ""
    if scheme.lower().partition("+")[0] not in _SQL:
        return
    # A message ends up in logs: the password does not.
    parts = urlsplit(cast("str", conninfo))
    login, at, host = parts.netloc.rpartition("@")
    netloc = f"{login.partition(':')[0]}:***@{host}" if at and ":" in login else parts.netloc
    # Put together by hand: urlunsplit drops the slashes of sqlite:///file.
    shown = f"{scheme}://{netloc}{parts.path}"
    raise ConfigurationError(
        f"{shown} is a SQL database, and this data layer keeps conversations in MongoDB. Move "
        f"them: mongo-datalayer migrate run '{shown}' --uri mongodb://localhost:27017, and then "
        "give the MongoDB URI here."
    )


def _check_storage(storage_provider: object) -> None:
    """Raise ConfigurationError unless it has the methods of Chainlit's storage clients.

    PraisonAI's own LocalFileStorageClient has no links but ``file://``, which no browser follows.
    """
    missing = [name for name in _CLIENT_METHODS if not hasattr(storage_provider, name)]
    if storage_provider is not None and missing:
        raise ConfigurationError(
            f"storage_provider={type(storage_provider).__name__} has no {' and no '.join(missing)}."
            " Leave it out to keep files in MongoDB, or give one of Chainlit's storage clients."
        )


def _with_tls(conninfo: str) -> str:
    """The URI with TLS.

    Raises:
        ConfigurationError: it switches TLS off.
    """
    parts = urlsplit(conninfo)
    options = [option for option in parts.query.split("&") if option]
    wanted = [o.lower() for o in options if o.partition("=")[0].lower() in {"tls", "ssl"}]
    if any(not option.endswith("=true") for option in wanted):
        raise ConfigurationError(
            "ssl_require=True, and the URI says tls=false: remove one of them."
        )
    if not wanted:
        options.append("tls=true")
    # MongoDB's options begin after a slash.
    return urlunsplit(parts._replace(path=parts.path or "/", query="&".join(options)))
