"""Who may use the console: a one-time link, a password, or what the app in front says."""

from __future__ import annotations

import hmac
import inspect
import re
import secrets
import time
from collections.abc import Awaitable, Callable
from urllib.parse import quote

from starlette.datastructures import FormData, MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mongo_datalayer.errors import ConfigurationError
from mongo_datalayer.mongodb.logger import get_logger

logger = get_logger(__name__)

SESSION_SECONDS = 12 * 3600
"""How long a login lasts without a visit."""

LEAST_PASSWORD = 12
"""How short a password may be, in characters."""

MAX_ATTEMPTS = 10
"""So many wrong passwords within :data:`ATTEMPTS_SECONDS` close the login for that time."""

ATTEMPTS_SECONDS = 60.0
MAX_NAME = 100
MAX_BODY = 64 * 1024

POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; media-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""What a browser may load for a page. It runs no scripts."""

HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    # Addresses hold ids and search texts, and once the token.
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}

# https://www.rfc-editor.org/rfc/rfc9110#name-tokens
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")

NamedBy = Callable[[Request], "str | Awaitable[str | None] | None"]


class Access:
    """The login of one console.

    Args:
        token: Opens the console once, through ``/login?token=…``; for ``name``.
        name: Who uses the token, for the audit log.
        password: The password that all of the team use; each gives a name with it.
        user: Tells for a request who it is, or None for nobody; an app's own login.

    Raises:
        ConfigurationError: not exactly one way is given, or the password is too short.
    """

    def __init__(
        self,
        *,
        token: str | None = None,
        name: str = "console",
        password: str | None = None,
        user: NamedBy | None = None,
    ) -> None:
        if sum(way is not None for way in (token, password, user)) != 1:
            raise ConfigurationError(
                "The console needs one way to log in: token=, password= or user=."
            )
        if password is not None and len(password) < LEAST_PASSWORD:
            raise ConfigurationError(
                f"The console's password needs at least {LEAST_PASSWORD} characters."
            )
        if token is not None and len(token) < LEAST_PASSWORD:
            raise ConfigurationError(f"token= needs at least {LEAST_PASSWORD} characters.")
        if user is not None and not callable(user):
            raise ConfigurationError(f"user= takes a function of the request, not {user!r}.")
        self._token = token
        self._name = name
        self._password = password
        self._user = user
        self._failed: list[float] = []

    @property
    def has_password(self) -> bool:
        """Whether people log in with a password."""
        return self._password is not None

    @property
    def has_logout(self) -> bool:
        """Whether the console keeps the login, and not the app in front."""
        return self._user is None

    async def who(self, request: Request) -> str | None:
        """Who makes the request; None for nobody."""
        if self._user is None:
            name = request.session.get("who")
            return name if isinstance(name, str) else None
        answer = self._user(request)
        found = await answer if inspect.isawaitable(answer) else answer
        if not found:
            return None
        if not isinstance(found, str):
            raise ConfigurationError(
                "The console's user= returns the name of the person or None, not "
                f"{type(found).__name__}."
            )
        return found[:MAX_NAME]

    def redeem(self, token: str) -> str | None:
        """Who may enter with this token; None when it is wrong, or was used before."""
        if self._token is None or not _equal(token, self._token):
            return None
        self._token = None
        return self._name

    def check(self, name: str, password: str) -> str | None:
        """Why this login is refused; None when it is right."""
        moment = time.monotonic()
        self._failed = [at for at in self._failed if at > moment - ATTEMPTS_SECONDS]
        if len(self._failed) >= MAX_ATTEMPTS:
            return "There were too many wrong passwords. Try again in a minute."
        if self._password is None or not _equal(password, self._password):
            self._failed.append(moment)
            logger.warning("A login to the console was refused: wrong password.")
            return "The password is wrong."
        if not name.strip():
            return "Your name is missing. It is for the audit log."
        return None


def named_by_header(header: str) -> NamedBy:
    """The person whom a proxy in front names in a header of each request.

    Raises:
        ConfigurationError: HTTP has no header of that name.
    """
    if not _TOKEN.fullmatch(header):
        raise ConfigurationError(f"{header!r} cannot be the name of a header.")

    def user(request: Request) -> str | None:
        values = request.headers.getlist(header)
        # Two are one of the proxy's and one that somebody sent through it.
        return values[0].strip() if len(values) == 1 else None

    return user


def log_in(request: Request, who: str) -> None:
    """Begin the session of a person."""
    request.session.clear()
    request.session.update(who=who.strip()[:MAX_NAME], csrf=secrets.token_urlsafe())


def csrf_token(request: Request) -> str:
    """The token that every form of this session carries."""
    token = request.session.setdefault("csrf", secrets.token_urlsafe())
    return str(token)


def is_genuine(request: Request, form: FormData) -> bool:
    """Whether a form came from a page of this session."""
    token, sent = request.session.get("csrf"), form.get("csrf")
    return isinstance(token, str) and isinstance(sent, str) and _equal(token, sent)


def local_path(address: str) -> str:
    """An address to go on to after a form, if it is a query of this page; else nothing."""
    return address if address.startswith("?") else ""


def _equal(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(errors="replace"), other.encode(errors="replace"))


class Guard:
    """Middleware: the headers of every answer, and nothing but the login for a stranger.

    Args:
        app: The app behind it.
        access: Who may pass.
    """

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or let it pass."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)  # files and charts have their own
            await send(message)

        request = Request(scope, receive)
        answer = await self._answer(request)
        await (answer or self._app)(scope, receive, send_with_headers)

    async def _answer(self, request: Request) -> Response | None:
        """A refusal; None for who may pass."""
        if request.method not in ("GET", "HEAD"):
            length = request.headers.get("content-length", "")
            if not length.isdecimal() or int(length) > MAX_BODY:
                return PlainTextResponse("The form is too large.", status_code=413)
        root = request.scope.get("root_path", "")
        path = request.scope["path"].removeprefix(root)
        if path.startswith("/static/"):
            return None
        who = await self._access.who(request)
        request.state.who = who
        if who is not None or (path == "/login" and self._access.has_logout):
            return None
        if request.method == "GET" and self._access.has_password:
            return RedirectResponse(f"{quote(root)}/login", status_code=303)
        return PlainTextResponse(
            "Log in first. `mongo-datalayer console` prints a link that works once; start it again "
            "for another one.\n"
            if self._access.has_logout
            else "This is for people who are logged in.\n",
            status_code=403,
        )
