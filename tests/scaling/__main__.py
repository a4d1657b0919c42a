"""``python -m tests.scaling``: the table of docs/design/sharding.md; ``--write`` puts it there."""

from __future__ import annotations

import asyncio
import sys

import tests.conftest  # noqa: F401 - before Chainlit is loaded: it writes where it starts
from mongo_datalayer.server import LocalServer
from tests.scaling.page import table, write
from tests.scaling.recorded import record


def main() -> None:
    with LocalServer() as server:
        found = table(asyncio.run(record(server.uri)))
    if "--write" in sys.argv[1:]:
        write(found)
    else:
        print(found)  # noqa: T201 - a command


main()
