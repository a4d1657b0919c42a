"""``tests.chainlit.order.writer`` with other bounds and another number of steps.

``python -m tests.storage.writer HEAD,KEPT,VALUE,STEPS URI DATABASE THREAD NAME``.
"""

from __future__ import annotations

import asyncio
import sys

from mongo_datalayer.storage import overflow
from tests.chainlit.order import writer

if __name__ == "__main__":
    numbers, *arguments = sys.argv[1:]
    *bounds, steps = map(int, numbers.split(","))
    overflow.BOUNDS = overflow.Bounds(*bounds)
    writer.OWN = writer.SHARED = steps
    asyncio.run(writer.main(*arguments))
