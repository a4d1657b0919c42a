"""Finds files that no element points to: what a crash between a file and its document leaves.

Only files that were stored for an element are looked at. A file that an app stored for itself
through the storage client, and every file of another application, is left alone.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime

from mongo_datalayer.files.bucket import FileBucket
from mongo_datalayer.files.documents import StoredFile
from mongo_datalayer.threads import Threads

BATCH = 1000


@dataclass(frozen=True)
class Orphan:
    """A stored file that nothing points to.

    Attributes:
        file_id: Its id in ``fs.files`` and ``fs.chunks``.
        object_key: The key it is stored under; None for an upload that was never finished.
        size: Bytes; None for an upload that was never finished.
    """

    file_id: str
    object_key: str | None = None
    size: int | None = None


async def find_orphans(
    bucket: FileBucket, threads: Threads, before: datetime
) -> AsyncIterator[Orphan]:
    """Files older than ``before`` that no element points to, and uploads never finished.

    Args:
        bucket: Where the files are.
        threads: Where the elements are.
        before: Files from this time on are left out: their element may be on its way.
    """
    batch: list[StoredFile] = []
    newest: StoredFile | None = None
    async for file in bucket.list_files(before=before):
        if file.element_id is None or file.thread_id is None:
            continue
        if newest is not None and newest.object_key == file.object_key:
            replaced, newest = sorted((newest, file), key=lambda revision: revision.revision)
            yield Orphan(replaced.file_id, replaced.object_key, replaced.size)
            continue
        if newest is not None:
            batch.append(newest)
        if len(batch) == BATCH:
            for orphan in await _unreferenced(batch, threads):
                yield orphan
            batch = []
        newest = file
    for orphan in await _unreferenced([*batch, *([newest] if newest else [])], threads):
        yield orphan
    async for file_id in bucket.list_unfinished(before=before):
        yield Orphan(file_id)


async def _unreferenced(files: list[StoredFile], threads: Threads) -> list[Orphan]:
    """Those of ``files`` that no element points to."""
    keys = await threads.object_keys({file.thread_id for file in files if file.thread_id})
    return [
        Orphan(file.file_id, file.object_key, file.size)
        for file in files
        if file.object_key not in keys
    ]
