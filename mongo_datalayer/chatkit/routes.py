"""The HTTP routes that take and serve the attachments of a store."""

from __future__ import annotations

from typing import Any

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from mongo_datalayer.chatkit.attachment_files import UPLOADS_PATH
from mongo_datalayer.chatkit.errors import UploadRefusedError
from mongo_datalayer.chatkit.store import MongoChatKitStore
from mongo_datalayer.files.http_headers import protecting_headers
from mongo_datalayer.files.route import ROUTE_NAME as FILES_ROUTE_NAME
from mongo_datalayer.files.route import files_route

ROUTE_NAME = "mongo_datalayer_uploads"


def chatkit_routes(store: MongoChatKitStore[Any], prefix: str = "") -> list[Route]:
    """The routes that take and serve the attachments of a store, for a Starlette or FastAPI app.

    Uploads go to ``/mongo/uploads`` (PUT), files are read below ``/mongo/files``. Each link carries
    its own permission: the routes need no login.

    Args:
        store: The store.
        prefix: Path before ``/mongo``, as this app sees it.
    """
    return [_upload_route(store, prefix), files_route(store.files, prefix)]


def mount_chatkit(store: MongoChatKitStore[Any], app: Starlette, prefix: str = "") -> None:
    """Put :func:`chatkit_routes` before an app's other routes; calling it again replaces them.

    Args:
        store: The store.
        app: A Starlette or FastAPI app.
        prefix: Path before ``/mongo``, as this app sees it.
    """
    # First in the list: an app's route for all paths would hide them.
    names = {ROUTE_NAME, FILES_ROUTE_NAME}
    kept = [route for route in app.router.routes if getattr(route, "name", None) not in names]
    app.router.routes[:] = [*chatkit_routes(store, prefix), *kept]


def _upload_route(store: MongoChatKitStore[Any], prefix: str) -> Route:
    """PUT with the bytes of one announced file, which go to the file store as they arrive.

    About 2 MB of them are in memory at a time. An upload that is refused leaves nothing behind: 403
    without a valid link, 404 without such an attachment, 408 for a sender that is too slow, 409 for
    another file than the stored one, 413 and 400 for more and fewer bytes than were announced, 415
    for another type.
    """

    async def receive(request: Request) -> Response:
        key = store.files.key_of(request.query_params.get("token", ""))
        if key is None:
            return _answer(403, "Forbidden")
        try:
            await store.attachments.receive(
                key,
                request.stream(),
                mime=request.headers.get("content-type", ""),
                length=_length(request),
            )
        except UploadRefusedError as exc:
            return _answer(exc.status, str(exc))
        except ClientDisconnect:
            return _answer(400, "The upload was not finished.")
        return Response(status_code=204, headers={"cache-control": "no-store"})

    path = f"{prefix.rstrip('/')}{UPLOADS_PATH}"
    return Route(path, receive, methods=["PUT"], name=ROUTE_NAME, include_in_schema=False)


def _length(request: Request) -> int | None:
    header = request.headers.get("content-length", "")
    return int(header) if header.isascii() and header.isdigit() else None


def _answer(status: int, text: str) -> Response:
    headers = {"cache-control": "no-store", **protecting_headers()}
    return PlainTextResponse(text, status_code=status, headers=headers)
