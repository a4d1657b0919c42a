"""A server that stores and serves files, and tells how much memory it takes: run by a test."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import uvicorn
from pymongo import AsyncMongoClient
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from mongo_datalayer.files import FileLinks, GridFSStorageClient, mount_files


def memory() -> dict[str, int]:
    """Resident memory of this process in bytes, now and at its highest."""
    lines = Path("/proc/self/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return {name: int(fields[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM")}


async def main(uri: str, database: str, secret: str) -> None:
    async with AsyncMongoClient[dict[str, Any]](uri) as client:
        storage = GridFSStorageClient(client[database], links=FileLinks(secret))

        async def upload(request: Request) -> JSONResponse:
            key, path = request.query_params["key"], Path(request.query_params["path"])
            return JSONResponse(await storage.upload_file(key, path))

        async def memory_now(request: Request) -> JSONResponse:
            return JSONResponse(memory())

        app = Starlette(
            routes=[Route("/upload", upload, methods=["POST"]), Route("/memory", memory_now)]
        )
        mount_files(storage, app)
        server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
        serving = asyncio.create_task(server.serve())
        while not server.started and not serving.done():  # noqa: ASYNC110 - uvicorn has no event
            await asyncio.sleep(0.01)
        sys.stdout.write(f"{server.servers[0].sockets[0].getsockname()[1]}\n")
        sys.stdout.flush()
        await serving


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
