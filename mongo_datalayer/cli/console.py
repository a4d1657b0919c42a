"""``mongo-datalayer console``: a web page on the conversations, for the team."""

from __future__ import annotations

import getpass
import ipaddress
import secrets
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mongo_datalayer.cli.app import Failure, database_command, heeded_signals
from mongo_datalayer.cli.listening import free_port, listening_options, web_address
from mongo_datalayer.cli.terminal import print_line, print_lines
from mongo_datalayer.mongodb.client import Database
from mongo_datalayer.schema.indexes import apply_console_indexes

if TYPE_CHECKING:
    from socket import socket

    from starlette.types import ASGIApp


@click.command(epilog="Example: mongo-datalayer console --port 8700")
@database_command(bucket=True)
@listening_options(port=8700)
@click.option(
    "--password-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file with the password of the team, in place of a link that works once. Any --host but "
    "a loopback address needs this or --proxy-header.",
)
@click.option(
    "--proxy-header",
    metavar="NAME",
    help="The header in which a proxy in front names who is logged in, such as X-Forwarded-User. "
    "It is trusted: nobody may reach the console past the proxy.",
)
@click.option(
    "--secure-cookie",
    is_flag=True,
    help="Let browsers send the session's cookie over HTTPS only. For a proxy with TLS in front.",
)
@click.option(
    "--create-index",
    is_flag=True,
    help="Create the indexes that make the pages quick, where they are missing.",
)
async def console(
    database: Database,
    bucket: str,
    *,
    host: str,
    port: int,
    create_index: bool,
    **login: Any,
) -> None:
    """Show the conversations in a browser.

    You can list and search them, and see feedback and usage. The command prints a link that works
    once, unless you choose another login, and serves until Ctrl-C. Conversations stay as they are.
    Who opened which conversation, and your marks on feedback, go into two collections of their own.

    \b
    Exit codes:
      0  you stopped it
      2  the server could not be used
    """
    try:
        from mongo_datalayer.console import console_app  # noqa: F401 - is the extra installed?
    except ModuleNotFoundError as exc:
        raise Failure(str(exc)) from exc
    _check_login(host, **login)
    app, opened = _app(database, bucket, **login)
    port = free_port(host, port, "--port")
    await _look_after_indexes(database, create=create_index)
    link = f"{web_address(host, port)}{opened}"
    await _serve(app, host, port, lambda: print_lines(f"\n  Open  {link}\n  Stop  Ctrl-C\n"))


def _check_login(
    host: str, *, password_file: Path | None, proxy_header: str | None, secure_cookie: bool
) -> None:
    """Refuse logins that are not safe, or make no sense."""
    if password_file is not None and proxy_header is not None:
        raise click.UsageError("--password-file and --proxy-header exclude each other.")
    if password_file is None and proxy_header is None:
        if not _is_loopback(host):
            raise Failure(
                f"--host {host} lets other machines in. Add --password-file with a file that holds "
                "the password of the team or --proxy-header with the header in which a proxy names "
                "the person, or leave --host out."
            )
        if secure_cookie:
            raise click.UsageError(
                "--secure-cookie is for a proxy with TLS, and the link that works once has none. "
                "Add --password-file or --proxy-header."
            )
    if proxy_header is not None and not _is_loopback(host):
        print_line(
            f"Note: Whoever reaches the console past the proxy can write any name into "
            f"{proxy_header}. Let only the proxy connect to it.",
            err=True,
        )


def _app(
    database: Database,
    bucket: str,
    *,
    password_file: Path | None,
    proxy_header: str | None,
    secure_cookie: bool,
) -> tuple[ASGIApp, str]:
    """The app with its login, and the path to open it by."""
    # Here, after the check that the packages of the extra are there.
    from mongo_datalayer.console import console_app
    from mongo_datalayer.console.access import named_by_header

    path = ""
    login: dict[str, Any]
    if password_file is not None:
        login = {"password": _password(password_file)}
    elif proxy_header is not None:
        login = {"user": named_by_header(proxy_header)}
    else:
        token = secrets.token_urlsafe()
        login = {"token": token, "token_name": _person()}
        path = f"/login?token={token}"
    return console_app(database, bucket=bucket, secure_cookie=secure_cookie, **login), path


async def _serve(app: ASGIApp, host: str, port: int, tell: Callable[[], None]) -> None:
    """Serve until a signal to stop; ``tell`` is called once the port listens."""
    import uvicorn

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket] | None = None) -> None:
            await super().startup(sockets)
            # Not before: whoever reads the link may follow it at once.
            if self.started:
                tell()

        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            """End at a signal without raising it again: to be stopped is no failure."""
            before = {n: signal.signal(n, self.handle_exit) for n in heeded_signals()}
            try:
                yield
            finally:
                for number, handler in before.items():
                    signal.signal(number, handler)

    # Without the log of requests: addresses hold the token, ids and search texts.
    config = uvicorn.Config(
        app, host=host, port=port, log_level="warning", access_log=False, server_header=False
    )
    await Server(config).serve()


async def _look_after_indexes(database: Database, *, create: bool) -> None:
    """Create the console's indexes, or say which are missing."""
    report = await apply_console_indexes(database, create=create)
    for index in report.failed:
        raise Failure(f"The index {index} cannot be created: {index.problem}")
    for index in report.created:
        print_line(f"Created the index {index}.")
    if report.different:
        names = ", ".join(map(str, report.different))
        print_line(
            f"These indexes differ from what the console needs: {names}. Drop them in the mongo "
            "shell, and start once with --create-index.",
            err=True,
        )
    if report.missing:
        names = ", ".join(map(str, report.missing))
        print_line(
            f"The console is slow among many conversations without these indexes: {names}. Start "
            "once with --create-index.",
            err=True,
        )


def _password(file: Path) -> str:
    try:
        # Editors of Windows begin a file with a mark of its encoding.
        return file.read_text(encoding="utf-8-sig").strip()
    except (OSError, UnicodeError) as exc:
        raise Failure(f"--password-file {file} cannot be read: {exc}") from exc


def _person() -> str:
    """Who is at the terminal, for the audit log."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        return "console"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
