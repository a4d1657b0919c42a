"""Values too large for a document come back equal, are found, and leave nothing behind."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any
from unicodedata import normalize

import pytest
from chainlit.element import CustomElement
from chainlit.types import Feedback, Pagination, ThreadFilter
from chainlit.user import User

from mongo_datalayer import MongoDataLayer, NotFoundError
from mongo_datalayer.admin.chainlit_data import ChainlitThreads
from mongo_datalayer.search.pattern import SEARCH_LENGTH
from mongo_datalayer.storage.large_values import LOST, PIECE_CHARS
from tests.storage.bench import (
    LIMITLESS,
    SMALL,
    Database,
    Dict,
    fill,
    found,
    leftovers,
    place,
    read,
    step,
)
from tests.storage.conftest import Make

MEGABYTE = 1_000_000
BIG = "new words " * 30_000
OLD = "old words " * 30_000
NOW = datetime(2024, 1, 1, tzinfo=timezone.utc)
LIKE_A_REFERENCE = {
    "gridfs": "values/t/steps/x/output",
    "bytes": 1,
    "encoding": "text",
    "preview": "s",
}


def text(size: int) -> str:
    """A text of about ``size`` bytes, no two parts of it alike, half of it not ASCII."""
    return "".join(f"{number:x} naïve 🙂 " for number in range(size // 20))


async def only_step(layer: MongoDataLayer, thread_id: str = "t") -> Any:
    (stored,) = (await read(layer, thread_id))["steps"]
    return stored


@pytest.mark.parametrize("size", [17 * MEGABYTE, 40 * MEGABYTE], ids=["17 MB", "40 MB"])
async def test_a_huge_message(make: Make, alice: str, database: Database, size: int) -> None:
    layer = make()
    output, other = text(size), "w" * size
    await layer.update_thread("t", name="n", user_id=alice)
    await layer.create_step(step("t", "x", 0, output=output))
    assert (await only_step(layer))["output"] == output
    assert await found(layer, alice, search=output[-200:]) == ["t"]
    await layer.update_step(step("t", "x", 0, input=other))
    stored = await only_step(layer)
    assert (stored["input"], stored["output"]) == (other, output)
    await layer.update_step(step("t", "x", 0, input="small", output="smaller"))
    stored = await only_step(layer)
    assert (stored["input"], stored["output"]) == ("small", "smaller")
    assert await found(layer, alice, search=output[-200:]) == []
    assert await leftovers(database) == {}


async def test_a_huge_message_in_a_part(layers: list[MongoDataLayer], database: Database) -> None:
    layer = layers[0]
    await fill(layer, "t", 8)
    for value in (text(17 * MEGABYTE), "small", BIG, OLD, "small again"):
        assert await place(database, "t", "t/s0") == "overflow"
        await layer.update_step(step("t", "s0", 0, output=value))
        (stored,) = [s for s in (await read(layers[1], "t"))["steps"] if s["id"] == "t/s0"]
        assert stored["output"] == value
    assert await database.fs.files.count_documents({}) == 0
    await layer.delete_thread("t")
    assert await leftovers(database) == {}


async def test_large_maps_come_back_as_small_ones_do(make: Make) -> None:
    """Equal to what a layer without bounds gives, whatever is in them."""
    values: Dict = {
        "a.b": 1,
        "$x": {"$ref": "r", "$id": 1, "x": [1, 2]},
        "number": 2**63 - 1,
        "float": 0.1,
        "list": [{"deep": [None, True]}, "🙂", ""],
        "favorite": "vanilla",
        "gridfs": LIKE_A_REFERENCE,
        "": "empty",
    }
    seen: list[Any] = []
    for bounds in (LIMITLESS, SMALL, None):
        layer = make(bounds)
        fields = {name: {**values, "large": BIG} for name in ("metadata", "generation", "modes")}
        thread = f"thread {len(seen)}"
        await layer.create_step(step(thread, "x", 0, **fields))
        user_map = {"metadata": LIKE_A_REFERENCE, "output": str(LIKE_A_REFERENCE)}
        await layer.create_step(step(thread, "y", 0, **user_map))
        await layer.create_element(
            CustomElement(thread_id=thread, id="e", name="n", props={**values, "large": BIG})
        )
        await layer.update_thread(thread, metadata={**values, "large": BIG, "map": values})
        await layer.upsert_feedback(
            Feedback(forId=f"{thread}/x", threadId=thread, value=1, comment=BIG, id="f")
        )
        whole = await read(layer, thread)
        del whole["createdAt"]
        seen.append(eval(repr(whole).replace(thread, "THREAD")))  # noqa: S307 - our own repr
    assert seen[1] == seen[0]
    assert seen[2] == seen[0]


async def test_a_large_value_with_favorites(make: Make, alice: str) -> None:
    layer = make()
    await layer.update_thread("t", name="n", user_id=alice)
    for name, favorite in (("word", "vanilla"), ("marked", True), ("not", False), ("none", None)):
        metadata = {"large": BIG, **({} if favorite is None else {"favorite": favorite})}
        await layer.create_step(step("t", name, 0, metadata=metadata, output=OLD))
    assert [s["id"] for s in await layer.get_favorite_steps(alice)] == ["t/marked"]
    for name in ("none", "marked"):
        await layer.set_step_favorite(step("t", name, 0), name == "none")
    (listed,) = await layer.get_favorite_steps(alice)
    assert (listed["id"], listed["output"]) == ("t/none", OLD)
    assert listed["metadata"] == {"large": BIG, "favorite": True}


async def test_large_metadata_is_read_and_listed(make: Make, alice: str) -> None:
    layer = make()
    metadata = {"text": BIG, "map": {"a.b": OLD}, "a.b": BIG, "small": 1}
    await layer.update_thread("t", name="n", user_id=alice, metadata=metadata)
    page = await layer.list_threads(Pagination(first=5), ThreadFilter(userId=alice))
    assert page.data[0]["metadata"] == metadata
    assert (await read(layer, "t"))["metadata"] == metadata


async def test_metadata_that_adds_up(make: Make, database: Database) -> None:
    """Each value fits into the document, all of them together do not."""
    layer = make()
    for number in range(100):
        await layer.update_thread("t", metadata={f"k{number}": "w" * 200_000})
    await layer.create_step(step("t", "x", 0))
    assert len((await read(layer, "t"))["metadata"]) == 100
    await layer.delete_thread("t")
    assert await leftovers(database) == {}


# Search ---------------------------------------------------------------------------------------


async def test_a_text_is_found_wherever_it_stands(make: Make, alice: str) -> None:
    layer = make()
    await layer.update_thread("t", name="n", user_id=alice)
    needles = {"the begin": 0, "border one": PIECE_CHARS - 5, "border two": 2 * PIECE_CHARS - 1}
    haystack = list("·" * (4 * PIECE_CHARS))
    for needle, at in needles.items():
        haystack[at : at + len(needle)] = needle
    longest = "x" + "y" * (SEARCH_LENGTH - 1)
    composed = "한" * SEARCH_LENGTH
    decomposed = normalize("NFD", composed)
    for needle, at in ((longest, 4 * PIECE_CHARS - 100), (decomposed, 3 * PIECE_CHARS - 9)):
        haystack[at : at + len(needle)] = needle
    haystack += "the very end"
    await layer.create_step(step("t", "x", 0, output="".join(haystack)))
    for needle in (*needles, "THE VERY END", longest, composed, decomposed[:SEARCH_LENGTH]):
        assert await found(layer, alice, search=needle) == ["t"], needle[:20]
    assert await found(layer, alice, search="not there") == []
    assert await found(layer, alice, search=longest, feedback=1) == []


async def test_others_and_deleted_texts_are_not_found(
    make: Make, alice: str, database: Database
) -> None:
    layer = make()
    bob = (await layer.create_user(User(identifier="bob"))).id
    for thread, owner in (("a", alice), ("b", bob), ("c", alice)):
        await layer.update_thread(thread, name="n", user_id=owner)
        await layer.create_step(step(thread, "x", 0, output=f"{BIG} the end"))
    assert sorted(await found(layer, alice, search="the end")) == ["a", "c"]
    assert await found(layer, bob, search="the end") == ["b"]
    await layer.delete_thread("a")
    assert await found(layer, alice, search="the end") == ["c"]
    await layer.delete_step("c/x")
    assert await found(layer, alice, search="the end") == []
    assert await found(layer, bob, search="the end") == ["b"]
    await layer.delete_thread("b")
    assert await leftovers(database) == {}


# Whose turn it is -----------------------------------------------------------------------------


@pytest.mark.parametrize("old", [False, True], ids=["in the head", "in a part"])
async def test_a_late_create_does_not_overwrite_a_large_value(
    small: list[MongoDataLayer], database: Database, old: bool
) -> None:
    layer = small[0]
    await layer.update_step(step("t", "x", 0, output=BIG))
    if old:
        await fill(layer, "t", 8, first=1)
        assert await place(database, "t", "t/x") == "overflow"
    for late in small[:2]:
        await late.create_step(step("t", "x", 0, output=OLD, input="filled in"))
    (stored,) = [s for s in (await read(layer, "t"))["steps"] if s["id"] == "t/x"]
    assert (stored["output"], stored["input"]) == (BIG, "filled in")


# Nothing stays --------------------------------------------------------------------------------


async def test_late_large_values_of_what_was_deleted(
    make: Make, alice: str, database: Database
) -> None:
    layer = make()
    await layer.update_thread("kept", name="n", user_id=alice)
    await layer.create_step(step("kept", "x", 0, output="x"))
    await layer.delete_step("kept/x")
    await layer.create_step(step("t", "x", 0, output="x"))
    await layer.delete_thread("t")
    for thread in ("kept", "t"):
        await layer.update_step(step(thread, "x", 0, output=OLD, metadata={"a": OLD}))
        await layer.create_step(step(thread, "x", 0, output=OLD))
        props = {"words": OLD}
        late = CustomElement(thread_id=thread, id="e", name="n", for_id=f"{thread}/x", props=props)
        await layer.create_element(late)
        with pytest.raises(NotFoundError):
            await layer.upsert_feedback(
                Feedback(forId=f"{thread}/x", threadId=thread, value=1, comment=OLD)
            )
    await layer.update_thread("t", metadata={"a": OLD})
    assert await leftovers(database) == {}
    assert await found(layer, alice, search="old words") == []


async def replaced_by_small(layer: MongoDataLayer) -> None:
    await layer.create_step(step("t", "x", 0, output=OLD, generation={"a": OLD}))
    await layer.update_step(step("t", "x", 0, output="small", generation={"a": 1}))


async def step_deleted(layer: MongoDataLayer) -> None:
    await layer.create_step(step("t", "x", 0, output=OLD))
    await layer.create_element(
        CustomElement(thread_id="t", id="e", name="n", for_id="t/x", props={"a": OLD})
    )
    await layer.upsert_feedback(Feedback(forId="t/x", threadId="t", value=1, comment=OLD))
    await layer.delete_step("t/x")


async def element_deleted(layer: MongoDataLayer) -> None:
    for props in ({"a": OLD}, {"a": BIG}):
        await layer.create_element(CustomElement(thread_id="t", id="e", name="n", props=props))
    await layer.delete_element("e", "t")


async def element_replaced(layer: MongoDataLayer) -> None:
    for words in (OLD, "small"):
        await layer.create_element(
            CustomElement(thread_id="t", id="e", name="n", props={"a": words})
        )


async def feedback_taken_back(layer: MongoDataLayer) -> None:
    await layer.create_step(step("t", "x", 0))
    verdict = Feedback(forId="t/x", threadId="t", value=1, comment=OLD)
    await layer.delete_feedback(await layer.upsert_feedback(verdict))


async def feedback_replaced(layer: MongoDataLayer) -> None:
    await layer.create_step(step("t", "x", 0))
    for words in (OLD, "small"):
        verdict = Feedback(forId="t/x", threadId="t", value=1, comment=words)
        await layer.upsert_feedback(verdict)


async def metadata_removed(layer: MongoDataLayer) -> None:
    await layer.update_thread("t", metadata={"a": OLD, "b": OLD})
    await layer.update_thread("t", metadata={"a": None, "b": "small"})


async def update_before_create(layer: MongoDataLayer) -> None:
    await layer.update_step(step("t", "x", 0, output="w" * 10_000))
    await layer.create_step(step("t", "x", 0, output="w" * 10_000))


@pytest.mark.parametrize(
    "writes",
    [
        replaced_by_small,
        step_deleted,
        element_deleted,
        element_replaced,
        feedback_taken_back,
        feedback_replaced,
        metadata_removed,
        update_before_create,
    ],
    ids=lambda writes: writes.__name__,
)
async def test_no_file_of_a_value_that_is_not_there_any_more(
    make: Make, alice: str, database: Database, writes: Any
) -> None:
    layer = make()
    await layer.update_thread("t", name="n", user_id=alice)
    await writes(layer)
    assert await leftovers(database) == {}
    assert await found(layer, alice, search="old words") == []


@pytest.mark.parametrize("kind", ["output", "metadata", "comment", "props"])
async def test_a_large_value_of_another_process_is_replaced_by_a_small_one(
    make: Make, alice: str, database: Database, kind: str
) -> None:
    """By one that last saw the thread without any."""
    layer, other = make(), make()

    async def write(writer: MongoDataLayer, words: str) -> None:
        if kind == "output":
            await writer.update_step(step("t", "x", 0, output=words))
        elif kind == "metadata":
            await writer.update_thread("t", metadata={"a": words})
        elif kind == "comment":
            verdict = Feedback(forId="t/x", threadId="t", value=1, comment=words)
            await writer.upsert_feedback(verdict)
        else:
            props = {"a": words}
            await writer.create_element(CustomElement(thread_id="t", id="e", name="n", props=props))

    await layer.update_thread("t", name="n", user_id=alice)
    await layer.create_step(step("t", "x", 0))
    await write(layer, "small")
    await write(other, OLD)
    await write(layer, "small again")
    assert await found(layer, alice, search="old words") == []
    assert await leftovers(database) == {}


async def test_a_thread_that_is_restored_in_place_of_another(
    make: Make, alice: str, database: Database
) -> None:
    threads = make()._threads
    header: Dict = {"_id": "t", "userId": alice, "createdAt": NOW, "updatedAt": NOW}
    stored: Dict = {**header, "metadata": {"a": OLD}, "elements": [], "steps": []}
    stored["steps"] = [{"id": "x", "output": BIG}]
    for _ in range(2):
        await ChainlitThreads(threads.documents).restore(stored, replace=True)
        assert await found(make(), alice, search="new words") == ["t"]
        assert await threads.documents.get("t") == stored
    other = {**stored, "steps": [{"id": "y", "output": "small"}], "metadata": {}}
    await ChainlitThreads(threads.documents).restore(other, replace=True)
    assert await threads.documents.get("t") == other
    assert await found(make(), alice, search="new words") == []
    assert await leftovers(database) == {}


async def test_a_value_that_is_replaced_while_its_thread_is_read(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, writer = make(), make()
    await writer.create_step(step("t", "x", 0, output=OLD))
    bucket = reader._threads._values._bucket
    read_file = bucket.read
    keys: list[str] = []

    async def replaced_first(key: str) -> bytes:
        keys.append(key)
        if len(keys) == 1:
            await writer.update_step(step("t", "x", 0, output=BIG))
        return await read_file(key)

    monkeypatch.setattr(bucket, "read", replaced_first)

    assert (await only_step(reader))["output"] == BIG
    assert len(set(keys)) == 2


async def test_a_value_whose_file_is_lost_is_logged_and_begins_as_it_did(
    make: Make, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    layer = make()
    await layer.create_step(step("t", "x", 0, output=BIG))
    await database["fs.files"].delete_many({})

    stored = await only_step(layer)

    assert stored["output"] == BIG[:1000] + LOST
    assert "cannot be read: No file is stored under" in caplog.text
