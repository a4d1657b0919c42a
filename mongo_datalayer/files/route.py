"""The HTTP route that serves stored files to the holders of valid links."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol, runtime_checkable

from starlette.convertors import PathConvertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from mongo_datalayer.errors import StorageError
from mongo_datalayer.files.bucket import FileBucket
from mongo_datalayer.files.http_headers import file_headers, protecting_headers
from mongo_datalayer.files.links import FILES_PATH, FileLinks
from mongo_datalayer.files.ranges import (
    RangeNotSatisfiableError,
    matches,
    range_applies,
    requested_range,
)
from mongo_datalayer.files.stored_file import StoredFile

ROUTE_NAME = "mongo_datalayer_files"

_CONVERTOR = "mongo_datalayer_object_key"


@runtime_checkable
class LinkedFiles(Protocol):
    """What the route needs of a storage client: its files and its links."""

    bucket: FileBucket
    links: FileLinks


class _ObjectKeyConvertor(PathConvertor):
    # Starlette's own stops at a line break, which a key may have.
    regex = r"[\s\S]*"


register_url_convertor(_CONVERTOR, _ObjectKeyConvertor())


def files_route(storage: LinkedFiles, prefix: str = "") -> Route:
    """A route for any Starlette or FastAPI app; it answers GET and HEAD below ``/mongo/files``.

    It serves ranges, answers 304 to a known ETag, and streams: a request costs about 2 MB of memory
    whatever the file's size. The answer is 403 without a valid link and 404 for a missing file.

    Args:
        storage: A :class:`GridFSStorageClient`.
        prefix: Path before ``/mongo/files``, as this app sees it.
    """

    async def serve(request: Request) -> Response:
        return await _serve(storage, request)

    path = f"{prefix.rstrip('/')}{FILES_PATH}/{{object_key:{_CONVERTOR}}}"
    return Route(path, serve, methods=["GET"], name=ROUTE_NAME, include_in_schema=False)


async def _serve(storage: LinkedFiles, request: Request) -> Response:
    object_key = request.path_params["object_key"]
    if not storage.links.permits(object_key, request.query_params.get("token", "")):
        return _refusal(403, "Forbidden")
    for _ in range(2):
        stored = await storage.bucket.find(object_key)
        if stored is None:
            return _refusal(404, "Not Found")
        try:
            return await _respond(storage.bucket, stored, request)
        except StorageError:
            failed = stored
        # Replaced between the two reads: the second try finds the new revision.
    raise StorageError(f"{failed.object_key!r} cannot be read: it is damaged.")


async def _respond(bucket: FileBucket, stored: StoredFile, request: Request) -> Response:
    etag = f'"{stored.sha256}"'
    headers = {
        **file_headers(stored),
        "accept-ranges": "bytes",
        # A browser may keep the file, and asks with the ETag whether it is current.
        "cache-control": "private, no-cache",
        "etag": etag,
        # Compressing middleware leaves such an answer alone, so length and ranges stay true.
        "content-encoding": "identity",
    }
    if matches(request.headers.get("if-none-match"), etag):
        return Response(status_code=304, headers=_validators(headers))
    if request.method == "HEAD":
        return Response(headers={**headers, "content-length": str(stored.size)})
    applies = range_applies(request.headers.get("if-range"), etag)
    try:
        part = requested_range(request.headers.get("range") if applies else None, stored.size)
    except RangeNotSatisfiableError:
        return _refusal(416, "Range Not Satisfiable", {"content-range": f"bytes */{stored.size}"})
    return await _stream(bucket, stored, part, headers)


async def _stream(
    bucket: FileBucket, stored: StoredFile, part: tuple[int, int] | None, headers: dict[str, str]
) -> Response:
    start, stop = (0, stored.size) if part is None else part
    headers["content-length"] = str(stop - start)
    if part is not None:
        headers["content-range"] = f"bytes {start}-{stop - 1}/{stored.size}"
    pieces = bucket.iterate(stored, start, stop)
    # Read before the status line is sent, so that a file that cannot be read is not a 200.
    first = await anext(pieces, b"")
    return StreamingResponse(
        _chain(first, pieces), status_code=200 if part is None else 206, headers=headers
    )


async def _chain(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in rest:
        yield piece


def _refusal(status: int, text: str, headers: dict[str, str] | None = None) -> Response:
    headers = {"cache-control": "no-store", **protecting_headers(), **(headers or {})}
    return PlainTextResponse(text, status_code=status, headers=headers)


def _validators(headers: dict[str, str]) -> dict[str, str]:
    # RFC 9110, 15.4.5: a 304 carries no headers that describe the content.
    return {
        name: value
        for name, value in headers.items()
        if not name.startswith("content-") or name == "content-security-policy"
    }
