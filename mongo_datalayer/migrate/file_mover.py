"""Moves the files of elements into the target's bucket, and compares them by SHA-256."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from mongo_datalayer.chainlit.element_files import object_key
from mongo_datalayer.errors import StorageError
from mongo_datalayer.files.bucket import FileBucket
from mongo_datalayer.files.stored_file import DEFAULT_MIME, FileDetails, StoredFile
from mongo_datalayer.files.upload_source import read_blocks
from mongo_datalayer.migrate.files import (
    ElementFiles,
    MissingFileError,
    RefusedFileError,
    close_content,
)
from mongo_datalayer.migrate.item import Item
from mongo_datalayer.migrate.records import Finding, Outcome, ThreadRecord
from mongo_datalayer.migrate.report import ALREADY, STORED, Report
from mongo_datalayer.model.documents import Document

BLOCK_BYTES = 1024 * 1024
"""How much of a file is in memory."""

MISSING = "file is not there"
REFUSED = "file may not be read"


class FileMover:
    """The files of a source.

    Args:
        files: Where they are.
        bucket: Where they go.
        dry_run: Only look.
    """

    def __init__(self, files: ElementFiles, bucket: FileBucket, *, dry_run: bool = False) -> None:
        self._files = files
        self._bucket = bucket
        self._dry_run = dry_run

    def take_over(self, record: ThreadRecord) -> dict[str, str]:
        """Give a thread's elements the keys that this package gives to files.

        The source's keys hold names that users chose, and may be those of other files here.

        Returns:
            The source's keys by element.
        """
        found = {}
        for element in record.thread["elements"]:
            if key := element.get("objectKey"):
                found[element["id"]] = key
                element["objectKey"] = object_key(record.thread["id"], element["id"])
        return found

    async def move(self, items: Iterable[Item], report: Report, *, missing: bool = False) -> None:
        """Copy the files of threads, each read back afterwards.

        Args:
            items: The threads, after :meth:`take_over`.
            report: Told what becomes of each file.
            missing: Copy only what is not there at all.
        """
        found = _elements(items)
        keys = [element["objectKey"] for _, element, _ in found]
        there = {file.object_key: file async for file in self._bucket.list_belonging([], keys)}
        for thread_id, element, source_key in found:
            file = there.get(element["objectKey"])
            report.counts["files"]["read"] += 1
            # The app owns a thread that came before, and may have replaced its files.
            if missing and file is not None:
                report.counts["files"][ALREADY] += 1
                continue
            with _listed(report, element, source_key):
                await self._copy(thread_id, element, source_key, file, report)

    async def verify(self, items: Iterable[Item], report: Report) -> None:
        """Compare the files of threads with those of the source."""
        for _, element, source_key in _elements(items):
            report.counts["files"]["read"] += 1
            with _listed(report, element, source_key):
                wanted = await self._hash(source_key)
                report.counts["files"][ALREADY] += 1
                file = await self._bucket.find(element["objectKey"])
                if file is None or await self._read_back(file) != wanted:
                    report.differs("files", element["id"], element["objectKey"])

    async def _copy(
        self,
        thread_id: str,
        element: Document,
        source_key: str,
        there: StoredFile | None,
        report: Report,
    ) -> None:
        # What an app uploads has these keys, too, but another content.
        if there is not None and await self._hash(source_key) == there.sha256:
            report.counts["files"][ALREADY] += 1
            return
        content = await self._files.open(source_key)
        try:
            if self._dry_run:
                report.counts["files"][STORED] += 1
                return
            details = FileDetails(
                mime=element.get("mime") or DEFAULT_MIME,
                name=element.get("name"),
                thread_id=thread_id,
                element_id=element["id"],
            )
            stored = await self._bucket.write(element["objectKey"], content, details)
        finally:
            close_content(content)
        report.counts["files"][STORED] += 1
        # The bucket hashed what it was given; only reading tells what it holds.
        if await self._read_back(stored) != stored.sha256:
            report.differs("files", element["id"], source_key)

    async def _hash(self, source_key: str) -> str:
        content = await self._files.open(source_key)
        hashed = hashlib.sha256()
        try:
            async for block in read_blocks(content, BLOCK_BYTES):
                hashed.update(block)
        finally:
            close_content(content)
        return hashed.hexdigest()

    async def _read_back(self, stored: StoredFile) -> str:
        hashed = hashlib.sha256()
        try:
            async for block in self._bucket.iterate(stored):
                hashed.update(block)
        except StorageError:
            # No hash is empty, so the file is listed as different.
            return ""
        return hashed.hexdigest()


def _elements(items: Iterable[Item]) -> list[tuple[str, Document, str]]:
    """Thread id, element and the source's object key of each file."""
    return [
        (item.id, element, item.files[element["id"]])
        for item in items
        for element in item.document["elements"]
        if element["id"] in item.files
    ]


@contextmanager
def _listed(report: Report, element: Document, source_key: str) -> Iterator[None]:
    """List a file that cannot be read."""
    try:
        yield
    except (MissingFileError, StorageError) as exc:
        detail = f"{source_key}: {exc}"
        reason = REFUSED if isinstance(exc, RefusedFileError) else MISSING
        report.tell(Finding(Outcome.LEFT_OUT, reason, "files", element["id"], detail))
