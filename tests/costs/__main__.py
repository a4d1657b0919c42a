"""``python -m tests.costs``: what differs from the table; ``--write`` writes the table anew."""

from __future__ import annotations

import asyncio
import sys

import tests.conftest  # noqa: F401 - before Chainlit is loaded: it writes where it starts
from mongo_datalayer.server import LocalServer
from tests.costs.figures import differences
from tests.costs.measure import measure
from tests.costs.page import expected, write


def main() -> int:
    with LocalServer() as server:
        counted = asyncio.run(measure(server.uri))
    differing = differences(expected(), counted)
    print("\n".join(differing) or "Nothing changed.")  # noqa: T201 - a command
    if "--write" in sys.argv[1:]:
        write(counted)
        return 0
    return bool(differing)


if __name__ == "__main__":
    sys.exit(main())
