"""Where ChatKit's threads are: main documents, overflow documents, and large items in GridFS."""

from __future__ import annotations

from mongo_datalayer.chatkit.object_keys import thread_items_folder, thread_name
from mongo_datalayer.chatkit.queries import ITEM_TEXTS, sort_key_range
from mongo_datalayer.model.documents import CHATKIT_OVERFLOW, CHATKIT_THREADS
from mongo_datalayer.mongodb.client import Database, open_collection
from mongo_datalayer.storage.large_values import LargeValues
from mongo_datalayer.storage.overflow import Overflow


class ThreadStorage:
    """The collections of one database, for the store and for the administration's scans.

    Args:
        database: The database.

    Attributes:
        threads: The main documents.
        overflow_documents: The overflow documents.
        overflow: Moves items from the ones to the others.
        values: The large items.
    """

    def __init__(self, database: Database) -> None:
        self.threads = open_collection(database, CHATKIT_THREADS)
        self.overflow_documents = open_collection(database, CHATKIT_OVERFLOW)
        self.overflow = Overflow(
            self.threads,
            self.overflow_documents,
            ("items",),
            summary=sort_key_range,
            texts=ITEM_TEXTS,
            oldest_first=lambda item: item["sortKey"],
        )
        self.values = LargeValues(
            database,
            None,
            at_least=self.overflow.bounds.value,
            folder=thread_items_folder,
            thread_name=thread_name,
        )
