"""The same calls on both data layers: each function makes some and returns what came of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias
from uuid import UUID

from chainlit.element import Audio, CustomElement, Element, File, Image
from chainlit.types import Feedback, Pagination, ThreadFilter
from chainlit.user import PersistedUser, User

Call: TypeAlias = Callable[[Any], Awaitable[Any]]

CALLS: dict[str, Call] = {}

# Chainlit's own, for a message.
STEP = {
    "type": "assistant_message",
    "name": "Assistant",
    "parentId": None,
    "input": "",
    "output": "Hello!",
    "createdAt": "2026-11-21T09:26:25.464944Z",
    "start": "2026-11-21T09:26:25.464944Z",
    "end": "2026-11-21T09:26:26.000001Z",
    "streaming": False,
    "isError": False,
    "waitForAnswer": False,
    "metadata": {"a": 1},
    "tags": ["x"],
    "language": None,
    "showInput": "json",
    "generation": None,
}


def call(name: str) -> Callable[[Call], Call]:
    """Registers a function under the name that the table in the docs has for it."""

    def register(function: Call) -> Call:
        assert name not in CALLS
        CALLS[name] = function
        return function

    return register


async def raised(awaitable: Awaitable[Any]) -> Any:
    """What came, or the kind of error."""
    try:
        return await awaitable
    except (ValueError, AssertionError, LookupError, OSError) as exc:
        kinds = (ValueError, AssertionError, LookupError, OSError)
        return f"raises {next(k for k in kinds if isinstance(exc, k)).__name__}"


async def ada(layer: Any, name: str = "ada") -> PersistedUser:
    user: PersistedUser = await layer.create_user(User(name, metadata={"role": "admin"}))
    return user


async def thread(layer: Any, thread_id: str, *outputs: str, name: str = "A chat") -> str:
    """A thread of ada's with one step for each output; her id."""
    user = await ada(layer)
    # As Chainlit does: the first message names the thread, the metadata comes when a session ends.
    await layer.update_thread(thread_id, name=name, user_id=user.id, tags=["t"])
    await layer.update_thread(thread_id, metadata={"k": 1})
    for number, output in enumerate(outputs):
        time = f"2026-11-21T09:26:2{number}.000001Z"
        await layer.create_step(step(f"{thread_id}/{number}", thread_id, output, createdAt=time))
    return str(user.id)


def step(step_id: str, thread_id: str, output: str = "Hello!", **fields: Any) -> dict[str, Any]:
    return {**STEP, "id": step_id, "threadId": thread_id, "output": output, **fields}


async def listed(layer: Any, first: int = 10, cursor: str | None = None, **filters: Any) -> Any:
    page = await layer.list_threads(Pagination(first=first, cursor=cursor), ThreadFilter(**filters))
    info = page.pageInfo
    return {
        "threads": [found["id"] for found in page.data],
        "step ids": [[s["id"] for s in found["steps"]] for found in page.data],
        "pageInfo": [info.hasNextPage, info.startCursor, info.endCursor],
    }


# Users ----------------------------------------------------------------------------------------


@call("create_user, get_user")
async def _(layer: Any) -> Any:
    return [await ada(layer), await layer.get_user("ada"), await layer.get_user("nobody")]


@call("create_user again")
async def _(layer: Any) -> Any:
    first = await ada(layer)
    second = await layer.create_user(User("ada", metadata={"other": [1, None, {"x": 0.5}]}))
    return [second.metadata, second.id == first.id, second.createdAt == first.createdAt]


@call("`create_user` with a display name")
async def _(layer: Any) -> Any:
    user = await layer.create_user(User("ada", display_name="Ada"))
    return user.display_name


# Threads --------------------------------------------------------------------------------------


@call("a whole thread")
async def _(layer: Any) -> Any:
    await thread(layer, "t", "Hi", "Hello!")
    return await layer.get_thread("t")


@call("get_thread of none")
async def _(layer: Any) -> Any:
    return await layer.get_thread("none")


@call("get_thread_author")
async def _(layer: Any) -> Any:
    await thread(layer, "t")
    await layer.update_thread("u", name="whose?")
    return [await raised(layer.get_thread_author(found)) for found in ("t", "u", "none")]


@call("update_thread, name and tags")
async def _(layer: Any) -> Any:
    await thread(layer, "t")
    await layer.update_thread("t", name="Renamed", tags=["a", "b"])
    found = await layer.get_thread("t")
    return [found["name"], found["tags"], found["metadata"], found["userIdentifier"]]


@call("`update_thread(metadata=…)`")
async def _(layer: Any) -> Any:
    await thread(layer, "t")
    await layer.update_thread("t", metadata={"other": 2})
    return (await layer.get_thread("t"))["metadata"]


@call("a `None` in metadata")
async def _(layer: Any) -> Any:
    await thread(layer, "t")
    await layer.update_thread("t", metadata={"k": 1, "gone": None})
    return (await layer.get_thread("t"))["metadata"]


@call('`update_thread(metadata={"name": …})`')
async def _(layer: Any) -> Any:
    await thread(layer, "t")
    await layer.update_thread("t", metadata={"k": 1, "name": "From metadata"})
    return (await layer.get_thread("t"))["name"]


@call("`update_thread(tags=[])`")
async def _(layer: Any) -> Any:
    await thread(layer, "t")
    await layer.update_thread("t", tags=[])
    return (await layer.get_thread("t"))["tags"]


@call("a name of more than 255 characters")
async def _(layer: Any) -> Any:
    await thread(layer, "t", name="x" * 300)
    return len((await layer.get_thread("t"))["name"])


@call("`update_thread` with a user that is not there")
async def _(layer: Any) -> Any:
    return await raised(layer.update_thread("t", name="A chat", user_id="nobody"))


@call("a thread that is renamed")
async def _(layer: Any) -> Any:
    user_id = await thread(layer, "one")
    await thread(layer, "two")
    await layer.update_thread("one", name="Renamed")
    return (await listed(layer, userId=user_id))["threads"]


@call("delete_thread")
async def _(layer: Any) -> Any:
    await thread(layer, "t", "Hi")
    await thread(layer, "u", "Hi")
    await layer.delete_thread("t")
    return [await layer.get_thread("t"), (await layer.get_thread("u"))["id"]]


@call("a thread whose first call has metadata")
async def _(layer: Any) -> Any:
    user = await ada(layer)
    await layer.update_thread("t", name="A chat", user_id=user.id, metadata={"k": 1})
    return (await layer.get_thread("t"))["createdAt"] is None


@call("late writes to a thread that was deleted")
async def _(layer: Any) -> Any:
    await thread(layer, "t")
    await layer.delete_thread("t")
    await layer.create_step(step("late", "t"))
    await layer.update_thread("t", metadata={"late": 1})
    return await layer.get_thread("t") is not None


@call("a step of a thread that is not there")
async def _(layer: Any) -> Any:
    await layer.create_step(step("s", "t"))
    found = await layer.get_thread("t")
    return found and [each["output"] for each in found["steps"]]


# Lists ----------------------------------------------------------------------------------------


@call("list_threads, page by page")
async def _(layer: Any) -> Any:
    for name in ("a", "b", "c"):
        user_id = await thread(layer, name, "Hi", "Hello!")
    first = await listed(layer, 2, userId=user_id)
    rest = await listed(layer, 2, first["pageInfo"][2], userId=user_id)
    last = await listed(layer, 2, rest["pageInfo"][2], userId=user_id)
    unknown = await listed(layer, 2, "no such thread", userId=user_id)
    return [first, rest, last, unknown]


@call("list_threads of nobody")
async def _(layer: Any) -> Any:
    await thread(layer, "a", "Hi")
    nobody = await raised(listed(layer))
    return [nobody, await listed(layer, userId="somebody else")]


@call("list_threads with a search in answers")
async def _(layer: Any) -> Any:
    for name, output in (("a", "Apples"), ("b", "pears")):
        user_id = await thread(layer, name, "Hi", output)
    searches = ("apple", "PEAR", "%", "plums")
    return [await listed(layer, userId=user_id, search=text) for text in searches]


@call("a search for a name")
async def _(layer: Any) -> Any:
    user_id = await thread(layer, "a", "Hi", name="About plums")
    return (await listed(layer, userId=user_id, search="plum"))["threads"]


@call("list_threads with a thumb up")
async def _(layer: Any) -> Any:
    for name in ("a", "b"):
        user_id = await thread(layer, name, "Hi", "Hello!")
    await layer.upsert_feedback(Feedback(forId="a/1", value=1, threadId="a"))
    return await listed(layer, userId=user_id, feedback=1)


@call("`list_threads` with `feedback=0`")
async def _(layer: Any) -> Any:
    for name in ("a", "b"):
        user_id = await thread(layer, name, "Hi", "Hello!")
    await layer.upsert_feedback(Feedback(forId="a/1", value=0, threadId="a"))
    return (await listed(layer, userId=user_id, feedback=0))["threads"]


@call("get_all_user_threads")
async def _(layer: Any) -> Any:
    user_id = await thread(layer, "a", "Hi")
    await thread(layer, "b", "Hi")
    await layer.update_thread("c", name="whose?")
    asked = [{"user_id": user_id}, {"thread_id": "a"}, {}, {"thread_id": "none"}]
    asked += [{"user_id": user_id, "thread_id": "c"}, {"user_id": "nobody"}]
    found = [await layer.get_all_user_threads(**each) for each in asked]
    return [[[t["id"], [s["id"] for s in t["steps"]]] for t in threads] for threads in found]


@call("get_all_user_threads, no more than the limit")
async def _(layer: Any) -> Any:
    for name in ("a", "b", "c"):
        user_id = await thread(layer, name)
    layer.user_thread_limit = 2
    return [found["id"] for found in await layer.get_all_user_threads(user_id)]


@call("threads beyond `user_thread_limit`")
async def _(layer: Any) -> Any:
    for name in ("a", "b", "c"):
        user_id = await thread(layer, name)
    layer.user_thread_limit = 2
    return (await listed(layer, userId=user_id))["threads"]


# Steps ----------------------------------------------------------------------------------------


@call("steps by time, whatever the order of the calls")
async def _(layer: Any) -> Any:
    await thread(layer, "t")
    for second in (3, 1, 2):
        time = f"2026-11-21T09:26:2{second}.000001Z"
        await layer.create_step(step(f"s{second}", "t", createdAt=time))
    return [each["id"] for each in (await layer.get_thread("t"))["steps"]]


@call("update_step, all fields")
async def _(layer: Any) -> Any:
    await thread(layer, "t", "Hi")
    await layer.update_step(step("t/0", "t", "Changed", metadata={"b": 2}, isError=True))
    return (await layer.get_thread("t"))["steps"]


@call("`update_step` without metadata, tags or `isError`")
async def _(layer: Any) -> Any:
    await thread(layer, "t")
    await layer.create_step(step("s", "t", isError=True))
    await layer.update_step(
        {"id": "s", "threadId": "t", "type": "tool", "name": "n", "output": "x"}
    )
    (found,) = (await layer.get_thread("t"))["steps"]
    return [found["output"], found["metadata"], found["tags"], bool(found["isError"])]


@call("a step of every kind")
async def _(layer: Any) -> Any:
    await thread(layer, "t")
    for number, kind in enumerate(("run", "tool", "llm", "user_message", "system_message")):
        time = f"2026-11-21T09:26:2{number}.000001Z"
        await layer.create_step(step(kind, "t", type=kind, createdAt=time))
    return [[s["id"], s["type"]] for s in (await layer.get_thread("t"))["steps"]]


@call("`showInput` and `generation`")
async def _(layer: Any) -> Any:
    await thread(layer, "t")
    for number, show in enumerate((True, False, "json")):
        fields: Any = {"showInput": show, "generation": {"provider": "x"}, "input": "in"}
        time = f"2026-11-21T09:26:2{number}.000001Z"
        await layer.create_step(step(f"s{number}", "t", createdAt=time, **fields))
    return (await layer.get_thread("t"))["steps"]


@call("the step that was given, after the call")
async def _(layer: Any) -> Any:
    await thread(layer, "t")
    given = step("s", "t", showInput="JSON")
    await layer.create_step(given)
    return given["showInput"]


@call("a parent that is not there")
async def _(layer: Any) -> Any:
    await thread(layer, "t")
    await layer.create_step(step("s", "t", parentId="gone"))
    return (await layer.get_thread("t"))["steps"][0]["parentId"]


@call("delete_step")
async def _(layer: Any) -> Any:
    await thread(layer, "t", "Hi", "Hello!")
    await layer.delete_step("t/1")
    return [each["id"] for each in (await layer.get_thread("t"))["steps"]]


@call("`delete_step` of a parent")
async def _(layer: Any) -> Any:
    await thread(layer, "t", "Hi")
    await layer.create_step(step("child", "t", parentId="t/0"))
    await layer.delete_step("t/0")
    return [each["id"] for each in (await layer.get_thread("t"))["steps"]]


# Feedback -------------------------------------------------------------------------------------


@call("upsert_feedback")
async def _(layer: Any) -> Any:
    await thread(layer, "t", "Hi")
    first = await layer.upsert_feedback(Feedback(forId="t/0", value=1, threadId="t", id="f"))
    changed = Feedback(forId="t/0", value=0, threadId="t", id="f", comment="Why?")
    second = await layer.upsert_feedback(changed)
    return [first, second, (await layer.get_thread("t"))["steps"][0]["feedback"]]


@call("delete_feedback")
async def _(layer: Any) -> Any:
    await thread(layer, "t", "Hi")
    await layer.upsert_feedback(Feedback(forId="t/0", value=1, threadId="t", id="f"))
    said = [await layer.delete_feedback("f"), await layer.delete_feedback("none")]
    return [said, (await layer.get_thread("t"))["steps"][0]["feedback"]]


@call("feedback that is neither 0 nor 1")
async def _(layer: Any) -> Any:
    await thread(layer, "t", "Hi")
    vote: Any = Feedback(forId="t/0", value=1, threadId="t", id="f")
    vote.value = -1
    return await raised(layer.upsert_feedback(vote))


@call("feedback for a step that is not there")
async def _(layer: Any) -> Any:
    return await raised(layer.upsert_feedback(Feedback(forId="none", value=1, id="f")))


@call("two votes for a step")
async def _(layer: Any) -> Any:
    await thread(layer, "t", "Hi")
    for value in (0, 1):
        vote: Any = Feedback(forId="t/0", value=1, threadId="t")
        vote.value = value
        assert isinstance(await layer.upsert_feedback(vote), str)
    return sorted(each["feedback"]["value"] for each in (await layer.get_thread("t"))["steps"])


# Elements -------------------------------------------------------------------------------------


def element(kind: type[Element] = File, **fields: Any) -> Any:
    """An element of thread t; Chainlit gives the thread when it is sent."""
    made: Any = kind(**{"name": "a.txt", "for_id": "t/0", "mime": "text/plain", **fields})
    made.thread_id, made.id = "t", "e"
    return made


async def elements(layer: Any) -> Any:
    return [each["id"] for each in (await layer.get_thread("t"))["elements"]]


@call("create_element, get_element")
async def _(layer: Any) -> Any:
    await thread(layer, "t", "Hi")
    await layer.create_element(element(Image, content=b"GIF89a", mime="image/gif", size="small"))
    found = [await layer.get_element("t", each) for each in ("e", "none")]
    return [*found, await layer.get_element("u", "e"), (await layer.get_thread("t"))["elements"]]


@call("delete_element")
async def _(layer: Any) -> Any:
    await thread(layer, "t", "Hi")
    await layer.create_element(element(content=b"text"))
    await layer.delete_element("e", "t")
    return [await elements(layer), await layer.get_element("t", "e")]


@call("an element without `for_id`")
async def _(layer: Any) -> Any:
    await thread(layer, "t", "Hi")
    await layer.create_element(element(content=b"text", for_id=None))
    return await elements(layer)


@call("an element with its content in a URL")
async def _(layer: Any) -> Any:
    await thread(layer, "t", "Hi")
    try:
        await layer.create_element(element(url="http://127.0.0.1:9/a.txt"))
    except OSError:  # it was asked for
        return "fetched"
    return (await layer.get_element("t", "e"))["url"]


@call("custom elements and audio")
async def _(layer: Any) -> Any:
    await thread(layer, "t", "Hi")
    custom = CustomElement(name="Card", props={"a": 1}, for_id="t/0", thread_id="t", id="c")
    await layer.create_element(custom)
    await layer.create_element(element(Audio, content=b"ID3", mime="audio/mpeg"))
    return await elements(layer)


@call("an element that is created twice")
async def _(layer: Any) -> Any:
    await thread(layer, "t", "Hi")
    await layer.create_element(element(content=b"text"))
    await layer.create_element(element(content=b"text", name="b.txt"))
    return (await layer.get_element("t", "e"))["name"]


@call("an element without MIME type")
async def _(layer: Any) -> Any:
    await thread(layer, "t", "Hi")
    made = element(content=b"text", mime=None)
    await layer.create_element(made)
    return [made.mime, (await layer.get_element("t", "e"))["mime"]]


# The rest -------------------------------------------------------------------------------------


@call("settings")
async def _(layer: Any) -> Any:
    await layer.save_setting("model_name", "gpt-4o-mini")
    await layer.save_setting("a.$b", '{"a": 1}')
    await layer.save_setting("model_name", "other")
    return [await layer.load_setting(key) for key in ("model_name", "a.$b", "none")]


@call("the small methods")
async def _(layer: Any) -> Any:
    time = await layer.get_current_timestamp()
    cleaned = layer.clean_result({"a": [UUID(int=1), 1, None], "b": {"c": UUID(int=2)}})
    return [await layer.build_debug_url(), len(time), time[-1], cleaned, layer.initialize()]


@call("`execute_sql`, `engine`, `async_session`")
async def _(layer: Any) -> Any:
    return [hasattr(layer, "engine"), hasattr(layer, "async_session")]
