"""What a storage client must do, as a class of tests to inherit from.

Inherit from :class:`StorageClientContract` in a test module and give it a fixture ``storage``::

    class TestMyStorage(StorageClientContract):
        @pytest.fixture
        def storage(self):
            return MyStorageClient(...)

The tests are coroutines: run them with pytest-asyncio in its ``auto`` mode. They expect empty
storage each, or keys nobody else uses.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
from pathlib import Path
from typing import Any

import pytest

from mongo_datalayer.errors import NotFoundError, StorageError

ODD_KEYS = [
    "threads/7d1c/files/photo.png",
    "Ünïcödé 漢字 🎉",
    "a b+c&d=e?f#g%2Fh;i",
    "line\nbreak\r\nand\ttab",
    "../../etc/passwd",
    "//leading//and//double/",
    "$where.{$gt: ''}",
    'quote"back\\slash',
    "nul\x00byte",
    "long" * 500,
]


class StorageClientContract:
    """The behaviour the data layer relies on."""

    @pytest.fixture
    def storage(self) -> Any:
        """The storage client under test."""
        raise NotImplementedError("inherit, and return your storage client")

    async def content(self, storage: Any, object_key: str) -> bytes:
        """Read a file back; override it for a client without ``download_file``."""
        content: bytes = await storage.download_file(object_key)
        return content

    async def test_upload_returns_key_and_url(self, storage: Any) -> None:
        result = await storage.upload_file(object_key="key", data=b"content")
        assert result["object_key"] == "key"
        assert isinstance(result["url"], str)
        assert result["url"]

    @pytest.mark.parametrize("size", [0, 1, 255 * 1024, 255 * 1024 + 1, 3_000_001])
    async def test_bytes_come_back(self, storage: Any, size: int) -> None:
        content = hashlib.shake_128(b"seed").digest(size)
        await storage.upload_file(object_key="key", data=content, mime="image/png")
        assert await self.content(storage, "key") == content

    async def test_text_is_stored_as_utf_8(self, storage: Any) -> None:
        await storage.upload_file(object_key="key", data="Grüße, 漢字", mime="text/plain")
        assert await self.content(storage, "key") == "Grüße, 漢字".encode()

    @pytest.mark.parametrize("object_key", ODD_KEYS)
    async def test_any_characters_in_a_key(self, storage: Any, object_key: str) -> None:
        await storage.upload_file(object_key=object_key, data=b"odd")
        await storage.upload_file(object_key="other", data=b"other")
        assert await self.content(storage, object_key) == b"odd"
        assert await storage.get_read_url(object_key=object_key)
        assert await storage.delete_file(object_key=object_key) is True
        assert await self.content(storage, "other") == b"other"

    async def test_overwrite_replaces(self, storage: Any) -> None:
        await storage.upload_file(object_key="key", data=b"first, longer")
        await storage.upload_file(object_key="key", data=b"second", overwrite=True)
        assert await self.content(storage, "key") == b"second"

    async def test_a_taken_key_is_kept_without_overwrite(self, storage: Any) -> None:
        await storage.upload_file(object_key="key", data=b"first")
        with pytest.raises(StorageError, match="already stored"):
            await storage.upload_file(object_key="key", data=b"second", overwrite=False)
        assert await self.content(storage, "key") == b"first"

    async def test_delete(self, storage: Any) -> None:
        await storage.upload_file(object_key="key", data=b"content")
        assert await storage.delete_file(object_key="key") is True
        assert await storage.delete_file(object_key="key") is False
        with pytest.raises(NotFoundError):
            await self.content(storage, "key")

    async def test_reading_what_is_not_there(self, storage: Any) -> None:
        with pytest.raises(NotFoundError):
            await self.content(storage, "nothing")

    async def test_upload_from_a_path(self, storage: Any, tmp_path: Path) -> None:
        path = tmp_path / "file.bin"
        path.write_bytes(b"on disk")
        await storage.upload_file(object_key="key", data=path)
        assert await self.content(storage, "key") == b"on disk"

    async def test_upload_from_an_open_file(self, storage: Any) -> None:
        file = io.BytesIO(b"skipped|kept")
        file.seek(8)
        await storage.upload_file(object_key="key", data=file)
        assert await self.content(storage, "key") == b"kept"
        assert not file.closed

    async def test_a_file_that_cannot_be_read(self, storage: Any, tmp_path: Path) -> None:
        with pytest.raises(StorageError):
            await storage.upload_file(object_key="key", data=tmp_path / "missing")
        with pytest.raises(NotFoundError):
            await self.content(storage, "key")

    async def test_uploads_beside_each_other(self, storage: Any) -> None:
        contents = {f"key {number}": b"%d" % number * 1000 for number in range(20)}
        await asyncio.gather(
            *(storage.upload_file(object_key=key, data=data) for key, data in contents.items())
        )
        assert {key: await self.content(storage, key) for key in contents} == contents

    async def test_close_may_be_called_twice(self, storage: Any) -> None:
        await storage.close()
        await storage.close()
