"""Finds out what a source is, and opens it."""

from __future__ import annotations

from mongo_datalayer.errors import ConfigurationError
from mongo_datalayer.migrate.chainlit_rows import Reading
from mongo_datalayer.migrate.dynamodb import DynamoDBSource, read_export, scan_table
from mongo_datalayer.migrate.literalai import LiteralAISource
from mongo_datalayer.migrate.options import Options
from mongo_datalayer.migrate.records import Source
from mongo_datalayer.migrate.reflection import NameMapping
from mongo_datalayer.migrate.source_urls import SourceAddress, read_source

EXTRA = "Reading it needs an extra: pip install 'mongo-datalayer[migrate]'."


def open_source(source: str, options: Options) -> Source:
    """Open what a URL or a path names.

    Raises:
        ConfigurationError: it is no source, cannot be read, or needs a package that is missing.
    """
    address = read_source(source)
    reading, names = options.reading(), options.names()
    if address.kind == "json" and address.path is not None:
        return LiteralAISource(address.path, reading)
    if address.kind == "dynamodb":
        items, kind = scan_table(address.url), "Chainlit's DynamoDB layer"
        return DynamoDBSource(items, kind, address.identity, reading)
    if address.kind == "dynamodb-export" and address.path is not None:
        items, kind = read_export(address.path), "An export of Chainlit's DynamoDB layer"
        return DynamoDBSource(items, kind, address.identity, reading)
    try:
        return _open_sql(address, names, reading)
    except ModuleNotFoundError as exc:
        raise ConfigurationError(f"{exc.name} is not installed. {EXTRA}") from exc


def _open_sql(address: SourceAddress, names: NameMapping, reading: Reading) -> Source:
    # SQLAlchemy is an extra, and all commands are loaded where their help is shown.
    from mongo_datalayer.migrate.chatkit_sqlite import ChatKitSource, is_chatkit
    from mongo_datalayer.migrate.sql_snapshot import SqlSnapshot
    from mongo_datalayer.migrate.sql_source import SqlSource

    snapshot = SqlSnapshot(address)
    # Asked first: both have a table `threads`, and Chainlit's needs only its id.
    if is_chatkit(snapshot):
        return ChatKitSource(snapshot, address.identity)
    return SqlSource(snapshot, address.identity, names, reading)
