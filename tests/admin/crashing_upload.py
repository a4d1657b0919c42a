"""Stores files and is killed: after an upload, or in the middle of one."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import Any

from chainlit.element import Text
from pymongo import AsyncMongoClient

from mongo_datalayer import GridFSStorageClient, MongoDataLayer
from mongo_datalayer.files import FileLinks


def killed(*_: Any, **__: Any) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


async def main(uri: str, database: str, where: str) -> None:
    async with AsyncMongoClient[dict[str, Any]](uri) as client:
        storage = GridFSStorageClient(client[database], links=FileLinks("secret " * 8))
        layer = MongoDataLayer(client=client, database=database, storage_client=storage)
        await layer.create_element(Text(id="kept", name="t", content="text", thread_id="t"))
        if where == "before the element":
            layer._threads.elements.put = killed  # type: ignore[method-assign]
        else:
            storage.bucket._files.find_one_and_update = killed  # type: ignore[method-assign]
        await layer.create_element(Text(id="lost", name="t", content="text", thread_id="t"))


asyncio.run(main(*sys.argv[1:]))
