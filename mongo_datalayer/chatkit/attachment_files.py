"""The files of attachments, and the signed links that upload and show them."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import unquote

from chatkit.types import (
    Attachment,
    AttachmentCreateParams,
    AttachmentUploadDescriptor,
    FileAttachment,
    ImageAttachment,
)
from pydantic import AnyUrl

from mongo_datalayer.chatkit.object_keys import attachments_folder, object_key
from mongo_datalayer.chatkit.queries import owned
from mongo_datalayer.errors import ConfigurationError
from mongo_datalayer.files.bucket import FileBucket
from mongo_datalayer.files.links import FILES_PATH, FileLinks, path_of
from mongo_datalayer.model.documents import Document

UPLOADS_PATH = "/mongo/uploads"

_AUDIENCE = "mongo_datalayer.uploads"

_NOT_ABSOLUTE = (
    "ChatKit takes only whole addresses for uploads and previews, and the app's is not known. Set "
    "MONGO_DATALAYER_FILES_URL, or pass links=FileLinks(url=…): the address under which browsers "
    "reach the app that has chatkit_routes(store), such as https://chat.example.org."
)


class AttachmentFiles:
    """Where the files of attachments are, and the links to them, for the routes.

    Args:
        links: Makes the links.

    Attributes:
        bucket: The files; the store sets it for each client that it connects with.
    """

    bucket: FileBucket

    def __init__(self, links: FileLinks) -> None:
        self.links = links

    def announced(self, key: Document, params: AttachmentCreateParams) -> Attachment:
        """A new attachment with the links that upload and show its file."""
        descriptor = self.upload_descriptor(key, params.mime_type)
        attachment: Attachment = self.made(key, params.name, params.mime_type)
        announced: Attachment = attachment.model_copy(update={"upload_descriptor": descriptor})
        return announced

    def made(self, key: Document, name: str, mime: str) -> Any:
        """A new attachment with the link that shows its file, if it is an image."""
        fields: Document = {"id": key["id"], "name": name, "mime_type": mime}
        if mime.lower().startswith("image/"):
            return ImageAttachment(**fields, preview_url=self.preview_url(key))
        return FileAttachment(**fields)

    def key_of(self, token: str) -> Document | None:
        """The attachment that the token of an upload link is for; None if it is not valid."""
        subject = self.links.subject(token, _AUDIENCE)
        return None if subject is None else owned(*json.loads(subject))

    def sent(self, owner: str, attachment: Any) -> Any:
        """An attachment as a message shows it: nothing is left to upload."""
        descriptor = attachment.upload_descriptor
        # A message that was sent before the upload keeps what announced it.
        if descriptor is not None and str(descriptor.url).partition("?")[0].endswith(UPLOADS_PATH):
            attachment = attachment.model_copy(update={"upload_descriptor": None})
        return self.refreshed(owner, attachment)

    def refreshed(self, owner: str, attachment: Any) -> Any:
        """The attachment with a new preview link, unless the app set a link of its own."""
        if not isinstance(attachment, ImageAttachment):
            return attachment
        # Links expire, and old conversations still show their images.
        key = owned(owner, attachment.id)
        address = str(attachment.preview_url).partition("?")[0]
        if not address.endswith(path_of(object_key(key))):
            return attachment
        return attachment.model_copy(update={"preview_url": self.preview_url(key)})

    def shown(self, owner: str, image: Any) -> Any:
        """A generated image with a new link, if it is one of the owner's files."""
        path = image.url.partition("?")[0].partition(f"{FILES_PATH}/")[2]
        file_key = unquote(path)
        if not file_key.startswith(attachments_folder(owner)):
            return image
        return image.model_copy(update={"url": str(_absolute(self.links.link(file_key)))})

    def upload_descriptor(self, key: Document, mime: str) -> AttachmentUploadDescriptor:
        """Where and how a browser sends the file; the link expires."""
        token = self.links.sign(json.dumps([key["owner"], key["id"]]), _AUDIENCE)
        url = _absolute(f"{self.links.prefix}{UPLOADS_PATH}?token={token}")
        return AttachmentUploadDescriptor(url=url, method="PUT", headers={"Content-Type": mime})

    def preview_url(self, key: Document) -> AnyUrl:
        """A link that shows the file until it expires."""
        return _absolute(self.links.link(object_key(key)))


def _absolute(url: str) -> AnyUrl:
    if url.startswith("/"):
        raise ConfigurationError(_NOT_ABSOLUTE)
    return AnyUrl(url)
