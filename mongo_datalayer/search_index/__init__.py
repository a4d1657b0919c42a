"""An index for keyword search, of the words of each user's threads; docs/design/search.md."""

from __future__ import annotations

from mongo_datalayer.search_index.building import Built, SearchIndexer, Segment
from mongo_datalayer.search_index.lookup import Candidates, SearchWords
from mongo_datalayer.search_index.upkeep import SearchUpkeep

__all__ = ["Built", "Candidates", "SearchIndexer", "SearchUpkeep", "SearchWords", "Segment"]
