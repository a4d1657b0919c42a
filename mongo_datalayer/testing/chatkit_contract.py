"""What a ChatKit store must do, as tests to inherit.

::

    class TestMyStore(ChatKitStoreContract):
        @pytest.fixture
        async def store(self):
            store = MyStore(...)
            yield store
            await store.close()

The fixture gives an empty store that is a ``Store`` and an ``AttachmentStore``. The tests pass it
contexts that :meth:`~ChatKitStoreContract.context_of` makes. The name of each test begins with the
clause it shows: C1 to C20 are what ``ChatKitServer`` relies on, and what an app in production
needs.
"""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from chatkit import types as chatkit_types
from chatkit.actions import Action
from chatkit.server import ChatKitServer, NonStreamingResult, StreamingResult
from chatkit.store import AttachmentStore, NotFoundError, Store
from chatkit.types import (
    Annotation,
    AssistantMessageContent,
    AssistantMessageContentPartTextDelta,
    AssistantMessageItem,
    Attachment,
    AttachmentCreateParams,
    ClientToolCallItem,
    ClosedStatus,
    CustomSummary,
    CustomTask,
    DurationSummary,
    EndOfTurnItem,
    EntitySource,
    FileAttachment,
    FileSource,
    FileTask,
    GeneratedImage,
    GeneratedImageItem,
    HiddenContextItem,
    ImageAttachment,
    ImageTask,
    InferenceOptions,
    LockedStatus,
    Page,
    SDKHiddenContextItem,
    SearchTask,
    TaskItem,
    ThoughtTask,
    Thread,
    ThreadItem,
    ThreadItemAddedEvent,
    ThreadItemDoneEvent,
    ThreadItemRemovedEvent,
    ThreadItemReplacedEvent,
    ThreadItemUpdatedEvent,
    ThreadMetadata,
    ThreadStreamEvent,
    ToolChoice,
    URLSource,
    UserMessageItem,
    UserMessageTagContent,
    UserMessageTextContent,
    WidgetItem,
    Workflow,
    WorkflowItem,
)
from chatkit.widgets import DynamicWidgetRoot
from pydantic import AnyUrl

if TYPE_CHECKING:
    from chatkit.types import AudioInput, SyncCustomActionResponse, TranscriptionResult

START = datetime(2026, 3, 1, 10, 0, 0, 123456)  # noqa: DTZ001 - ChatKit's times have no zone
TRICKY = {"a.b": 1, "$set": {"$x": [None, "$100"]}, "": "", "€": 1.5, "$ref": {"$id": 0}}

Respond = Callable[[ThreadMetadata, UserMessageItem | None], AsyncIterator[ThreadStreamEvent]]


def at(microseconds: int = 0) -> datetime:
    """A time as ChatKit makes them: local, without a zone, to the microsecond."""
    return START + timedelta(microseconds=microseconds)


def thread(id: str = "t", microseconds: int = 0, **fields: Any) -> ThreadMetadata:  # noqa: A002
    """A thread."""
    return ThreadMetadata(id=id, created_at=at(microseconds), **fields)


def message(
    id: str,  # noqa: A002 - ChatKit's name
    microseconds: int = 0,
    text: str = "hello",
    **fields: Any,
) -> UserMessageItem:
    """A message of a person."""
    made = {"thread_id": "t", "inference_options": InferenceOptions(), **fields}
    content: list[Any] = [UserMessageTextContent(text=text)]
    return UserMessageItem(id=id, created_at=at(microseconds), content=content, **made)


def answer(id: str, microseconds: int = 0, text: str = "hello") -> AssistantMessageItem:  # noqa: A002
    """A message of the assistant."""
    content = [AssistantMessageContent(text=text)]
    return AssistantMessageItem(id=id, thread_id="t", created_at=at(microseconds), content=content)


def widget(**fields: Any) -> DynamicWidgetRoot:
    """A widget as ChatKit's templates build them, with fields that no strict model knows."""
    return DynamicWidgetRoot.model_validate(
        {
            "type": "Card",
            "frobnicate": {"a.b": 1, "$x": [1, 2]},
            "children": [
                {"type": "Text", "value": "Hi", "id": "text", "madeUpLater": True},
                {"type": "NotInventedYet", "children": [{"type": "Row", "children": []}]},
            ],
            **fields,
        }
    )


def every_item() -> list[Any]:
    """An item of each type, with everything in it that it can have."""

    def common(id: str) -> dict[str, Any]:  # noqa: A002 - ChatKit's name
        return {"id": id, "thread_id": "t", "created_at": at()}

    tasks: list[Any] = [
        CustomTask(title="T", icon="sparkle", content="c", status_indicator="complete"),
        SearchTask(title="S", queries=["q"], sources=[URLSource(title="u", url="https://x")]),
        ThoughtTask(title="T", content="hm"),
        FileTask(title="F", sources=[FileSource(title="f", filename="a.txt")]),
        ImageTask(title="I"),
    ]
    entity = EntitySource(id="e", title="E", interactive=True, data=TRICKY, icon="sparkle")
    return [
        UserMessageItem(
            **common("user"),
            content=[
                UserMessageTextContent(text="$100 \U0001f600 \x00 <b>"),
                UserMessageTagContent(id="tag", text="@x", data=TRICKY, group="g"),
            ],
            attachments=[
                FileAttachment(id="f", name="a.pdf", mime_type="application/pdf", metadata=TRICKY),
                ImageAttachment(
                    id="i",
                    name="a.png",
                    mime_type="image/png",
                    preview_url=AnyUrl("https://x/y.png"),
                ),
            ],
            quoted_text="quoted",
            inference_options=InferenceOptions(tool_choice=ToolChoice(id="x"), model="m"),
        ),
        AssistantMessageItem(
            **common("assistant"),
            content=[
                AssistantMessageContent(
                    text="text",
                    annotations=[
                        Annotation(source=URLSource(title="u", url="https://x"), index=1),
                        Annotation(source=FileSource(title="f", filename="a.txt")),
                        Annotation(source=entity, index=0),
                    ],
                )
            ],
        ),
        ClientToolCallItem(
            **common("tool"),
            call_id="c",
            name="n",
            arguments={**TRICKY, "large": 2**80},
            output=[TRICKY, 0, False, ""],
            status="completed",
        ),
        WidgetItem(**common("widget"), widget=widget(), copy_text="copy"),
        GeneratedImageItem(**common("image"), image=GeneratedImage(id="g", url="https://x")),
        *structured_inputs(**common("input")),
        *(TaskItem(**common(f"task {task.type}"), task=task) for task in tasks),
        WorkflowItem(
            **common("workflow"),
            workflow=Workflow(
                type="custom", tasks=tasks, summary=CustomSummary(title="S"), expanded=True
            ),
        ),
        WorkflowItem(
            **common("reasoning"),
            workflow=Workflow(type="reasoning", tasks=[], summary=DurationSummary(duration=3)),
        ),
        HiddenContextItem(**common("hidden"), content={"any": [TRICKY], "lone": "\ud800"}),
        SDKHiddenContextItem(**common("sdk"), content="stop"),
        EndOfTurnItem(**common("end")),
    ]


def structured_inputs(**common: Any) -> list[Any]:
    """An item with answered questions, from ChatKit 1.6.4 on; nothing before."""
    if not hasattr(chatkit_types, "StructuredInputItem"):
        return []
    choice = chatkit_types.StructuredInputMultipleChoice(
        id="q1",
        question="?",
        options=[chatkit_types.StructuredInputMultipleChoiceOption(value="a")],
        multiple=True,
        answer=chatkit_types.StructuredInputAnswer(values=["a"]),
    )
    text = chatkit_types.StructuredInputFreeform(
        id="q2", question="?", answer=chatkit_types.StructuredInputAnswer(skipped=True)
    )
    return [chatkit_types.StructuredInputItem(**common, status="answered", inputs=[choice, text])]


def with_fields(attachment: Attachment, **fields: Any) -> Attachment:
    """An attachment with those fields that it has in this version of ChatKit."""
    known = {name: fields[name] for name in fields if name in type(attachment).model_fields}
    return attachment.model_copy(update=known)


def require(name: str) -> None:
    """Skip the test where this ChatKit is older than one of its types."""
    if not hasattr(chatkit_types, name):
        pytest.skip(f"This version of openai-chatkit has no {name}.")


class ScriptedServer(ChatKitServer[Any]):
    """ChatKit's own server; what it answers is up to ``script``.

    Args:
        store: The store under test, in both roles.
        script: Makes the events of an answer.
    """

    def __init__(self, store: Any, script: Respond) -> None:
        super().__init__(store, store)
        self.script = script
        self.actions: list[Any] = []

    def respond(
        self, thread: ThreadMetadata, input_user_message: UserMessageItem | None, context: Any
    ) -> AsyncIterator[ThreadStreamEvent]:
        return self.script(thread, input_user_message)

    async def action(
        self,
        thread: ThreadMetadata,
        action: Action[str, Any],
        sender: WidgetItem | None,
        context: Any,
    ) -> AsyncIterator[ThreadStreamEvent]:
        self.actions.append((thread, action.type, sender))
        assert sender is not None
        replaced = sender.model_copy(update={"widget": widget(frobnicate=action.payload)})
        yield ThreadItemReplacedEvent(item=replaced)

    async def sync_action(
        self,
        thread: ThreadMetadata,
        action: Action[str, Any],
        sender: WidgetItem | None,
        context: Any,
    ) -> SyncCustomActionResponse:
        self.actions.append((thread, action.type, sender))
        return chatkit_types.SyncCustomActionResponse(updated_item=sender)

    async def transcribe(self, audio_input: AudioInput, context: Any) -> TranscriptionResult:
        return chatkit_types.TranscriptionResult(text=str(len(audio_input.data)))

    async def add_feedback(
        self, thread_id: str, item_ids: list[str], feedback: Any, context: Any
    ) -> None:
        await self.store.add_feedback(thread_id, item_ids, feedback, context)  # type: ignore[attr-defined]  # the clause C20 asks for it

    async def ask(self, type: str, context: Any, **params: Any) -> Any:  # noqa: A002
        """Send a request as the web client does; the answer, or all events of a stream."""
        result = await self.process(json.dumps({"type": type, "params": params}), context)
        if isinstance(result, NonStreamingResult):
            return json.loads(result.json)
        assert isinstance(result, StreamingResult)
        return [event_of(chunk) async for chunk in result]


def event_of(chunk: bytes) -> Any:
    """The event in a chunk of a stream."""
    assert chunk.startswith(b"data: ")
    return json.loads(chunk.removeprefix(b"data: "))


def user_input(text: str = "hello", *attachments: str) -> dict[str, Any]:
    """What a person sends."""
    return {
        "content": [{"type": "input_text", "text": text}],
        "attachments": list(attachments),
        "inference_options": {},
    }


class ChatKitStoreContract:
    """The contract; see the module."""

    @pytest.fixture
    async def store(self) -> Any:
        """An empty store; to be overridden."""
        raise NotImplementedError("Give the contract class a fixture named 'store'.")

    def context_of(self, owner: str) -> Any:
        """The context of a request of ``owner``."""
        return {"user_id": owner}

    @pytest.fixture
    def ada(self) -> Any:
        """The context of a request."""
        return self.context_of("ada")

    @pytest.fixture
    def bob(self) -> Any:
        """The context of a request of somebody else."""
        return self.context_of("bob")

    @pytest.fixture
    def server(self, store: Any) -> ScriptedServer:
        """ChatKit's server on the store; it answers "Echo: " and what was said."""
        return ScriptedServer(store, self.echo(store))

    @staticmethod
    def echo(store: Any) -> Respond:
        """One finished message."""
        number = iter(range(1_000_000))

        async def respond(
            thread: ThreadMetadata, said: UserMessageItem | None
        ) -> AsyncIterator[ThreadStreamEvent]:
            text = "nothing" if said is None else said.content[0].text
            made = answer(f"answer {next(number)}", text=f"Echo: {text}")
            made = made.model_copy(
                update={"thread_id": thread.id, "created_at": datetime.now()}  # noqa: DTZ005
            )
            yield ThreadItemDoneEvent(item=made)

        return respond

    @staticmethod
    async def ids(
        store: Any, context: Any, thread_id: str = "t", *, limit: int = 1000, order: str = "asc"
    ) -> list[str]:
        """The ids of a thread's items, on one page."""
        page = await store.load_thread_items(thread_id, None, limit, order, context)
        assert not page.has_more
        return [item.id for item in page.data]

    @staticmethod
    async def scan(
        store: Any, context: Any, limit: int, order: str, between: Awaitable[Any] | None = None
    ) -> list[str]:
        """The ids of all items of the thread t, page by page; ``between`` the first two."""
        found: list[str] = []
        after: str | None = None
        while True:
            page = await store.load_thread_items("t", after, limit, order, context)
            assert len(page.data) <= limit
            found += [item.id for item in page.data]
            if not page.has_more:
                assert not page.after
                return found
            assert page.after == page.data[-1].id
            after = page.after
            if between is not None:
                await between
                between = None

    # C1 ---------------------------------------------------------------------------------------

    def test_c1_parameters_have_chatkits_names(self, store: Any) -> None:
        for base in (Store, AttachmentStore):
            assert isinstance(store, base)
            for name, method in inspect.getmembers(base, inspect.isfunction):
                if name.startswith("_"):
                    continue
                expected = list(inspect.signature(method).parameters)
                given = list(inspect.signature(getattr(type(store), name)).parameters)
                assert given == expected, name

    # C2 ---------------------------------------------------------------------------------------

    async def test_c2_what_is_missing_is_not_found(self, store: Any, ada: Any) -> None:
        with pytest.raises(NotFoundError, match="Thread t not found"):
            await store.load_thread("t", ada)
        with pytest.raises(NotFoundError):
            await store.load_attachment("a", ada)
        with pytest.raises(NotFoundError):
            await store.load_item("t", "i", ada)
        await store.save_thread(thread(), ada)
        with pytest.raises(NotFoundError):
            await store.load_item("t", "i", ada)

    async def test_c2_a_cursor_that_never_was_is_an_error(self, store: Any, ada: Any) -> None:
        await store.save_thread(thread(), ada)
        await store.add_thread_item("t", message("i"), ada)
        with pytest.raises(NotFoundError):
            await store.load_thread_items("t", "never", 10, "asc", ada)
        with pytest.raises(ValueError, match="never"):
            await store.load_threads(10, "never", "asc", ada)

    async def test_c2_nothing_is_added_to_a_thread_that_is_not_there(
        self, store: Any, ada: Any
    ) -> None:
        with pytest.raises(NotFoundError, match="Thread t not found"):
            await store.add_thread_item("t", message("i"), ada)
        with pytest.raises(NotFoundError, match="Thread t not found"):
            await store.save_item("t", message("i"), ada)

    # C3 ---------------------------------------------------------------------------------------

    async def test_c3_a_thread_that_is_not_there_has_no_items(
        self, store: Any, ada: Any, bob: Any
    ) -> None:
        await store.save_thread(thread(), ada)
        await store.add_thread_item("t", message("i"), ada)
        for name, context in (("x", ada), ("t", bob)):
            for after in (None, "i"):
                page = await store.load_thread_items(name, after, 10, "asc", context)
                assert (page.data, page.has_more) == ([], False)

    async def test_c3_deleting_what_is_missing_succeeds(self, store: Any, ada: Any) -> None:
        await store.delete_thread("t", ada)
        await store.delete_thread_item("t", "i", ada)
        await store.delete_attachment("a", ada)
        await store.save_thread(thread(), ada)
        for _ in range(2):
            await store.delete_thread_item("t", "i", ada)
        for _ in range(2):
            await store.delete_thread("t", ada)

    # C4, C5 -----------------------------------------------------------------------------------

    @pytest.mark.parametrize("order", ["asc", "desc"])
    @pytest.mark.parametrize("ties", [False, True], ids=["different times", "equal times"])
    async def test_c4_c5_every_page_size_gives_each_item_once_in_order(
        self, store: Any, ada: Any, order: str, ties: bool
    ) -> None:
        await store.save_thread(thread(), ada)
        expected = [f"i{(number * 7) % 11}" for number in range(11)]
        for number, name in enumerate(expected):
            await store.add_thread_item("t", message(name, 0 if ties else number), ada)
        if order == "desc":
            expected.reverse()

        for limit in (1, 2, 3, 10, 11, 12):
            assert await self.scan(store, ada, limit, order) == expected

    async def test_c5_the_order_is_by_time_then_by_arrival(self, store: Any, ada: Any) -> None:
        await store.save_thread(thread(), ada)
        for name, microsecond in (("c", 2), ("a", 1), ("b", 1), ("d", 2), ("first", 0)):
            await store.add_thread_item("t", message(name, microsecond), ada)

        expected = ["first", "a", "b", "c", "d"]
        assert await self.ids(store, ada) == expected
        assert await self.scan(store, ada, 2, "desc") == expected[::-1]

    @pytest.mark.parametrize("order", ["asc", "desc"])
    async def test_c4_c5_a_page_goes_on_after_an_item_that_was_deleted(
        self, store: Any, ada: Any, order: str
    ) -> None:
        """Also where its neighbours, of the same time, were deleted with it."""
        names = [f"i{number}" for number in range(8)]
        expected = names if order == "asc" else names[::-1]
        for limit in (1, 3, 7):
            for gone in ({limit - 1}, {limit - 2, limit - 1, limit}, set(range(8))):
                await store.save_thread(thread(), ada)
                for name in names:
                    await store.add_thread_item("t", message(name), ada)
                deleted = [expected[place] for place in gone if 0 <= place < 8]

                async def delete(deleted: list[str] = deleted) -> None:
                    for name in deleted:
                        await store.delete_thread_item("t", name, ada)

                found = await self.scan(store, ada, limit, order, between=delete())
                rest = [name for name in expected[limit:] if name not in deleted]
                assert found == expected[:limit] + rest
                for name in names:
                    await store.delete_thread_item("t", name, ada)

    @pytest.mark.parametrize("order", ["asc", "desc"])
    async def test_c4_c5_threads_are_paged_alike(self, store: Any, ada: Any, order: str) -> None:
        names = [f"t{number}" for number in range(7)]
        for number, name in enumerate(names):
            await store.save_thread(thread(name, number // 2), ada)
        first = await store.load_threads(100, None, order, ada)
        expected = [found.id for found in first.data]
        assert (sorted(expected), first.has_more) == (names, False)
        times = [found.created_at for found in first.data]
        assert times == sorted(times, reverse=order == "desc")

        for limit in range(1, 9):
            found, after = [], None
            while True:
                page = await store.load_threads(limit, after, order, ada)
                found += [each.id for each in page.data]
                assert len(page.data) <= limit
                if not page.has_more:
                    assert not page.after
                    break
                assert page.after == page.data[-1].id
                after = page.after
            assert found == expected

        await store.delete_thread(expected[2], ada)
        page = await store.load_threads(100, expected[2], order, ada)
        assert [each.id for each in page.data] == expected[3:]

    # C6 ---------------------------------------------------------------------------------------

    async def test_c6_times_come_back_to_the_microsecond(self, store: Any, ada: Any) -> None:
        await store.save_thread(thread(), ada)
        assert (await store.load_thread("t", ada)).created_at == START
        await store.add_thread_item("t", message("i", 1), ada)
        loaded = await store.load_item("t", "i", ada)
        assert loaded.created_at == at(1)
        assert loaded.created_at.tzinfo is None

    # C7 ---------------------------------------------------------------------------------------

    async def test_c7_adding_never_overwrites(self, store: Any, ada: Any) -> None:
        await store.save_thread(thread(), ada)
        await store.add_thread_item("t", message("i", text="first"), ada)
        await store.add_thread_item("t", message("j"), ada)

        for other in (message("i", 1, text="second"), answer("i", text="second")):
            with pytest.raises(Exception, match="i"):
                await store.add_thread_item("t", other, ada)

        assert await store.load_item("t", "i", ada) == message("i", text="first")
        assert await self.ids(store, ada) == ["i", "j"]

    async def test_c7_a_later_version_of_an_item_replaces_it_in_place(
        self, store: Any, ada: Any
    ) -> None:
        """As the Agents SDK's helper stores a workflow before a client tool and after it."""
        tasks: list[Any] = [ThoughtTask(content=f"thought {number}") for number in range(2)]

        def workflow(count: int, microseconds: int = 0) -> WorkflowItem:
            content = Workflow(type="reasoning", tasks=tasks[:count])
            return WorkflowItem(
                id="w", thread_id="t", created_at=at(microseconds), workflow=content
            )

        await store.save_thread(thread(), ada)
        await store.add_thread_item("t", workflow(1), ada)
        await store.add_thread_item("t", message("after"), ada)
        await store.add_thread_item("t", workflow(2), ada)

        assert await store.load_item("t", "w", ada) == workflow(2)
        assert await self.ids(store, ada) == ["w", "after"]
        with pytest.raises(Exception, match="w"):
            await store.add_thread_item("t", workflow(0, 1), ada)

    async def test_c7_adding_the_same_again_changes_nothing(self, store: Any, ada: Any) -> None:
        await store.save_thread(thread(), ada)
        for name in ("i", "j", "i", "i"):
            await store.add_thread_item("t", message(name), ada)
        assert await self.ids(store, ada) == ["i", "j"]

    async def test_c7_the_same_item_added_at_once_is_there_once(self, store: Any, ada: Any) -> None:
        await store.save_thread(thread(), ada)
        await asyncio.gather(*(store.add_thread_item("t", message("i"), ada) for _ in range(10)))
        assert await self.ids(store, ada) == ["i"]

    # C8 ---------------------------------------------------------------------------------------

    async def test_c8_saving_replaces_in_place_or_appends(self, store: Any, ada: Any) -> None:
        await store.save_thread(thread(), ada)
        for name in ("a", "b", "c"):
            await store.add_thread_item("t", message(name), ada)

        await store.save_item("t", message("a", text="new"), ada)
        await store.save_item("t", message("d"), ada)

        assert await self.ids(store, ada) == ["a", "b", "c", "d"]
        assert await store.load_item("t", "a", ada) == message("a", text="new")
        await store.save_item("t", message("b", 5), ada)
        assert await self.ids(store, ada) == ["a", "b", "c", "d"]

    # C9 ---------------------------------------------------------------------------------------

    async def test_c9_a_thread_is_saved_and_loaded_without_items(
        self, store: Any, ada: Any
    ) -> None:
        page: Page[ThreadItem] = Page(data=[message("i")], has_more=True, after="i")
        whole = Thread(**thread(title="T", metadata={"a": 1}).model_dump(), items=page)

        await store.save_thread(whole, ada)

        loaded = await store.load_thread("t", ada)
        assert loaded == thread(title="T", metadata={"a": 1})
        assert not hasattr(loaded, "items")
        assert await self.ids(store, ada) == []
        await store.add_thread_item("t", message("kept"), ada)
        await store.save_thread(whole, ada)
        assert await self.ids(store, ada) == ["kept"]
        assert "items" not in (await store.load_threads(1, None, "asc", ada)).data[0].model_dump()

    # C10 --------------------------------------------------------------------------------------

    @pytest.mark.parametrize("item", every_item(), ids=lambda item: item.id)
    async def test_c10_every_item_comes_back_equal(self, store: Any, ada: Any, item: Any) -> None:
        await store.save_thread(thread(), ada)
        await store.add_thread_item("t", item, ada)
        assert await store.load_item("t", item.id, ada) == item
        page = await store.load_thread_items("t", None, 10, "desc", ada)
        assert page.data == [item]
        await store.save_item("t", item, ada)
        assert await store.load_item("t", item.id, ada) == item

    @pytest.mark.parametrize(
        "fields",
        [
            {},
            {"title": None, "metadata": TRICKY},
            {"title": "", "allowed_image_domains": ["a.b", "c"]},
            {"title": "$100", "status": LockedStatus(reason="a")},
            {"status": LockedStatus()},
            {"status": ClosedStatus(reason="$b"), "allowed_image_domains": []},
            {"metadata": {"large": 2**70, "lone": "\udc00", "nul\x00": {"deep": [[[]]]}}},
        ],
    )
    async def test_c10_every_thread_comes_back_equal(
        self, store: Any, ada: Any, fields: Any
    ) -> None:
        await store.save_thread(thread(title="before", metadata={"gone": 2**70}), ada)
        await store.save_thread(thread(**fields), ada)
        assert await store.load_thread("t", ada) == thread(**fields)
        page = await store.load_threads(10, None, "asc", ada)
        assert page.data == [thread(**fields)]

    async def test_c10_updates_do_not_move_threads(self, store: Any, ada: Any) -> None:
        for number in range(3):
            await store.save_thread(thread(f"t{number}", number), ada)
        await store.save_thread(thread("t0", 0, title="new"), ada)
        await store.add_thread_item("t0", message("i", thread_id="t0"), ada)
        await store.save_thread(thread("t1", 1, title="new"), ada)
        page = await store.load_threads(10, None, "desc", ada)
        assert [found.id for found in page.data] == ["t2", "t1", "t0"]

    async def test_c10_what_is_changed_by_the_caller_afterwards_is_not_stored(
        self, store: Any, ada: Any
    ) -> None:
        saved = thread(metadata={"a": 1})
        saving = asyncio.ensure_future(store.save_thread(saved, ada))
        await asyncio.sleep(0)
        saved.metadata["a"] = 2
        await saving
        item = message("i")
        adding = asyncio.ensure_future(store.add_thread_item("t", item, ada))
        await asyncio.sleep(0)
        item.content[0].text = "changed"
        await adding
        assert (await store.load_thread("t", ada)).metadata == {"a": 1}
        assert (await store.load_item("t", "i", ada)).content[0].text == "hello"

    # C11 --------------------------------------------------------------------------------------

    async def test_c11_retry_removes_everything_after_the_message(
        self, store: Any, server: ScriptedServer, ada: Any
    ) -> None:
        await store.save_thread(thread(), ada)
        for number in range(50):  # the server pages by 20
            await store.add_thread_item("t", message(f"i{number}", text=f"{number}"), ada)

        events = await server.ask("threads.retry_after_item", ada, thread_id="t", item_id="i3")

        assert events[-1]["item"]["content"][0]["text"] == "Echo: 3"
        assert await self.ids(store, ada) == ["i0", "i1", "i2", "i3", "answer 0"]

    # C12 --------------------------------------------------------------------------------------

    async def test_c12_the_output_of_a_client_tool_completes_its_call(
        self, store: Any, ada: Any
    ) -> None:
        def call(name: str) -> ClientToolCallItem:
            now = datetime.now()  # noqa: DTZ005 - ChatKit's times have no zone
            return ClientToolCallItem(
                id=name, thread_id="t", created_at=now, call_id=name, name="n", arguments={}
            )

        async def respond(
            thread: ThreadMetadata, said: UserMessageItem | None
        ) -> AsyncIterator[ThreadStreamEvent]:
            if said is not None:
                yield ThreadItemDoneEvent(item=call("forgotten"))
                yield ThreadItemDoneEvent(item=call("asked"))
            else:
                thanks = answer("thanks")
                now = datetime.now()  # noqa: DTZ005
                yield ThreadItemDoneEvent(item=thanks.model_copy(update={"created_at": now}))

        server = ScriptedServer(store, respond)
        await store.save_thread(thread(), ada)
        await server.ask("threads.add_user_message", ada, thread_id="t", input=user_input())
        latest = await store.load_thread_items("t", None, 1, "desc", ada)
        assert [(item.id, item.status) for item in latest.data] == [("asked", "pending")]

        await server.ask(
            "threads.add_client_tool_output", ada, thread_id="t", result={"$a.b": [1, None]}
        )

        *_, asked, thanks = (await store.load_thread_items("t", None, 9, "asc", ada)).data
        assert (asked.status, asked.output) == ("completed", {"$a.b": [1, None]})
        assert thanks.id == "thanks"
        assert "forgotten" not in await self.ids(store, ada)

    # C13 --------------------------------------------------------------------------------------

    async def test_c13_hidden_items_are_stored_and_counted_and_shown_to_nobody(
        self, store: Any, server: ScriptedServer, ada: Any
    ) -> None:
        hidden = HiddenContextItem(id="h", thread_id="t", created_at=at(), content={"a": 1})
        inside = SDKHiddenContextItem(id="s", thread_id="t", created_at=at(), content="stop")
        await store.save_thread(thread(), ada)
        for item in (hidden, message("m"), inside):
            await store.add_thread_item("t", item, ada)

        page = await store.load_thread_items("t", None, 2, "asc", ada)
        assert ([item.id for item in page.data], page.has_more) == (["h", "m"], True)
        listed = await server.ask("items.list", ada, thread_id="t", limit=2, order="asc")
        assert [item["id"] for item in listed["data"]] == ["m"]
        assert (listed["has_more"], listed["after"]) == (True, "m")
        whole = await server.ask("threads.get_by_id", ada, thread_id="t")
        assert [item["id"] for item in whole["items"]["data"]] == ["m"]

    # C14 --------------------------------------------------------------------------------------

    async def test_c14_a_cancelled_stream_keeps_what_was_said_and_ends_hidden(
        self, store: Any, ada: Any
    ) -> None:
        waits = asyncio.Event()

        async def respond(
            thread: ThreadMetadata, said: UserMessageItem | None
        ) -> AsyncIterator[ThreadStreamEvent]:
            part = answer("part", 1, text="")
            yield ThreadItemAddedEvent(item=part)
            delta = AssistantMessageContentPartTextDelta(content_index=0, delta="half")
            yield ThreadItemUpdatedEvent(item_id="part", update=delta)
            waits.set()
            await asyncio.sleep(60)

        server = ScriptedServer(store, respond)
        await store.save_thread(thread(), ada)
        asking = asyncio.ensure_future(
            server.ask("threads.add_user_message", ada, thread_id="t", input=user_input())
        )
        await waits.wait()
        await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking

        items = (await store.load_thread_items("t", None, 9, "desc", ada)).data
        by_type = {item.type: item for item in items}
        assert by_type["assistant_message"].content[0].text == "half"
        assert isinstance(items[0], SDKHiddenContextItem)
        assert len(items) == 3

    async def test_c14_a_stream_cancelled_while_an_item_is_stored_has_it_once(
        self, store: Any, ada: Any
    ) -> None:
        """Whenever it is cancelled: the server then stores what it has of the same item."""
        for number in range(30):
            name = f"t{number}"
            done = answer("item", 1, text="the whole of it")
            begun = asyncio.Event()

            async def respond(
                thread: ThreadMetadata,
                said: UserMessageItem | None,
                done: AssistantMessageItem = done,
                begun: asyncio.Event = begun,
            ) -> AsyncIterator[ThreadStreamEvent]:
                yield ThreadItemAddedEvent(item=answer("item", 1, text="the"))
                begun.set()
                yield ThreadItemDoneEvent(item=done)
                await asyncio.sleep(60)

            server = ScriptedServer(store, respond)
            await store.save_thread(thread(name), ada)
            asking = asyncio.ensure_future(
                server.ask("threads.add_user_message", ada, thread_id=name, input=user_input())
            )
            await begun.wait()
            await asyncio.sleep(number * 0.0001)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking

            items = (await store.load_thread_items(name, None, 9, "asc", ada)).data
            kinds = sorted(item.type for item in items)
            assert kinds == ["assistant_message", "sdk_hidden_context", "user_message"]
            said = next(item for item in items if item.id == "item")
            assert said.content[0].text in ("the", "the whole of it")

    async def test_c14_a_stream_of_a_deleted_thread_can_be_cancelled(
        self, store: Any, ada: Any
    ) -> None:
        waits = asyncio.Event()

        async def respond(
            thread: ThreadMetadata, said: UserMessageItem | None
        ) -> AsyncIterator[ThreadStreamEvent]:
            yield ThreadItemAddedEvent(item=answer("part", 1, text="half"))
            waits.set()
            await asyncio.sleep(60)

        server = ScriptedServer(store, respond)
        await store.save_thread(thread(), ada)
        asking = asyncio.ensure_future(
            server.ask("threads.add_user_message", ada, thread_id="t", input=user_input())
        )
        await waits.wait()
        await store.delete_thread("t", ada)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await self.assert_gone(store, ada)

    # C15 --------------------------------------------------------------------------------------

    async def test_c15_a_new_thread_holds_its_message_and_attachments(
        self, store: Any, server: ScriptedServer, ada: Any
    ) -> None:
        params = AttachmentCreateParams(name="a.png", size=3, mime_type="image/png")
        attachment = await store.create_attachment(params, ada)
        await store.save_attachment(attachment, ada)

        events = await server.ask("threads.create", ada, input=user_input("look", attachment.id))

        kinds = [event["type"] for event in events]
        assert kinds == ["thread.created", "thread.item.done", "stream_options", "thread.item.done"]
        name = events[0]["thread"]["id"]
        said, echoed = (await store.load_thread_items(name, None, 9, "asc", ada)).data
        loaded = await store.load_attachment(attachment.id, ada)
        for each in (loaded, *said.attachments):
            assert each.id == attachment.id
            assert getattr(each, "thread_id", name) == name  # ChatKit before 1.6 has no such field
        assert echoed.content[0].text == "Echo: look"

    async def test_c15_a_bad_attachment_leaves_an_empty_thread(
        self, store: Any, server: ScriptedServer, ada: Any
    ) -> None:
        with pytest.raises(NotFoundError):
            await server.ask("threads.create", ada, input=user_input("look", "missing"))
        (left,) = (await store.load_threads(9, None, "asc", ada)).data
        assert await self.ids(store, ada, left.id) == []

    async def test_c15_a_title_given_while_streaming_is_saved(self, store: Any, ada: Any) -> None:
        async def respond(
            thread: ThreadMetadata, said: UserMessageItem | None
        ) -> AsyncIterator[ThreadStreamEvent]:
            yield ThreadItemDoneEvent(item=answer("a"))
            thread.title = "Titled"
            thread.metadata["a.b"] = {"$c": 1}

        server = ScriptedServer(store, respond)
        events = await server.ask("threads.create", ada, input=user_input())
        name = events[0]["thread"]["id"]
        loaded = await store.load_thread(name, ada)
        assert (loaded.title, loaded.metadata) == ("Titled", {"a.b": {"$c": 1}})
        assert len(await self.ids(store, ada, name)) == 2

    # C16 --------------------------------------------------------------------------------------

    @pytest.mark.parametrize("kind", ["image/png", "application/pdf"])
    async def test_c16_an_attachment_is_created_saved_and_loaded(
        self, store: Any, ada: Any, kind: str
    ) -> None:
        params = AttachmentCreateParams(name="a $b.c", size=3, mime_type=kind)
        made = await store.create_attachment(params, ada)
        for _ in range(2):  # by the store, and once more by the server
            await store.save_attachment(made, ada)

        loaded = await store.load_attachment(made.id, ada)

        assert (loaded.id, loaded.name, loaded.mime_type) == (made.id, "a $b.c", kind)
        assert loaded.upload_descriptor == made.upload_descriptor
        assert loaded.upload_descriptor.method in ("PUT", "POST")
        assert (loaded.type == "image") == (kind == "image/png")

    @pytest.mark.parametrize(
        "attachment", every_item()[0].attachments, ids=lambda attachment: attachment.type
    )
    async def test_c16_attachments_made_elsewhere_come_back_equal(
        self, store: Any, ada: Any, attachment: Any
    ) -> None:
        given = with_fields(attachment, metadata=TRICKY, thread_id="t")
        await store.save_attachment(given, ada)
        assert await store.load_attachment(given.id, ada) == given
        given = with_fields(given, metadata=None, thread_id=None, name="new")
        await store.save_attachment(given, ada)
        assert await store.load_attachment(given.id, ada) == given

    async def test_c16_an_attachment_is_deleted_by_both_roles(
        self, store: Any, server: ScriptedServer, ada: Any
    ) -> None:
        made = await server.ask("attachments.create", ada, name="a", size=3, mime_type="text/plain")
        assert made["upload_descriptor"]["url"].startswith("http")
        for _ in range(2):
            assert await server.ask("attachments.delete", ada, attachment_id=made["id"]) == {}
        with pytest.raises(NotFoundError):
            await store.load_attachment(made["id"], ada)

    # C17 --------------------------------------------------------------------------------------

    async def test_c17_two_owners_with_the_same_ids_see_only_their_own(
        self, store: Any, ada: Any, bob: Any
    ) -> None:
        for context, text in ((ada, "ada's"), (bob, "bob's")):
            await store.save_thread(thread(title=text), context)
            await store.add_thread_item("t", message("i", text=text), context)
            attachment = FileAttachment(id="a", name=text, mime_type="text/plain")
            await store.save_attachment(attachment, context)

        for context, text in ((ada, "ada's"), (bob, "bob's")):
            assert (await store.load_thread("t", context)).title == text
            assert [t.title for t in (await store.load_threads(9, None, "asc", context)).data] == [
                text
            ]
            (item,) = (await store.load_thread_items("t", None, 9, "asc", context)).data
            assert item == await store.load_item("t", "i", context)
            assert item.content[0].text == text
            assert (await store.load_attachment("a", context)).name == text

        await store.save_item("t", message("i", text="changed"), bob)
        await store.delete_thread_item("t", "i", bob)
        await store.delete_attachment("a", bob)
        await store.delete_thread("t", bob)
        assert (await store.load_thread("t", ada)).title == "ada's"
        assert (await store.load_item("t", "i", ada)).content[0].text == "ada's"
        assert (await store.load_attachment("a", ada)).name == "ada's"

    async def test_c17_what_somebody_else_has_is_not_there(
        self, store: Any, ada: Any, bob: Any
    ) -> None:
        await store.save_thread(thread(), ada)
        await store.add_thread_item("t", message("i"), ada)
        attachment = FileAttachment(id="a", name="a", mime_type="text/plain")
        await store.save_attachment(attachment, ada)

        for reading in (
            store.load_thread("t", bob),
            store.load_item("t", "i", bob),
            store.load_attachment("a", bob),
            store.add_thread_item("t", message("j"), bob),
            store.save_item("t", message("i", text="bob's"), bob),
            store.add_feedback("t", ["i"], "positive", bob),
        ):
            with pytest.raises(NotFoundError):
                await reading
        with pytest.raises(ValueError, match="t"):
            await store.load_threads(9, "t", "asc", bob)
        assert (await store.load_threads(9, None, "asc", bob)).data == []
        await store.delete_thread_item("t", "i", bob)
        await store.delete_thread("t", bob)
        await store.delete_attachment("a", bob)
        assert await store.load_item("t", "i", ada) == message("i")
        assert await store.load_attachment("a", ada) == attachment

    # C18 --------------------------------------------------------------------------------------

    async def test_c18_ids_have_128_bits_and_chatkits_prefixes(self, store: Any, ada: Any) -> None:
        made = thread()
        ids = {
            "thr": store.generate_thread_id(ada),
            "msg": store.generate_item_id("message", made, ada),
            "tc": store.generate_item_id("tool_call", made, ada),
            "wf": store.generate_item_id("workflow", made, ada),
            "tsk": store.generate_item_id("task", made, ada),
            "shcx": store.generate_item_id("sdk_hidden_context", made, ada),
            "atc": store.generate_attachment_id("image/png", ada),
        }
        for prefix, name in ids.items():
            head, _, random = name.rpartition("_")
            assert head == prefix
            assert len(random) == 32
            assert int(random, 16) >= 0
        assert len({store.generate_thread_id(ada) for _ in range(1000)}) == 1000

    async def test_c18_ids_are_unique_in_a_thread_only(self, store: Any, ada: Any) -> None:
        for name in ("t", "u"):
            await store.save_thread(thread(name), ada)
            await store.add_thread_item(name, message("i", text=name, thread_id=name), ada)
        for name in ("t", "u"):
            assert (await store.load_item(name, "i", ada)).content[0].text == name

    # C19 --------------------------------------------------------------------------------------

    async def test_c19_errors_of_the_store_reach_the_server(self, store: Any, ada: Any) -> None:
        """The server makes an error event of them that offers a retry."""

        async def respond(
            thread: ThreadMetadata, said: UserMessageItem | None
        ) -> AsyncIterator[ThreadStreamEvent]:
            yield ThreadItemDoneEvent(item=answer("a", text="one"))
            yield ThreadItemDoneEvent(item=answer("a", 1, text="another"))

        server = ScriptedServer(store, respond)
        events = await server.ask("threads.create", ada, input=user_input())
        assert events[-1]["type"] == "error"
        assert events[-1]["allow_retry"] is True

    # C20 --------------------------------------------------------------------------------------

    async def test_c20_feedback_is_taken_for_items_of_the_thread(
        self, store: Any, server: ScriptedServer, ada: Any
    ) -> None:
        await store.save_thread(thread(), ada)
        for name in ("a", "b"):
            await store.add_thread_item("t", answer(name), ada)
        for kind in ("negative", "positive"):
            assert (
                await server.ask(
                    "items.feedback", ada, thread_id="t", item_ids=["a", "b", "x"], kind=kind
                )
                == {}
            )
        assert await store.load_item("t", "a", ada) == answer("a")
        with pytest.raises(NotFoundError):
            await store.add_feedback("t", ["x"], "positive", ada)

    # Every request ----------------------------------------------------------------------------

    async def test_the_server_serves_every_request(
        self, store: Any, server: ScriptedServer, ada: Any
    ) -> None:
        events = await server.ask("threads.create", ada, input=user_input("one"))
        name = events[0]["thread"]["id"]
        await server.ask("threads.add_user_message", ada, thread_id=name, input=user_input("two"))
        listed = await server.ask("items.list", ada, thread_id=name, limit=3, order="desc")
        assert [item["type"] for item in listed["data"]] == [
            "assistant_message",
            "user_message",
            "assistant_message",
        ]
        rest = await server.ask(
            "items.list", ada, thread_id=name, limit=3, order="desc", after=listed["after"]
        )
        assert [item["content"][0]["text"] for item in rest["data"]] == ["one"]

        updated = await server.ask("threads.update", ada, thread_id=name, title="New $title")
        assert updated["title"] == "New $title"
        threads = await server.ask("threads.list", ada, limit=9, order="desc")
        assert [(each["id"], each["title"]) for each in threads["data"]] == [(name, "New $title")]

        shown = WidgetItem(id="w", thread_id=name, created_at=at(), widget=widget())
        await store.add_thread_item(name, shown, ada)
        action = {"type": "press", "payload": {"$p": 1}}
        events = await server.ask(
            "threads.custom_action", ada, thread_id=name, item_id="w", action=action
        )
        assert events[-1]["type"] == "thread.item.replaced"
        kept = await store.load_item(name, "w", ada)
        assert kept.widget.frobnicate == {"$p": 1}
        assert [sender for _, _, sender in server.actions] == [shown]

        assert await server.ask("threads.delete", ada, thread_id=name) == {}
        assert (await server.ask("threads.list", ada))["data"] == []

    async def test_an_action_without_a_stream_is_served(
        self, store: Any, server: ScriptedServer, ada: Any
    ) -> None:
        require("SyncCustomActionResponse")
        shown = WidgetItem(id="w", thread_id="t", created_at=at(), widget=widget())
        await store.save_thread(thread(), ada)
        await store.add_thread_item("t", shown, ada)
        action = {"type": "press", "payload": {"$p": 1}}

        synced = await server.ask(
            "threads.sync_custom_action", ada, thread_id="t", item_id="w", action=action
        )

        assert synced["updated_item"]["id"] == "w"
        assert [sender for _, _, sender in server.actions] == [shown]

    async def test_speech_is_transcribed(self, server: ScriptedServer, ada: Any) -> None:
        require("TranscriptionResult")
        heard = await server.ask(
            "input.transcribe", ada, audio_base64="AAAA", mime_type="audio/webm"
        )
        assert heard == {"text": "3"}

    async def test_structured_input_is_answered(self, store: Any, ada: Any) -> None:
        require("StructuredInputItem")
        server = ScriptedServer(store, self.echo(store))
        asked = chatkit_types.StructuredInputItem(
            id="q",
            thread_id="t",
            created_at=at(),
            inputs=[chatkit_types.StructuredInputFreeform(id="name", question="Who?")],
        )
        await store.save_thread(thread(), ada)
        await store.add_thread_item("t", asked, ada)

        events = await server.ask(
            "threads.add_structured_input",
            ada,
            thread_id="t",
            item_id="q",
            input={"status": "answered", "answers": {"name": {"values": ["Ada"]}}},
        )

        assert [event["type"] for event in events[1:]] == [
            "thread.item.replaced",
            "thread.item.done",
        ]
        answered = await store.load_item("t", "q", ada)
        assert answered.status == "answered"
        assert answered.inputs[0].answer.values == ["Ada"]

    async def test_an_item_removed_while_streaming_is_gone(self, store: Any, ada: Any) -> None:
        async def respond(
            thread: ThreadMetadata, said: UserMessageItem | None
        ) -> AsyncIterator[ThreadStreamEvent]:
            yield ThreadItemDoneEvent(item=answer("a"))
            yield ThreadItemRemovedEvent(item_id="a")
            yield ThreadItemDoneEvent(item=answer("b"))

        server = ScriptedServer(store, respond)
        await store.save_thread(thread(), ada)
        await server.ask("threads.add_user_message", ada, thread_id="t", input=user_input())
        assert [name for name in await self.ids(store, ada) if name in "ab"] == ["b"]

    # Deleted stays deleted --------------------------------------------------------------------

    async def test_late_writes_do_not_bring_a_thread_back(self, store: Any, ada: Any) -> None:
        await store.save_thread(thread(), ada)
        await store.add_thread_item("t", message("i"), ada)
        await store.delete_thread("t", ada)

        await store.save_thread(thread(title="late"), ada)
        await store.add_thread_item("t", message("j"), ada)
        await store.save_item("t", message("i"), ada)
        await store.delete_thread_item("t", "i", ada)

        await self.assert_gone(store, ada)

    async def test_a_late_update_does_not_bring_an_item_back(self, store: Any, ada: Any) -> None:
        await store.save_thread(thread(), ada)
        await store.add_thread_item("t", message("i"), ada)
        await store.delete_thread_item("t", "i", ada)
        await store.save_item("t", message("i"), ada)
        assert await self.ids(store, ada) == []

    async def test_an_item_can_be_added_anew(self, store: Any, ada: Any) -> None:
        """It stands at the end then, and pages go on from there."""
        await store.save_thread(thread(), ada)
        for name in ("i", "j"):
            await store.add_thread_item("t", message(name), ada)
        await store.delete_thread_item("t", "i", ada)
        await store.add_thread_item("t", message("i", text="anew"), ada)
        assert await self.scan(store, ada, 1, "asc") == ["j", "i"]
        await store.save_item("t", message("i", text="changed"), ada)
        assert (await store.load_item("t", "i", ada)).content[0].text == "changed"

    async def test_a_deleted_thread_takes_its_attachments_along(
        self, store: Any, server: ScriptedServer, ada: Any
    ) -> None:
        await store.save_thread(thread(), ada)
        for name in ("sent", "unsent"):
            attachment = FileAttachment(id=name, name="n", mime_type="text/plain")
            await store.save_attachment(attachment, ada)
        said = user_input("look", "sent")
        await server.ask("threads.add_user_message", ada, thread_id="t", input=said)

        await store.delete_thread("t", ada)

        with pytest.raises(NotFoundError):
            await store.load_attachment("sent", ada)
        assert (await store.load_attachment("unsent", ada)).id == "unsent"

    @staticmethod
    async def assert_gone(store: Any, context: Any) -> None:
        """Nothing is left of the thread t."""
        with pytest.raises(NotFoundError):
            await store.load_thread("t", context)
        assert (await store.load_threads(9, None, "asc", context)).data == []
        assert (await store.load_thread_items("t", None, 9, "asc", context)).data == []
        with pytest.raises(NotFoundError):
            await store.load_item("t", "i", context)
