"""The files of a source's elements, by object key: below one folder, or in one storage.

An object key holds names that users chose. Nothing outside of the folder is ever opened, and no
URL that the source stored is ever followed.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator, Mapping
from importlib import import_module
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, NamedTuple, Protocol
from urllib.parse import parse_qsl, urlsplit

from mongo_datalayer.errors import ConfigurationError, StorageError
from mongo_datalayer.files.upload_source import Source as FileContent

READ_TIMEOUT_SECONDS = 60.0


class MissingFileError(Exception):
    """There is no such file, or it may not be read; the message says which."""


class RefusedFileError(MissingFileError):
    """A key that leads to no file of the folder; what it leads to is not looked at."""


class ElementFiles(Protocol):
    """Where files are."""

    async def open(self, object_key: str) -> FileContent:
        """The content of a file; an open one is closed by :func:`close_content`.

        Raises:
            MissingFileError: there is none, or it may not be read.
        """


class FolderFiles:
    """Files below one folder.

    Args:
        folder: The folder. PraisonAI's may also be the one that holds ``.files``.

    Raises:
        ConfigurationError: it is no folder.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise ConfigurationError(f"{folder} is no folder of files.")
        inner = folder / ".files"
        self._folder = inner if inner.is_dir() and not inner.is_symlink() else folder

    async def open(self, object_key: str) -> FileContent:
        """The file, open for reading.

        Raises:
            MissingFileError: there is none, or the key leads out of the folder.
        """
        return await asyncio.to_thread(self._open, object_key)

    def _open(self, object_key: str) -> BinaryIO:
        parts = PurePosixPath(object_key).parts
        if not parts or object_key.startswith("/") or "\0" in object_key or ".." in parts:
            raise RefusedFileError("its key leads out of the folder")
        # On Windows a backslash separates folders, which PurePosixPath does not see.
        if "\\" in object_key and os.name == "nt":
            raise RefusedFileError("its key leads out of the folder")
        # Folder by folder, each opened in the one before: no part of the way can be a link, even
        # if somebody makes it one while it is read.
        opened = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            for part in parts[:-1]:
                inner = os.open(part, _FOLDER, dir_fd=opened)
                os.close(opened)
                opened = inner
            file = os.open(parts[-1], _FILE, dir_fd=opened)
        except OSError as exc:
            raise _refusal(exc) from exc
        finally:
            os.close(opened)
        if not stat.S_ISREG(os.fstat(file).st_mode):
            os.close(file)
            raise RefusedFileError("it is no regular file")
        return os.fdopen(file, "rb")


_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)
# O_NONBLOCK: opening a named pipe would wait for its writer.
_FILE = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


class StorageFiles:
    """Files in a storage, read with one of Chainlit's storage clients.

    The client makes the link by which a file is read, from the object key alone.

    Args:
        client: The storage client.
    """

    def __init__(self, client: Any) -> None:
        self._client = client

    async def open(self, object_key: str) -> FileContent:
        """The file's content, as it arrives.

        Raises:
            MissingFileError: the storage has no such file.
            StorageError: the storage cannot be read.
        """
        try:
            url = await self._client.get_read_url(object_key)
        except Exception as exc:
            raise StorageError(f"The storage made no link for {object_key!r}: {exc}") from exc
        if not isinstance(url, str) or urlsplit(url).scheme not in {"http", "https"}:
            raise StorageError(f"The storage made no link for {object_key!r}.")
        pieces = _download(url, object_key)
        first = await anext(pieces, b"")  # a missing file must be noticed before it is stored
        return _joined(first, pieces)


async def _download(url: str, object_key: str) -> AsyncIterator[bytes]:
    import httpx

    async with (
        httpx.AsyncClient(timeout=READ_TIMEOUT_SECONDS) as client,
        client.stream("GET", url) as response,
    ):
        # S3 says 403 for a missing file where the login may not list the bucket.
        if response.status_code in {403, 404}:
            raise MissingFileError("it is not in the storage")
        if response.status_code != 200:
            raise StorageError(f"The storage answered {response.status_code} for {object_key!r}.")
        async for piece in response.aiter_bytes():
            yield piece


async def _joined(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in rest:
        yield piece


class _Storage(NamedTuple):
    """A kind of storage: Chainlit's client for it, and the variables that Chainlit reads."""

    client: str
    package: str
    variables: Mapping[str, str]
    required: bool = False


_STORAGES: Mapping[str, _Storage] = {
    "s3": _Storage(
        "s3.S3StorageClient",
        "boto3",
        {
            "region_name": "APP_AWS_REGION",
            "aws_access_key_id": "APP_AWS_ACCESS_KEY",
            "aws_secret_access_key": "APP_AWS_SECRET_KEY",
            "endpoint_url": "DEV_AWS_ENDPOINT",
        },
    ),
    "gs": _Storage(
        "gcs.GCSStorageClient",
        "google-cloud-storage",
        {
            "project_id": "APP_GCS_PROJECT_ID",
            "client_email": "APP_GCS_CLIENT_EMAIL",
            "private_key": "APP_GCS_PRIVATE_KEY",
        },
    ),
    "azure": _Storage(
        "azure_blob.AzureBlobStorageClient",
        "azure-storage-blob aiohttp",
        {
            "storage_account": "APP_AZURE_STORAGE_ACCOUNT",
            "storage_key": "APP_AZURE_STORAGE_ACCESS_KEY",
        },
        required=True,
    ),
}


def open_storage(url: str) -> StorageFiles:
    """The files of ``s3://BUCKET``, ``gs://BUCKET`` or ``azure://CONTAINER``.

    Credentials are taken from the variables that Chainlit reads for its official layer; boto3 and
    Google's library know more places. What follows ``?`` goes to the client, ``endpoint_url`` say.

    Raises:
        ConfigurationError: it is another kind of storage, its library is not installed, or it has
            no credentials.
    """
    parts = urlsplit(url)
    storage = _STORAGES.get(parts.scheme)
    if storage is None or not parts.netloc:
        raise ConfigurationError(
            f"{url} is no storage that can be named here: use s3://BUCKET, gs://BUCKET or "
            "azure://CONTAINER. From another one, copy the files to a folder and use --files, or "
            "give Chainlit's storage client to mongo_datalayer.migrate.run in Python."
        )
    found = {name: os.environ.get(variable) for name, variable in storage.variables.items()}
    options = {name: value for name, value in found.items() if value}
    options |= dict(parse_qsl(parts.query))
    missing = [storage.variables[name] for name in storage.variables if name not in options]
    if storage.required and missing:
        raise ConfigurationError(f"{parts.scheme}:// needs {' and '.join(missing)} to be set.")
    module, _, name = storage.client.partition(".")
    try:
        # By name, as Chainlit takes seconds to load and few migrations need it.
        client = getattr(import_module(f"chainlit.data.storage_clients.{module}"), name)
    except ModuleNotFoundError as exc:
        raise ConfigurationError(
            f"{parts.scheme}:// is read with another library: pip install {storage.package}."
        ) from exc
    try:
        return StorageFiles(client(parts.netloc, **options))
    except Exception as exc:  # any library's own errors
        raise ConfigurationError(
            f"{parts.scheme}://{parts.netloc} cannot be opened: {exc}"
        ) from exc


def close_content(content: FileContent) -> None:
    """Close an open file."""
    close = getattr(content, "close", None)
    if close is not None:
        close()


def _refusal(exc: OSError) -> MissingFileError:
    if isinstance(exc, FileNotFoundError):
        return MissingFileError("it is not in the folder")
    if exc.strerror and "symbolic link" in exc.strerror:
        return RefusedFileError("its key leads through a symbolic link")
    return RefusedFileError((exc.strerror or "it cannot be read").lower())
