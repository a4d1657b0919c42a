"""A ChatKit server that says again what was said. MongoDB keeps the conversations."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from chatkit.server import ChatKitServer, StreamingResult
from chatkit.types import (
    AssistantMessageContent,
    AssistantMessageItem,
    FeedbackKind,
    ThreadItemDoneEvent,
    ThreadMetadata,
    ThreadStreamEvent,
    UserMessageItem,
)
from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, Response, StreamingResponse

from mongo_datalayer.chatkit import (
    MissingError,
    MongoChatKitStore,
    UploadRefusedError,
    mount_chatkit,
)
from mongo_datalayer.monitoring import mount_health

PAGE = Path(__file__).with_name("index.html")
COOKIE = "visitor"
YEAR = 365 * 24 * 3600


@dataclass(frozen=True)
class Visitor:
    """Who asks: a conversation belongs to one visitor, and the others never see it."""

    user_id: str


store: MongoChatKitStore[Visitor] = MongoChatKitStore.from_env()


class Server(ChatKitServer[Visitor]):
    """Answers what the page sends."""

    async def respond(
        self, thread: ThreadMetadata, input_user_message: UserMessageItem | None, context: Visitor
    ) -> AsyncIterator[ThreadStreamEvent]:
        """Replace this with your model."""
        content = input_user_message.content if input_user_message else []
        text = " ".join(part.text for part in content)
        thread.title = thread.title or text[:40]
        answer = AssistantMessageItem(
            id=store.generate_item_id("message", thread, context),
            thread_id=thread.id,
            created_at=datetime.now(),  # noqa: DTZ005 - ChatKit's times have no zone
            content=[AssistantMessageContent(text=f"You said: {text}")],
        )
        yield ThreadItemDoneEvent(item=answer)

    async def add_feedback(
        self, thread_id: str, item_ids: list[str], feedback: FeedbackKind, context: Visitor
    ) -> None:
        """Keep what a person thinks of an answer with the answer."""
        await store.add_feedback(thread_id, item_ids, feedback, context)


server = Server(store, attachment_store=store)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Make the indexes at the start, and finish the writes at the end."""
    await store.create_indexes()
    yield
    await store.close()


app = FastAPI(lifespan=lifespan)
mount_chatkit(store, app)
mount_health(store, app)  # /healthz and /readyz, for probes


@app.get("/")
async def page(request: Request) -> Response:
    """The page; its first visit makes a visitor. Replace the cookie with your login."""
    response = HTMLResponse(PAGE.read_text(encoding="utf-8"))
    if COOKIE not in request.cookies:
        visitor = secrets.token_urlsafe(24)
        response.set_cookie(COOKIE, visitor, max_age=YEAR, httponly=True, samesite="lax")
    return response


@app.post("/chatkit")
async def chatkit(request: Request) -> Response:
    """Everything that ChatKit's web component asks."""
    if COOKIE not in request.cookies:
        return Response("Open the page first.", 401)
    try:
        result = await server.process(await request.body(), Visitor(request.cookies[COOKIE]))
    except UploadRefusedError as exc:  # an attachment that is empty or too large
        return Response(str(exc), exc.status)
    except MissingError:  # deleted meanwhile, or another person's
        return Response("There is no such thread or item.", 404)
    if isinstance(result, StreamingResult):
        return StreamingResponse(result, media_type="text/event-stream")
    return Response(result.json, media_type="application/json")
