"""ChatKit's threads and attachments with all that belongs to them: of one owner, and old ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from typing import Any

from bson.max_key import MaxKey

from mongo_datalayer.admin.front_data import (
    BATCH,
    Belongings,
    Counts,
    Erased,
    FrontData,
    Person,
    Rule,
)
from mongo_datalayer.admin.stored_documents import StoredDocuments
from mongo_datalayer.admin.thread_scan import ThreadScan
from mongo_datalayer.chatkit.object_keys import (
    attachments_folder,
    file_keys,
    holds_attachment,
    holds_item,
    items_folder,
    object_key,
    thread_name,
)
from mongo_datalayer.chatkit.queries import ITEM_TEXTS, owned
from mongo_datalayer.chatkit.thread_storage import ThreadStorage
from mongo_datalayer.files.bucket import FileBucket
from mongo_datalayer.files.stored_file import StoredFile
from mongo_datalayer.model.bson_values import to_text
from mongo_datalayer.model.documents import (
    CHATKIT_ATTACHMENTS,
    CHATKIT_OVERFLOW,
    CHATKIT_TOMBSTONE,
    LONG,
    NOT_DELETED,
    OWN_KEY,
    Document,
)
from mongo_datalayer.model.stored_lists import as_list, items
from mongo_datalayer.mongodb.client import Database, open_collection
from mongo_datalayer.mongodb.paging import batches
from mongo_datalayer.storage.contention import READ_ATTEMPTS, Attempts, incomplete
from mongo_datalayer.storage.large_values import reference_keys

_ITEMS = ("items.id", "items.feedback.kind")


def of_owner(owner: str, field: str = "_id") -> Document:
    """The filter on what an owner has, by a field that holds keys. An index on the field fits."""
    # MongoDB compares maps field by field: {owner} comes before every {owner, id}.
    return {field: {"$gte": {"owner": owner}, "$lt": {"owner": owner, "id": MaxKey()}}}


class ChatKitThreads(ThreadScan):
    """All of ChatKit's threads of a database; their ids are keys of owner and id.

    Args:
        database: The database.
    """

    def __init__(self, database: Database) -> None:
        storage = ThreadStorage(database)
        # A cursor of a list may stand at a thread that is deleted: its place stays known.
        super().__init__(
            storage.threads, storage.overflow, OWN_KEY, CHATKIT_TOMBSTONE, kept=("sortKey",)
        )
        self._values = storage.values

    async def object_keys(self, thread_ids: Iterable[Document]) -> set[str]:
        """The object keys of the large items that these threads refer to."""
        ids = list(thread_ids)
        fields = ("items.item.gridfs", "items.rawJson.gridfs")
        main = self.collection.find({"_id": {"$in": ids}}, dict.fromkeys(fields, 1))
        stored = [
            *await main.to_list(None),
            *[document async for document in self.overflow.scan(ids, fields)],
        ]
        values = [
            item.get(name)
            for document in stored
            for item in items(document, "items", ())
            for name in ("item", "rawJson")
        ]
        keys = (value.get("gridfs") for value in values if isinstance(value, dict))
        return {key for key in keys if isinstance(key, str)}

    async def _whole(self, main: Document) -> Document | None:
        latest: Document | None = main
        async for _ in Attempts(READ_ATTEMPTS):
            if latest is None:
                return None
            whole = await self.overflow.whole(latest)
            if whole is not None:
                found = items(whole, "items", ITEM_TEXTS)
                is_odd = type(whole.get("sortKey")) is not str
                if is_odd or len(found) < len(as_list(whole.get("items"))):
                    break
                tombstones = items(whole, "deletedItems", ("sortKey",))
                deleted = {item["sortKey"] for item in tombstones}
                kept = [item for item in found if item["sortKey"] not in deleted]
                if await self._values.resolve(kept, complete=True):
                    return {**whole, "items": kept}
            latest = await self.collection.find_one({"_id": main["_id"], **NOT_DELETED})
        raise incomplete(main["_id"]["id"])

    async def _externalize(self, whole: Document) -> Document:
        items = [
            await self._values.externalize(whole["_id"], f"items/{item['id']}", item)
            for item in whole.get("items") or ()
        ]
        return {**whole, "items": items, **(LONG if reference_keys(items) else {})}

    async def _delete_values(self, thread: Document) -> None:
        await self._values.delete_values(*thread["items"])

    async def _delete_other_values(self, thread: Document) -> None:
        await self._values.delete_others(thread["_id"], reference_keys(thread["items"]))


class ChatKitData(FrontData):
    """The data of ChatKit.

    Args:
        database: The database.
        bucket: Where the files of attachments are.
    """

    threads: ChatKitThreads

    def __init__(self, database: Database, bucket: FileBucket) -> None:
        super().__init__(database, bucket, ChatKitThreads(database), "chatkit_threads")
        self.attachments = StoredDocuments(
            open_collection(database, CHATKIT_ATTACHMENTS), OWN_KEY, CHATKIT_TOMBSTONE
        )
        self._overflow = open_collection(database, CHATKIT_OVERFLOW)

    async def count(self, person: Person) -> Counts:
        """How much there is of a person. Reads all their threads."""
        owner = to_text(person.identifier)
        counts = (await self._owned_files(owner)).counts
        async for stored in self.threads.scan_with_overflow(of_owner(owner), _ITEMS):
            # An item that a killed move left in two documents counts once.
            found = {item["id"]: item for document in stored for item in items(document, "items")}
            rated = [item for item in found.values() if "feedback" in item]
            counts += Counter(chatkit_threads=1, chatkit_items=len(found), feedback=len(rated))
        attachments = self.attachments.scan(of_owner(owner), ("threadIds",))
        counts["chatkit_attachments"] = await _length(attachments)
        for documents in (self.threads, self.attachments):
            counts["chatkit_deleted"] += await _length(documents.tombstones(of_owner(owner)))
        # Also of threads that are gone.
        counts["overflow"] = await self._overflow.count_documents(of_owner(owner, "thread"))
        return counts

    async def keys_elsewhere(self, person: Person) -> AsyncIterator[str]:
        """Object keys of attachments whose file came, under which the bucket has none."""
        owner = to_text(person.identifier)
        present = {file.object_key for file in (await self._owned_files(owner)).files}
        # Before the upload there is no file in any store.
        arrived = {**of_owner(owner), "upload.at": {"$exists": True}}
        async for attachment in self.attachments.scan(arrived, ("threadIds",)):
            key = object_key(attachment["_id"])
            if key not in present:
                yield key

    async def session_ids(self, person: Person) -> AsyncIterator[str]:
        """Ids of the threads, also of those that were deleted in the last 24 hours."""
        owner = of_owner(to_text(person.identifier))
        async for thread in self.threads.scan(owner, ("_id",)):
            yield thread["_id"]["id"]
        async for tombstone in self.threads.tombstones(owner):
            yield tombstone["_id"]["id"]

    async def erase(self, person: Person, on_thread: Callable[[], object]) -> Erased:
        """Delete everything of a person; ``on_thread`` is called per thread."""
        owner = to_text(person.identifier)
        threads = attachments = 0
        # Tombstones first: they keep late writes out while the rest goes. Nothing is lost with the
        # documents, as all keys name the owner, those of files too.
        async for thread in self.threads.scan(of_owner(owner), ("_id",)):
            threads += await self.threads.expire(thread, {}) is not None
            on_thread()
        async for attachment in self.attachments.scan(of_owner(owner), ("_id",)):
            attachments += await self.attachments.expire(attachment, {}) is not None
        await self._overflow.delete_many(of_owner(owner, "thread"))
        erased = Erased(Counter(chatkit_threads=threads, chatkit_attachments=attachments))
        files = await self._owned_files(owner)
        await self._delete_files(files)
        erased.add(files)
        # Last: an interrupted erasure is not complete while they still name the owner.
        for documents in (self.threads, self.attachments):
            await documents.delete_tombstones(of_owner(owner))
        return erased

    async def remaining(self, person: Person, erased: Erased) -> Counts:
        """What is left of a person and names neither id nor identifier: documents by place."""
        listed = await self._owned_files(to_text(person.identifier))
        left: Counts = Counter()
        left["the list of ChatKit's files"] = len(listed.files) + len(listed.values)
        left["the content of ChatKit's files"] = await self._count_chunks(erased)
        return left

    async def _owned_files(self, owner: str) -> Belongings:
        """All files of an owner, also where the attachment or the item is gone."""
        files = self._bucket.list_folder(attachments_folder(owner))
        values = self._values.list_folder(items_folder(owner))
        return Belongings(
            [file async for file in files if holds_attachment(file)],
            [file async for file in values if holds_item(file)],
        )

    def old_threads(self, rule: Rule) -> Document:
        """The filter on the threads that a rule removes."""
        # The app's metadata is inside of the thread as ChatKit's model dumps it.
        return {
            name if name == "updatedAt" else f"thread.{name}": condition
            for name, condition in super().old_threads(rule).items()
        }

    async def belongings(self, threads: Collection[Document]) -> Belongings:
        """What belongs to these threads, by their main documents or tombstones."""
        keys = [thread["_id"] for thread in threads]
        attachments = {}
        for key in keys:
            of_thread = {"_id.owner": key["owner"], "threadIds": key["id"], **NOT_DELETED}
            async for attachment in self.attachments.collection.find(of_thread, {"threadIds": 1}):
                # An attachment that another thread shows as well stays.
                others = [key for key in thread_keys(attachment) if key not in keys]
                if not await self.threads.existing(others):
                    attachments[object_key(attachment["_id"])] = attachment
        values = self._values.list_belonging(map(thread_name, keys))
        return Belongings(
            await self._files(attachments.values()),
            [file async for file in values if holds_item(file)],
            await _length(self.threads.overflow.scan(keys, ())),
            list(attachments.values()),
        )

    async def delete_remnants(self) -> Counts:
        """Delete what belongs to tombstones: an interrupted run may have left it."""
        counts = await super().delete_remnants()
        async for attachments in batches(self.attachments.tombstones(), BATCH):
            found = Belongings(await self._files(attachments), [])
            await self._delete_files(found)
            counts += found.counts
        return counts

    async def _delete_files(self, belongings: Belongings) -> None:
        # The attachments first: no upload is taken for them any more.
        for attachment in belongings.attachments:
            await self.attachments.expire(attachment, {})
        await super()._delete_files(belongings)

    async def _files(self, attachments: Iterable[Document]) -> list[StoredFile]:
        keys = [key for attachment in attachments for key in file_keys(attachment["_id"])]
        found = self._bucket.list_belonging((), keys)
        return [file async for file in found if holds_attachment(file)]


def thread_keys(attachment: Document) -> list[Document]:
    """The keys of the threads that an attachment belongs to."""
    return [owned(attachment["_id"]["owner"], name) for name in attachment.get("threadIds") or ()]


async def _length(found: AsyncIterator[Any]) -> int:
    return sum([1 async for _ in found])
