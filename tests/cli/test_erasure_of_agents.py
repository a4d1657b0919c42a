"""What agent libraries keep of a person goes with them, where the command is told to.

The OpenAI Agents SDK writes by itself. recorded/langgraph.json holds the documents of a graph with
one node that langgraph-checkpoint-mongodb 0.5.1 and langgraph-store-mongodb 0.4.0 stored: read back
from the collections as canonical extended JSON, without ``_id``, with THREAD as the thread's id and
in the store's namespace. Both pull in all of LangChain, and need Python 3.11.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from agents.extensions.memory import MongoDBSession
from bson import json_util

from mongo_datalayer.admin.erasure import Erasure
from mongo_datalayer.files.bucket import FileBucket
from mongo_datalayer.schema.agent_collections import LIBRARIES
from mongo_datalayer.testing.chatkit_contract import thread
from tests.cli.chatkit_people import store_of
from tests.cli.commands import kill_when, run, slowed
from tests.cli.people import Documents, put_person

ALICE, BOB = "alice@example.com", "bob@example.com"
LANGGRAPH = Path(__file__).parent / "recorded" / "langgraph.json"
AGENTS = ("--also", "agents-sdk")


def session(database: Documents, session_id: str, **names: Any) -> MongoDBSession:
    return MongoDBSession(session_id, client=database.client, database=database.name, **names)


async def put_sessions(database: Documents, session_ids: Sequence[str], **names: Any) -> None:
    """Sessions of three items in two documents each."""
    for session_id in session_ids:
        memory = session(database, session_id, **names)
        answered = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
        await memory.add_items(answered)  # type: ignore[arg-type]  # one of the SDK's many items
        await memory.add_items([{"role": "user", "content": "again"}])


async def put_recorded(database: Documents, thread_id: str, suffix: str = "") -> None:
    """What LangGraph keeps of a thread."""
    text = LANGGRAPH.read_text(encoding="utf-8").replace("THREAD", thread_id)
    for name, documents in json_util.loads(text).items():
        await database[name + suffix].insert_many(documents)


async def user_id(database: Documents, identifier: str) -> str:
    user = await database.users.find_one({"identifier": identifier})
    assert user is not None
    return str(user["_id"])


async def test_sessions_of_the_person_go_and_no_others(
    where: tuple[str, ...], database: Documents
) -> None:
    chatkit = store_of(database)
    for person in (ALICE, BOB):
        await put_person(database, person, threads=2)
        await chatkit.save_thread(thread(f"thr_{person}"), {"user_id": person})
        await chatkit.save_thread(thread(f"gone_{person}"), {"user_id": person})
        await chatkit.delete_thread(f"gone_{person}", {"user_id": person})
    ids = {
        person: [
            *(f"{person}/0", f"{person}/1", f"thr_{person}", f"gone_{person}", person),
            await user_id(database, person),
        ]
        for person in (ALICE, BOB)
    }
    await put_sessions(database, [*ids[ALICE], *ids[BOB]])

    dry = await run("erase-user", ALICE, "--dry-run", *AGENTS, *where)
    done = await run("erase-user", ALICE, "--yes", "--json", *AGENTS, *where)

    assert (dry.code, dry.err) == (0, ""), dry
    counts = dict(line.rsplit(None, 1) for line in dry.out.splitlines()[:-1])
    assert (counts["in agent_messages"], counts["in agent_sessions"]) == ("12", "6")
    assert done.code == 0, done
    report = json.loads(done.out)
    assert report["also"] == {
        "agent_messages": {"found": 12, "removed": 12},
        "agent_sessions": {"found": 6, "removed": 6},
    }
    assert report["left"] == {}
    for collection in (database.agent_messages, database.agent_sessions):
        assert set(await collection.distinct("session_id")) == set(ids[BOB])
    assert len(await session(database, ids[BOB][0]).get_items()) == 3


async def test_checkpoints_and_memories_of_langgraph_go(
    where: tuple[str, ...], database: Documents
) -> None:
    await put_person(database, ALICE, threads=1)
    await put_person(database, BOB, threads=1)
    for thread_id in (f"{ALICE}/0", f"{BOB}/0"):
        await put_recorded(database, thread_id)
        await put_recorded(database, thread_id, "_aio")

    also = ("--also", "langgraph", "--also", "langgraph-store")
    done = await run("erase-user", ALICE, "--yes", *also, *where)

    assert (done.code, done.err) == (0, ""), done
    assert "Removed from checkpoints_aio: 3\n" in done.out
    for name in LIBRARIES["langgraph"].collections:
        assert await database[name].distinct("thread_id") == [f"{BOB}/0"]
    assert await database["persistent-store"].distinct("namespace") == [f"{BOB}/0", "memories"]


async def test_a_person_of_sessions_alone_is_known(
    where: tuple[str, ...], database: Documents
) -> None:
    await put_sessions(database, [ALICE])

    done = await run("erase-user", ALICE, "--yes", *AGENTS, *where)

    assert (done.code, done.err) == (0, ""), done
    assert await database.agent_messages.count_documents({}) == 0


async def test_without_the_option_they_stay_and_are_told(
    where: tuple[str, ...], database: Documents
) -> None:
    await put_person(database, ALICE, threads=1)
    await put_sessions(database, [f"{ALICE}/0", ALICE])

    done = await run("erase-user", ALICE, "--yes", *where)

    assert done.code == 1
    assert "collections of the library agents-sdk. --also agents-sdk reaches" in done.err
    assert "Left in agent_messages: 2\n" in done.err
    assert await database.agent_messages.count_documents({}) == 4


async def test_an_earlier_user_with_the_identifier_has_sessions_too(
    where: tuple[str, ...], database: Documents
) -> None:
    await put_person(database, ALICE, threads=1)
    await put_sessions(database, [await user_id(database, ALICE)])
    await database.users.delete_one({"identifier": ALICE})

    done = await run("erase-user", ALICE, "--yes", *AGENTS, *where)

    assert (done.code, done.err) == (0, ""), done
    assert await database.agent_sessions.count_documents({}) == 0


async def test_a_killed_erasure_leaves_no_session_that_the_next_cannot_find(
    mongo_uri: str, where: tuple[str, ...], database: Documents
) -> None:
    await put_person(database, ALICE, threads=20)
    await put_sessions(database, [f"{ALICE}/{number}" for number in range(20)])

    async def some_are_gone() -> bool:
        return await database.threads.count_documents({"deletedAt": {"$exists": True}}) >= 3

    async with slowed(database, "findAndModify") as app:
        slow = ("--uri", f"{mongo_uri}/?appName={app}", *where[2:])
        code = await kill_when(some_are_gone, "erase-user", ALICE, "--yes", *AGENTS, *slow)
    assert code == -signal.SIGKILL
    assert await database.threads.count_documents({"userIdentifier": ALICE}) > 0

    done = await run("erase-user", ALICE, "--yes", *AGENTS, *where)

    # The kill may fall between the files of a thread and the thread, and then stderr names those.
    assert done.code == 0, done
    assert await database.agent_messages.count_documents({}) == 0


async def test_a_session_that_comes_back_meanwhile_is_found(database: Documents) -> None:
    await put_person(database, ALICE, threads=1)
    bucket = FileBucket(database)
    erasure = Erasure(database, bucket, ALICE, also=[LIBRARIES["agents-sdk"]])
    person = await erasure.person()
    erased = await erasure.erase(person, lambda: None)

    await put_sessions(database, [f"{ALICE}/0", ALICE])

    left = (await erasure.remaining(person, erased)).documents
    assert left == {"agent_messages": 4, "agent_sessions": 2}


async def test_collections_of_other_names_and_wrong_ones(
    where: tuple[str, ...], database: Documents
) -> None:
    await put_person(database, ALICE, threads=1)
    names = {"sessions_collection": "chats", "messages_collection": "turns"}
    await put_sessions(database, [f"{ALICE}/0"], **names)

    wrong = ("--also", "agents-sdk:chats,trns", "--also", "langgraph")
    dry = await run("erase-user", ALICE, "--dry-run", *wrong, *where)
    done = await run("erase-user", ALICE, "--yes", "--also", "agents-sdk:chats,turns", *where)

    missing = ("trns", *LIBRARIES["langgraph"].collections)
    told = "".join(f"Note: There is no collection {n!r}. Is its name right?\n" for n in missing)
    assert (dry.code, dry.err) == (0, told)
    assert (done.code, done.err) == (0, ""), done
    assert await database.chats.count_documents({}) == 0
    assert await database.turns.count_documents({}) == 0


@pytest.mark.parametrize(
    ("also", "told"),
    [
        ("autogen", "'autogen' is not known. Choose from agents-sdk, langgraph, langgraph-store."),
        ("agents-sdk:", "'' cannot be the name of a collection. Write, for example, agents-sdk:ag"),
        ("langgraph:a,$b", "'$b' cannot be the name of a collection."),
        ("agents-sdk:a,threads", "'threads' is a collection of mongo_datalayer."),
    ],
)
async def test_what_is_no_library_is_refused(also: str, told: str) -> None:
    done = await run("erase-user", ALICE, "--yes", "--also", also)

    assert done.code == 2
    assert told in " ".join(done.err.split())


async def test_the_role_of_the_app_may_use_the_collections() -> None:
    done = await run("role", "app", "--json", "--also", "agents-sdk:chats,turns")
    plain = await run("role", "app", "--json")
    analyst = await run("role", "analyst", "--also", "agents-sdk")

    def privileges(text: str) -> list[Any]:
        return list(json.loads(text)["app"]["privileges"])

    added = [each for each in privileges(done.out) if each not in privileges(plain.out)]
    assert [each["resource"]["collection"] for each in added] == ["chats", "turns"]
    assert {"find", "insert", "remove"} < set(added[0]["actions"])
    assert analyst.code == 2
    assert "--also changes the role of the app" in analyst.err
