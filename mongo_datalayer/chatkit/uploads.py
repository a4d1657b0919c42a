"""Links to attachments, and the HTTP route that accepts the bytes of an announced one."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

from chatkit.types import AttachmentUploadDescriptor, ImageAttachment
from pydantic import AnyUrl
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from mongo_datalayer.chatkit.attachments import ChatKitAttachments, UploadRefusedError
from mongo_datalayer.chatkit.keys import object_key
from mongo_datalayer.chatkit.statements import owned
from mongo_datalayer.documents import Document
from mongo_datalayer.errors import ConfigurationError
from mongo_datalayer.files.bucket import FileBucket
from mongo_datalayer.files.links import FileLinks, path_of
from mongo_datalayer.files.presentation import protecting_headers
from mongo_datalayer.files.route import ROUTE_NAME as FILES_ROUTE_NAME
from mongo_datalayer.files.route import files_route

UPLOADS_PATH = "/mongo/uploads"
ROUTE_NAME = "mongo_datalayer_uploads"

_AUDIENCE = "mongo_datalayer.uploads"

_NOT_ABSOLUTE = (
    "ChatKit takes only whole addresses for uploads and previews, and the app's is not known. Set "
    "MONGO_DATALAYER_FILES_URL, or pass links=FileLinks(url=…): the address under which browsers "
    "reach the app that has chatkit_routes(store), such as https://chat.example.org."
)


class AttachmentFiles:
    """Where the files of attachments are, and what makes and checks the links to them.

    It is what :func:`~mongo_datalayer.files.files_route` serves.

    Args:
        bucket: The files.
        links: Makes the links.
    """

    def __init__(self, bucket: FileBucket, links: FileLinks) -> None:
        self.bucket = bucket
        self.links = links

    def upload_descriptor(self, key: Document, mime: str) -> AttachmentUploadDescriptor:
        """Where and how a browser sends the file; the link expires.

        Raises:
            ConfigurationError: the app's address or the secret is not set.
        """
        token = self.links.sign(json.dumps([key["owner"], key["id"]]), _AUDIENCE)
        url = self._absolute(f"{self.links.prefix}{UPLOADS_PATH}?token={token}")
        return AttachmentUploadDescriptor(url=url, method="PUT", headers={"Content-Type": mime})

    def key_of(self, token: str) -> Document | None:
        """The attachment that the token of an upload's link is for; None without permission."""
        subject = self.links.subject(token, _AUDIENCE)
        return None if subject is None else owned(*json.loads(subject))

    def preview_url(self, key: Document) -> AnyUrl:
        """A link that shows the file until it expires.

        Raises:
            ConfigurationError: the app's address or the secret is not set.
        """
        return self._absolute(self.links.link(object_key(key)))

    def refreshed(self, owner: str, attachment: Any) -> Any:
        """The attachment with a preview link that lives anew, if the link is one of ours."""
        if not isinstance(attachment, ImageAttachment):
            return attachment
        key = owned(owner, attachment.id)
        address = str(attachment.preview_url).partition("?")[0]
        if not address.endswith(path_of(object_key(key))):
            return attachment
        return attachment.model_copy(update={"preview_url": self.preview_url(key)})

    @staticmethod
    def _absolute(url: str) -> AnyUrl:
        if url.startswith("/"):
            raise ConfigurationError(_NOT_ABSOLUTE)
        return AnyUrl(url)


def upload_route(
    attachments: ChatKitAttachments, files: AttachmentFiles, prefix: str = ""
) -> Route:
    """A route that answers PUT at ``/mongo/uploads`` with the bytes of one announced file.

    The bytes go to the file store as they arrive; about 2 MB of them are in memory at a time. What
    is refused leaves nothing behind: 403 without a valid link, 404 for an attachment that is not
    there, 409 for a file that is there already, 413 and 400 for more and fewer bytes than were
    announced, 415 for another type.
    """

    async def receive(request: Request) -> Response:
        key = files.key_of(request.query_params.get("token", ""))
        if key is None:
            return _answer(403, "Forbidden")
        try:
            await attachments.receive(
                key,
                _pieces(request),
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


def routes(
    attachments: ChatKitAttachments, files: AttachmentFiles, prefix: str = ""
) -> list[Route]:
    """The routes that take and serve attachments."""
    return [upload_route(attachments, files, prefix), files_route(files, prefix)]


def mount(app: Starlette, added: list[Route]) -> None:
    """Put the routes before an app's others, in place of those of an earlier call."""
    names = {ROUTE_NAME, FILES_ROUTE_NAME}
    kept = [route for route in app.router.routes if getattr(route, "name", None) not in names]
    app.router.routes[:] = [*added, *kept]


async def _pieces(request: Request) -> AsyncIterator[bytes]:
    async for piece in request.stream():
        yield piece


def _length(request: Request) -> int | None:
    header = request.headers.get("content-length", "")
    return int(header) if header.isascii() and header.isdigit() else None


def _answer(status: int, text: str) -> Response:
    headers = {"cache-control": "no-store", **protecting_headers()}
    return PlainTextResponse(text, status_code=status, headers=headers)
