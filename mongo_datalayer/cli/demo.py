"""``mongo-datalayer demo``: MongoDB, the indexes and a Chainlit app, in one command."""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType

import click

from mongo_datalayer.cli.connection import opened_database
from mongo_datalayer.cli.failure import Failure, failures_explained
from mongo_datalayer.config import DEFAULT_DATABASE
from mongo_datalayer.demo.app_process import AppProcess, reachable
from mongo_datalayer.demo.folder import DemoFolder, default_folder
from mongo_datalayer.indexes import apply_indexes
from mongo_datalayer.server import LocalServer

POLL_SECONDS = 0.2
# The demo should not take half of a developer's memory, as mongod does by itself.
CACHE = ("--wiredTigerCacheSizeGB", "0.25")
# Ctrl-C, `kill`, and the end of the terminal.
STOP_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)


@click.command(epilog="Example: mongo-datalayer demo --port 8080")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    default=8000,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="Port to listen on; 0 takes a free one.",
)
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where data is kept between runs. "
    "[default: $XDG_DATA_HOME/mongo-datalayer/demo, else ~/.local/share/mongo-datalayer/demo]",
)
@click.option("--uri", metavar="URI", help="Use this MongoDB; do not start one.")
@click.option(
    "--database",
    metavar="NAME",
    default=DEFAULT_DATABASE,
    show_default=True,
    help="Name of the database.",
)
def demo(host: str, port: int, data_dir: Path | None, uri: str | None, database: str) -> None:
    """Run a Chainlit app that keeps its conversations in MongoDB.

    Starts a MongoDB of its own (on the loopback interface only), creates the indexes and serves
    the app until Ctrl-C, which stops everything. Data is kept between runs.
    """
    with ExitStack() as stack, _interruptible(stack), failures_explained():
        port = _free_port(host, port)
        folder = _prepared_folder(data_dir)
        server = None if uri is not None else LocalServer(folder.database, arguments=CACHE)
        if server is not None:
            click.echo("Starting MongoDB …")
            stack.callback(server.stop)
            server.start()
        address = uri if server is None else server.uri
        assert address is not None  # noqa: S101 - one of the two was given
        asyncio.run(_create_indexes(address, database))
        app = AppProcess(
            host=host,
            port=port,
            app_root=folder.app_root,
            log=folder.log,
            environment={
                "MONGODB_URI": address,
                "MONGODB_DATABASE": database,
                "CHAINLIT_AUTH_SECRET": folder.auth_secret(),
            },
        )
        click.echo("Starting Chainlit …")
        stack.callback(app.stop)
        app.start()
        _announce(web_address(host, port), shell_address(address, database), folder)
        _watch(app, server)


def _prepared_folder(data_dir: Path | None) -> DemoFolder:
    folder = DemoFolder((data_dir or default_folder()).expanduser().resolve())
    try:
        folder.prepare()
    except OSError as exc:
        raise Failure(f"The data directory cannot be used: {exc}") from exc
    return folder


async def _create_indexes(uri: str, name: str) -> None:
    async with opened_database(uri, name) as database:
        await apply_indexes(database)


def web_address(host: str, port: int) -> str:
    """What to open in a browser for a server that listens on ``host``."""
    name = reachable(host)
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"


def shell_address(uri: str, database: str) -> str:
    """What to give to mongosh to see ``database``; it asks for the password, which is left out."""
    scheme, _, rest = uri.partition("://")
    place, _, options = rest.partition("?")
    hosts, _, login_database = place.partition("/")
    login, _, addresses = hosts.rpartition("@")
    user = login.partition(":")[0]
    if user and login_database and "authsource=" not in options.lower():
        # The database in the URI is the one to log in to, unless an option says otherwise.
        options = "&".join(filter(None, [options, f"authSource={login_database}"]))
    return (
        f"{scheme}://{user}{'@' if user else ''}{addresses}/{database}"
        f"{'?' if options else ''}{options}"
    )


def _announce(web: str, shell: str, folder: DemoFolder) -> None:
    click.echo(
        f"\n"
        f"  Open         {web}\n"
        f"  Log in       alice / alice   or   bob / bob\n"
        f'  Look inside  mongosh "{shell}"\n'
        f"\n"
        f"  Data         {folder.path}\n"
        f"  Log          {folder.log}\n"
        f"  Stop         Ctrl-C\n"
    )


def _watch(app: AppProcess, server: LocalServer | None) -> None:
    while True:
        if not app.running:
            raise Failure(app.explain_end())
        if server is not None and not server.running:
            raise Failure("MongoDB stopped.")
        time.sleep(POLL_SECONDS)


@contextmanager
def _interruptible(stack: ExitStack) -> Iterator[None]:
    """Stop what ``stack`` holds at a signal to stop, undisturbed by a second one."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        _ignore_signals()
        raise KeyboardInterrupt

    # Under nohup the end of the terminal is ignored, and stays so. Ctrl-C is not: a shell that
    # puts a command in the background ignores it, too.
    heeded = [
        number
        for number in STOP_SIGNALS
        if number == signal.SIGINT or signal.getsignal(number) is not signal.SIG_IGN
    ]
    before = {number: signal.signal(number, interrupt) for number in heeded}
    try:
        yield
    except KeyboardInterrupt:
        click.echo("\nStopping …")
        stack.close()
        click.echo("Stopped. The data is kept.")
    finally:
        _ignore_signals()
        stack.close()
        for number, handler in before.items():
            signal.signal(number, handler)


def _ignore_signals() -> None:
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _free_port(host: str, port: int) -> int:
    """``port``, or a free one for 0.

    Raises:
        Failure: the port is taken, or the host is not one of this machine's.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            # As the server will: a port whose last connections are closing is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            chosen: int = probe.getsockname()[1]
            return chosen
    except OSError as exc:
        raise Failure(
            f"Cannot listen on {host}:{port}: {exc.strerror or exc}. "
            "Stop what uses the port, or choose another one with --port."
        ) from exc
