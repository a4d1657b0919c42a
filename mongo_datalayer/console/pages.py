"""The console's pages and routes."""

from __future__ import annotations

import functools
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

import pymongo
from pymongo.errors import OperationFailure, PyMongoError
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route

from mongo_datalayer.admin.stats import collection_sizes
from mongo_datalayer.chainlit.thread_documents import ThreadDocuments
from mongo_datalayer.console.access import (
    POLICY,
    Access,
    csrf_token,
    is_genuine,
    local_path,
    log_in,
)
from mongo_datalayer.console.charts import activity_charts, thumbs_chart, token_chart, tool_chart
from mongo_datalayer.console.conversation import read_conversation, read_text
from mongo_datalayer.console.feedback import count_feedback, read_queue
from mongo_datalayer.console.filters import Filters
from mongo_datalayer.console.listing import Listing
from mongo_datalayer.console.marks import Marks
from mongo_datalayer.console.rendering import segment, templates, web_address
from mongo_datalayer.console.static_files import StaticFolder
from mongo_datalayer.console.usage import (
    MOST,
    TOOL_ORDERS,
    read_activity,
    read_models,
    read_span,
    read_tools,
)
from mongo_datalayer.errors import MongoDataLayerError, StorageError
from mongo_datalayer.files.bucket import FileBucket
from mongo_datalayer.files.http_headers import PLAIN_TEXT, protecting_headers
from mongo_datalayer.files.links import FileLinks
from mongo_datalayer.files.route import files_route
from mongo_datalayer.model.cursor import Cursor
from mongo_datalayer.model.documents import Document
from mongo_datalayer.mongodb.client import Database
from mongo_datalayer.mongodb.error_reason import error_reason, is_unauthorized
from mongo_datalayer.mongodb.logger import get_logger

logger = get_logger(__name__)

PAGE_SECONDS = 20.0
"""How long the queries of one page may take."""

SPANS = (7, 30, 90)
"""For how many days the page of usage counts."""

OLD_FORM = "This form is from an earlier session. Load the page again, then repeat what you did."

USAGE = {"activity": "Activity", "tools": "Tools", "models": "Models", "storage": "Storage"}
"""The topics of the page of usage."""

Handler = Callable[["Console", Request], Awaitable[Response]]


@dataclass
class ConsoleFiles:
    """What the route of files needs: where files are, and the links that open them."""

    bucket: FileBucket
    links: FileLinks


def _page(handler: Handler) -> Callable[[Console, Request], Awaitable[Response]]:
    """Bound the queries of a page, and explain what fails."""

    @functools.wraps(handler)
    async def bounded(console: Console, request: Request) -> Response:
        try:
            with pymongo.timeout(PAGE_SECONDS):
                return await handler(console, request)
        except StorageError as exc:
            return console.message(request, 404, "This cannot be read", str(exc))
        except (MongoDataLayerError, ValueError) as exc:
            return console.message(request, 400, "That does not work", str(exc))
        except PyMongoError as exc:
            reason = error_reason(exc)
            logger.warning("A page of the console failed: %s", reason)
            if is_unauthorized(exc):
                return console.message(request, 403, "The database login may not read this", reason)
            title = "Took too long" if exc.timeout else "MongoDB failed"
            return console.message(request, 503, title, reason)

    return bounded


class Console:
    """The pages.

    Args:
        database: The database.
        access: The login.
        bucket: Name of the bucket of the files.
        secret: Signs the links to files.
    """

    def __init__(self, database: Database, access: Access, bucket: str, secret: str) -> None:
        self._database = database
        self._access = access
        self._bucket = bucket
        self._documents = ThreadDocuments(database)
        self._listing = Listing(database, self._documents)
        self._marks = Marks(database)
        links = FileLinks(secret, url="http://console")
        self._files = ConsoleFiles(FileBucket(database, bucket), links)
        self._static = StaticFolder()

    def routes(self) -> list[Route | Mount]:
        """The routes, behind the login."""

        def route(path: str, handler: Handler, *methods: str) -> Route:
            async def endpoint(request: Request) -> Response:
                return await handler(self, request)

            return Route(path, endpoint, methods=list(methods) or ["GET"])

        return [
            route("/", Console.conversations),
            route("/conversation", Console.conversation),
            route("/text", Console.text),
            route("/feedback", Console.feedback),
            route("/feedback", Console.mark, "POST"),
            route("/feedback/counts", Console.feedback_counts),
            route("/usage", Console.usage),
            route("/login", Console.login, "GET", "POST"),
            route("/logout", Console.logout, "POST"),
            files_route(self._files),
            Mount(self._static.path, self._static, name="static"),
        ]

    # Pages ------------------------------------------------------------------------------------

    @_page
    async def conversations(self, request: Request) -> Response:
        """The list."""
        filters = Filters.parse(request.query_params)
        at = request.query_params.get("cursor")
        page = await self._listing.page(filters, Cursor.decode(at) if at else None)
        return self._render(
            request, "conversations.html", filters=filters, page=page, is_first=not at
        )

    @_page
    async def conversation(self, request: Request) -> Response:
        """One conversation; who opened it is recorded."""
        thread_id = request.query_params.get("id", "")
        page = request.query_params.get("page", "1")
        found = await read_conversation(
            self._documents,
            thread_id,
            page=int(page) if page.isdecimal() and len(page) < 8 else 1,
            step_id=request.query_params.get("step"),
        )
        if found is None:
            return self.message(request, 404, "No such conversation", "It may have been deleted.")
        await self._marks.opened(request.state.who, thread_id)
        return self._render(
            request, "conversation.html", found=found, thread_id=thread_id, link=self._link(request)
        )

    @_page
    async def text(self, request: Request) -> Response:
        """The whole input or output of a step, as text."""
        thread_id = request.query_params.get("id", "")
        name = "input" if request.query_params.get("of") == "input" else "output"
        step_id = request.query_params.get("step", "")
        text = await read_text(self._documents, thread_id, step_id, name)
        if text is None:
            return self.message(request, 404, "No such text", "It may have been deleted.")
        await self._marks.opened(request.state.who, thread_id)
        return Response(
            text.encode(errors="replace"), headers=protecting_headers(), media_type=PLAIN_TEXT
        )

    @_page
    async def feedback(self, request: Request) -> Response:
        """The queue."""
        filters = Filters.parse(request.query_params)
        open_only = request.query_params.get("open") == "1"
        at = request.query_params.get("cursor")
        cursor = Cursor.decode(at) if at else None
        read = functools.partial(read_queue, self._documents, filters, cursor=cursor)
        try:
            verdicts, following = await read(open_only=open_only)
        except OperationFailure as exc:
            if not (open_only and is_unauthorized(exc)):
                raise
            open_only = False  # the login may not read the marks
            verdicts, following = await read(open_only=False)
        looked_at = await self._marks.looked_at(verdict.id for verdict in verdicts)
        return self._render(
            request,
            "feedback.html",
            verdicts=verdicts,
            following=following,
            looked_at=looked_at,
            filters=filters,
            open_only=open_only,
            here=f"?{request.url.query}",
        )

    @_page
    async def feedback_counts(self, request: Request) -> Response:
        """Feedback by tool, profile and week."""
        filters = Filters.parse(request.query_params)
        counts = await count_feedback(self._documents, filters)
        return self._render(
            request,
            "feedback_counts.html",
            filters=filters,
            has_charts=bool(counts.weeks),
            counts=counts,
            chart=thumbs_chart(counts.weeks),
            by_tool=lambda tool: filters.narrowed(tool=tool),
            by_profile=lambda profile: filters.narrowed(profile=profile),
            by_week=lambda monday: filters.narrowed(
                since=str(monday), until=str(monday + timedelta(days=6))
            ),
        )

    @_page
    async def mark(self, request: Request) -> Response:
        """Mark feedback as looked at, or not."""
        form = await request.form(max_files=0, max_fields=10)
        if not is_genuine(request, form):
            return self.message(request, 403, "Nothing was changed", OLD_FORM)
        feedback_id = str(form.get("feedback", ""))[:1000]
        looked_at = form.get("looked_at") == "1"
        if not await self._marks.mark(request.state.who, feedback_id, looked_at=looked_at):
            reason = "The database login may not write to console_reviews."
            return self.message(request, 403, "Not marked", reason)
        here = local_path(str(form.get("here", "")))
        return RedirectResponse(f"{_root(request)}/feedback{here}", status_code=303)

    @_page
    async def usage(self, request: Request) -> Response:
        """Counts, charts and tables: one topic a page, so that each is quick."""
        asked = request.query_params.get("days", "")
        days = int(asked) if asked in map(str, SPANS) else 30
        show = request.query_params.get("show", "")
        topic = show if show in USAGE else next(iter(USAGE))
        order = request.query_params.get("order", "")
        order = order if order in TOOL_ORDERS else next(iter(TOOL_ORDERS))
        is_whole = request.query_params.get("whole") == "1"
        values: dict[str, Any] = {}
        if topic == "storage":
            values["storage"] = await collection_sizes(self._database, self._bucket)
        else:
            most = None if is_whole else MOST
            today = datetime.now(timezone.utc).date()
            span = await read_span(self._database, days=days, today=today, most=most)
            values["span"] = span
            if topic == "activity":
                values["fronts"] = await read_activity(self._database, span)
            elif topic == "tools":
                values["tools"] = await read_tools(self._database, span, order)
            else:
                values["models"] = await read_models(self._database, span)
        return self._render(
            request,
            "usage.html",
            has_charts=topic in ("activity", "models") or bool(values.get("tools")),
            topics=USAGE,
            topic=topic,
            days=days,
            spans=SPANS,
            is_whole=is_whole,
            order=order,
            orders=tuple(TOOL_ORDERS),
            activity_charts=activity_charts,
            token_chart=token_chart,
            tool_chart=tool_chart,
            most=MOST,
            **values,
        )

    # Login ------------------------------------------------------------------------------------

    async def login(self, request: Request) -> Response:
        """The form, a one-time token, or the answer to the form."""
        home = RedirectResponse(f"{_root(request)}/", status_code=303)
        if not self._access.has_logout:
            return home
        if request.method == "GET":
            if (token := request.query_params.get("token")) is not None:
                if (who := self._access.redeem(token)) is None:
                    return PlainTextResponse(
                        "This link was used before, or is incomplete. Start `mongo-datalayer "
                        "console` again for another one.\n",
                        status_code=403,
                    )
                log_in(request, who)
                return home
            if request.state.who is not None:
                return home
            if not self._access.has_password:
                return PlainTextResponse("Open the link that the command printed.\n", 403)
            return self._render(request, "login.html", name="", problem=None)
        form = await request.form(max_files=0, max_fields=10)
        name = str(form.get("name", ""))
        problem: str | None = OLD_FORM
        if is_genuine(request, form):
            problem = self._access.check(name, str(form.get("password", "")))
        if problem is not None:
            return self._render(request, "login.html", status=403, name=name, problem=problem)
        log_in(request, name)
        return home

    async def logout(self, request: Request) -> Response:
        """The end of a session."""
        if is_genuine(request, await request.form(max_files=0, max_fields=10)):
            request.session.clear()
        return RedirectResponse(f"{_root(request)}/login", status_code=303)

    # Inside -----------------------------------------------------------------------------------

    def message(self, request: Request, status: int, title: str, text: str) -> Response:
        """A page that says what went wrong."""
        return self._render(request, "message.html", status=status, title=title, text=text)

    def _render(
        self,
        request: Request,
        template: str,
        *,
        status: int = 200,
        has_charts: bool = False,
        **values: Any,
    ) -> Response:
        # Only the two scripts in the head of this answer know it.
        nonce = secrets.token_urlsafe() if has_charts else None
        html = (
            templates()
            .get_template(template)
            .render(
                root=_root(request),
                static=_root(request) + self._static.path,
                who=request.state.who,
                csrf=csrf_token(request),
                has_logout=self._access.has_logout,
                audited=self._marks.audited,
                nonce=nonce,
                **values,
            )
        )
        # A lone surrogate, which JSON may have, has no bytes.
        response = HTMLResponse(html.encode(errors="replace"), status_code=status)
        if nonce is not None:
            response.headers["content-security-policy"] = f"{POLICY}; script-src 'nonce-{nonce}'"
        return response

    def _link(self, request: Request) -> Callable[[Document], str | None]:
        """Links to the files of elements, which live for an hour and open with the session only."""

        def link(element: Document) -> str | None:
            key = element.get("objectKey")
            if not isinstance(key, str):
                return web_address(element.get("url"))
            try:
                return _root(request) + self._files.links.link(key).removeprefix("http://console")
            except StorageError:
                return None

        return link


def _root(request: Request) -> str:
    """Where the console is mounted, as part of an address."""
    return segment(request.scope.get("root_path", "")).replace("%2F", "/").rstrip("/")
