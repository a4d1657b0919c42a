#!/usr/bin/env python3
"""Creates the indexes that the data layer uses, as ``mongo-datalayer indexes apply`` does.

Runs from a checkout that is not installed. It needs only pymongo, click, rich and
pydantic-settings.

Example:
    python scripts/create_indexes.py --uri mongodb://localhost:27017 --database chainlit
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

if find_spec("mongo_datalayer") is None:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mongo_datalayer.cli.indexes import apply

if __name__ == "__main__":
    apply(prog_name="create_indexes.py")
