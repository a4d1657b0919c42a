"""What people type for a source: a URL with any driver, or a path."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

from mongo_datalayer.errors import ConfigurationError

# People copy the URL of their app, with an asynchronous driver. A thread reads here.
_DRIVERS = {
    "postgresql": "postgresql+psycopg",
    "postgres": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
    "mariadb": "mysql+pymysql",
}
_MYSQL = frozenset({"mysql", "mariadb"})
_SSL_MODES = {"true": "require", "false": "disable"}
# Options of Prisma, asyncpg and poolers, for their own pools and caches.
_NOT_LIBPQS = frozenset({"schema", "pgbouncer", "connection_limit", "pool_timeout", "sslaccept"})
_NOT_LIBPQS |= {"socket_timeout", "statement_cache_size", "prepared_statement_cache_size", "supa"}
_NOT_LIBPQS |= {"prepared_statement_name_func", "max_cached_statement_lifetime", "timeout"}
_NOT_LIBPQS |= {"max_cacheable_statement_size", "command_timeout", "async_fallback"}
_SQLITE_HEADER = b"SQLite format 3\x00"
_GZIP_HEADER = b"\x1f\x8b"
_HELP = (
    "A source is postgresql://user:password@host/database, mysql://…, sqlite:///chainlit.db, "
    "dynamodb://TABLE, or the path of a SQLite database or of a file of JSON."
)


@dataclass(frozen=True)
class SourceAddress:
    """Where a source is.

    Attributes:
        kind: ``sql``, ``sqlite``, ``dynamodb``, ``dynamodb-export`` or ``json``.
        url: The URL for SQLAlchemy, with the driver this package uses; the table's name of
            ``dynamodb``.
        path: The file of ``sqlite`` and ``json``.
        identity: The address without user, password, driver and options.
        schema: The schema of PostgreSQL that has the tables, where the URL names one.
    """

    kind: str
    identity: str
    url: str = ""
    path: Path | None = None
    schema: str | None = None


def read_source(source: str) -> SourceAddress:
    """Understand what a person typed.

    Raises:
        ConfigurationError: it is no source, or there is no such file.
    """
    if not source:
        raise ConfigurationError(f"The source has no name. {_HELP}")
    scheme, separator, rest = source.partition("://")
    if not separator:
        return _file(Path(source).expanduser())
    dialect = scheme.lower().partition("+")[0]
    if dialect == "sqlite":
        # SQLAlchemy's form: three slashes begin a relative path, four an absolute one.
        return _file(Path(unquote(rest.partition("?")[0]).removeprefix("/")).expanduser())
    if dialect == "dynamodb":
        if not rest.partition("?")[0].strip("/"):
            raise ConfigurationError(f"The table has no name. {_HELP}")
        return SourceAddress("dynamodb", identity=source, url=rest.strip("/"))
    if dialect in _DRIVERS:
        return _server(dialect, source)
    hint = " That is where to move to: name it with --uri." if dialect.startswith("mongodb") else ""
    raise ConfigurationError(f"{scheme}:// is no source that can be read.{hint} {_HELP}")


def _server(dialect: str, source: str) -> SourceAddress:
    try:
        parts = urlsplit(source)
        port = "" if parts.port is None else f":{parts.port}"
    except ValueError as exc:
        raise ConfigurationError(f"The source's URL cannot be used. {_HELP}") from exc
    # Without the driver: the next run may name another one, and must find what this one recorded.
    name = _DRIVERS[dialect].partition("+")[0]
    identity = f"{name}://{parts.hostname or ''}{port}{parts.path}"
    query = parts.query if dialect in _MYSQL else _libpq_options(parts.query)
    url = urlunsplit((_DRIVERS[dialect], parts.netloc, parts.path, query, ""))
    schema = dict(parse_qsl(parts.query)).get("schema")  # Prisma's
    return SourceAddress("sql", identity, url, schema=schema)


def _libpq_options(query: str) -> str:
    """The options of a URL as libpq knows them; it refuses other names."""
    options = []
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name == "ssl":  # asyncpg's
            options.append(("sslmode", _SSL_MODES.get(value.lower(), value)))
        elif name not in _NOT_LIBPQS:
            options.append((name, value))
    return urlencode(options, quote_via=quote)


def _file(path: Path) -> SourceAddress:
    if not path.exists():
        raise ConfigurationError(f"There is no {path}. {_HELP}")
    identity = str(path.resolve())
    if path.is_dir():
        return SourceAddress("dynamodb-export", identity, path=path)
    with path.open("rb") as file:
        begin = file.read(len(_SQLITE_HEADER))
    if begin.startswith(_GZIP_HEADER):
        return SourceAddress("dynamodb-export", identity, path=path)
    return SourceAddress("sqlite" if begin == _SQLITE_HEADER else "json", identity, path=path)
