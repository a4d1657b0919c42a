"""A ChatKit server on MongoDB that answers without any model.

Run it with MongoDB's address, the app's own, and a secret that signs the links to attachments::

    export MONGODB_URI=mongodb://localhost:27017
    export MONGO_DATALAYER_FILES_URL=http://localhost:8000
    export MONGO_DATALAYER_FILES_SECRET=a-long-random-text
    uvicorn mongo_datalayer.demo.chatkit_app:app

``python -m mongo_datalayer.demo.chatkit_client`` talks to it as ChatKit's web client does.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from chatkit.server import ChatKitServer, StreamingResult
from chatkit.types import (
    AssistantMessageContent,
    AssistantMessageContentPartTextDelta,
    AssistantMessageItem,
    ClientToolCallItem,
    FeedbackKind,
    ThreadItemAddedEvent,
    ThreadItemDoneEvent,
    ThreadItemUpdatedEvent,
    ThreadMetadata,
    ThreadStreamEvent,
    UserMessageItem,
    WidgetItem,
)
from chatkit.widgets import DynamicWidgetRoot
from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, Response, StreamingResponse

from mongo_datalayer.chatkit import (
    MissingError,
    MongoChatKitStore,
    UploadRefusedError,
    mount_chatkit,
)

PAGE = Path(__file__).parent / "starters" / "chatkit_app" / "index.html"
TOKEN_SECONDS = 0.005


@dataclass(frozen=True)
class Visitor:
    """Who asks; everything a store does is for them alone."""

    user_id: str


class EchoServer(ChatKitServer[Visitor]):
    """Says again what was said, streamed, with a widget; asks the browser where it is.

    Args:
        store: Keeps everything.
    """

    def __init__(self, store: MongoChatKitStore[Visitor]) -> None:
        super().__init__(store, attachment_store=store)
        self._store = store

    async def respond(
        self, thread: ThreadMetadata, input_user_message: UserMessageItem | None, context: Visitor
    ) -> AsyncIterator[ThreadStreamEvent]:
        """Answer a message, or what a client tool gave."""
        if input_user_message is None:
            text = await self._tool_output(thread, context)
        else:
            text = _said(input_user_message)
        if thread.title is None:
            thread.title = text[:40]
        if input_user_message is not None and "where" in text.lower():
            yield ThreadItemDoneEvent(item=self._tool_call(thread, context))
            return
        async for event in self._stream(thread, f"You said: {text}", context):
            yield event
        yield ThreadItemDoneEvent(item=self._widget(thread, text, context))

    async def add_feedback(
        self, thread_id: str, item_ids: list[str], feedback: FeedbackKind, context: Visitor
    ) -> None:
        """Keep what a person thinks of an answer with the answer."""
        await self._store.add_feedback(thread_id, item_ids, feedback, context)

    async def _stream(
        self, thread: ThreadMetadata, text: str, context: Visitor
    ) -> AsyncIterator[ThreadStreamEvent]:
        answer = AssistantMessageItem(
            **self._new("message", thread, context), content=[AssistantMessageContent(text="")]
        )
        yield ThreadItemAddedEvent(item=answer)
        for token in re.findall(r"\s*\S+", text):
            await asyncio.sleep(TOKEN_SECONDS)
            update = AssistantMessageContentPartTextDelta(content_index=0, delta=token)
            yield ThreadItemUpdatedEvent(item_id=answer.id, update=update)
        content = [AssistantMessageContent(text=text)]
        yield ThreadItemDoneEvent(item=answer.model_copy(update={"content": content}))

    def _widget(self, thread: ThreadMetadata, text: str, context: Visitor) -> WidgetItem:
        card = {"type": "Card", "children": [{"type": "Text", "value": f"{len(text)} characters"}]}
        widget = DynamicWidgetRoot.model_validate(card)
        return WidgetItem(**self._new("message", thread, context), widget=widget)

    def _tool_call(self, thread: ThreadMetadata, context: Visitor) -> ClientToolCallItem:
        fields = self._new("tool_call", thread, context)
        return ClientToolCallItem(
            **fields, call_id=fields["id"], name="get_location", arguments={"accuracy": "city"}
        )

    async def _tool_output(self, thread: ThreadMetadata, context: Visitor) -> str:
        latest = await self._store.load_thread_items(thread.id, None, 1, "desc", context)
        call = latest.data[0] if latest.data else None
        return str(call.output) if isinstance(call, ClientToolCallItem) else "nothing"

    def _new(self, kind: Any, thread: ThreadMetadata, context: Visitor) -> dict[str, Any]:
        """What every new item has."""
        return {
            "id": self._store.generate_item_id(kind, thread, context),
            "thread_id": thread.id,
            "created_at": datetime.now(),  # noqa: DTZ005 - ChatKit's times have no zone
        }


def create_app(store: MongoChatKitStore[Visitor]) -> FastAPI:
    """The app: ChatKit's endpoint, and the routes for attachments."""
    server = EchoServer(store)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await store.create_indexes()
        yield
        await store.close()

    app = FastAPI(lifespan=lifespan)

    @app.post("/chatkit")
    async def chatkit(request: Request) -> Response:
        # A real app knows from its session who asks. This one believes what it is told.
        visitor = Visitor(request.headers.get("x-user", "guest"))
        try:
            result = await server.process(await request.body(), visitor)
        except UploadRefusedError as exc:  # an attachment that is empty or too large
            return Response(str(exc), exc.status, media_type="text/plain")
        except MissingError:  # deleted meanwhile, or another person's
            return Response("There is no such thread or item.", 404, media_type="text/plain")
        if isinstance(result, StreamingResult):
            return StreamingResponse(result, media_type="text/event-stream")
        return Response(result.json, media_type="application/json")

    @app.get("/")
    async def page() -> Response:
        """ChatKit's web component; who asks is the guest."""
        return HTMLResponse(PAGE.read_text(encoding="utf-8"))

    mount_chatkit(store, app)
    return app


def _said(message: UserMessageItem) -> str:
    parts = [part.text for part in message.content]
    parts += [f"[{attachment.name}]" for attachment in message.attachments]
    return " ".join(parts)


def __getattr__(name: str) -> FastAPI:
    """``app``, made on first use: importing this module needs no MongoDB."""
    if name == "app":
        return create_app(MongoChatKitStore.from_env())
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
