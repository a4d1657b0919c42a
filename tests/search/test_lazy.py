"""The search index is loaded where it is used, and nowhere else."""

from __future__ import annotations

import subprocess
import sys

import pytest

SEARCH = """
import asyncio
import sys

from chainlit.types import Pagination, ThreadFilter

from mongo_datalayer.chainlit.data_layer import MongoDataLayer


async def main(uri, search_index):
    layer = MongoDataLayer(uri, database="lazy", search_index=search_index)
    await layer.list_threads(Pagination(first=5), ThreadFilter(userId="u", search="some words"))
    await layer.close()


asyncio.run(main(sys.argv[1], sys.argv[2] == "True"))
print(*(name for name in sys.modules if name.startswith("mongo_datalayer.search.")))
"""
PLAIN = {"mongo_datalayer.search.pattern"}
INDEX = {
    f"mongo_datalayer.search.{name}"
    for name in ("indexer", "ngrams", "searcher", "segments", "upkeep")
}


@pytest.mark.parametrize("search_index", [False, True])
def test_a_layer_loads_the_search_index_only_if_it_is_switched_on(
    mongo_uri: str, search_index: bool
) -> None:
    loaded = subprocess.run(
        [sys.executable, "-c", SEARCH, mongo_uri, str(search_index)],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()

    assert set(loaded) == {*PLAIN, *(INDEX if search_index else ())}
