"""What each extra is for, as a few commands of a shell that need it."""

from __future__ import annotations

from typing import NamedTuple

from tests.docs.pages import DOCS, README, code_blocks


class Use(NamedTuple):
    """Something that works once an extra is installed.

    Attributes:
        shows: A regular expression for what is printed then.
        program: Python, in the file program.py.
        script: The commands.
        names_extra: Whether the failure without the extra says which one is missing.
    """

    shows: str
    program: str = ""
    script: str = "python program.py"
    names_extra: bool = True


_REQUEST = """
import asyncio, httpx, os

async def get(app, *paths):
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://app.test") as browser:
        browser.headers["x-forwarded-user"] = "ada"
        for path in paths:
            text = (await browser.get(path)).raise_for_status().text
            print(text)
    return text
"""

_CHATKIT = f"""{_REQUEST}
import app

asyncio.run(get(app.app, "/"))
"""

_MOUNTED = code_blocks(DOCS / "console.md", "python")[0]
_CONSOLE = f"""{_REQUEST}
{_MOUNTED.replace('"mongodb://localhost:27017"', 'os.environ["MONGODB_URI"]')}
import re
usage = asyncio.run(get(app, "/console/usage"))
asyncio.run(get(app, re.search('/console/static/.*console.css', usage)[0]))
"""

_METRICS = f"""{_REQUEST}
from fastapi import FastAPI
from mongo_datalayer.monitoring import mount_metrics

app = FastAPI()
mount_metrics(app)
asyncio.run(get(app, "/metrics"))
"""

_MOTOR = """
import asyncio, os
from motor.motor_asyncio import AsyncIOMotorClient
from mongo_datalayer import MongoDataLayer

async def main():
    layer = MongoDataLayer(client=AsyncIOMotorClient(os.environ["MONGODB_URI"]))
    print("found:", await layer.get_user("nobody"))

asyncio.run(main())
"""

_MIGRATE = """
mongo-datalayer migrate inspect old.db
for url in postgresql://127.0.0.1:1/old mysql://127.0.0.1:1/old; do
  mongo-datalayer migrate inspect $url 2>&1 || test $? = 2
done
"""

USES = {
    "chatkit": Use(
        "</openai-chatkit>", _CHATKIT, "mongo-datalayer init --chatkit; python program.py"
    ),
    "console": Use("Usage(?s:.*)--", _CONSOLE),
    "dataset": Use("", script="mongo-datalayer dataset --format parquet --output all.parquet"),
    "demo": Use(
        "mongodb://127.0.0.1",
        code_blocks(DOCS / "getting-started.md", "python")[-1],
        # This machine may have a mongod of its own.
        'PATH="$(dirname "$(command -v python)")" python program.py',
    ),
    "memory": Use(
        "MongoDataLayer",
        code_blocks(README, "python")[1] + "print(layer)\n",
        names_extra=False,
    ),
    "metrics": Use("mongo_datalayer_call_seconds", _METRICS),
    "migrate": Use("threads(?s:.*)refused(?s:.*)refused", script=_MIGRATE),
    "motor": Use("found: None", _MOTOR, names_extra=False),
}
