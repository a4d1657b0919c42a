"""``mongo-datalayer demo``: MongoDB, the indexes, a history and an app, in one command."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timezone
from importlib.util import find_spec
from pathlib import Path
from types import FrameType

import click

from mongo_datalayer.admin.importer import Import
from mongo_datalayer.cli.app import (
    STOP_SIGNALS,
    Failure,
    failures_explained,
    heeded_signals,
    on_database,
)
from mongo_datalayer.cli.listening import free_port, listening_options, web_address
from mongo_datalayer.cli.terminal import print_line, print_lines
from mongo_datalayer.demo.app_process import CHAINLIT, CHATKIT, AppProcess
from mongo_datalayer.demo.folder import DemoFolder, default_folder
from mongo_datalayer.demo.history import history_records
from mongo_datalayer.files.bucket import FileBucket
from mongo_datalayer.mongodb.client import Database, default_database, open_collection
from mongo_datalayer.schema.indexes import apply_indexes
from mongo_datalayer.testing.local_mongod import LocalServer

POLL_SECONDS = 0.2
# The demo should not take half of a developer's memory, as mongod does by itself.
CACHE = ("--wiredTigerCacheSizeGB", "0.25")


@click.command(epilog="Example: mongo-datalayer demo --port 8080")
@listening_options(port=8000)
@click.option(
    "--mongodb-port",
    default=27117,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="Port of the demo's MongoDB. 0 takes a free one.",
)
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where data is kept between runs. "
    "[default: $XDG_DATA_HOME/mongo-datalayer/demo, else ~/.local/share/mongo-datalayer/demo]",
)
@click.option("--uri", metavar="URI", help="Use this MongoDB instead of starting one.")
@click.option(
    "--database",
    metavar="NAME",
    help="Name of the database. [default: the one that --uri names, else chainlit]",
)
@click.option("--chatkit", is_flag=True, help="Run a ChatKit server instead of a Chainlit app.")
def demo(
    host: str,
    port: int,
    mongodb_port: int,
    data_dir: Path | None,
    uri: str | None,
    database: str | None,
    *,
    chatkit: bool,
) -> None:
    """Run a Chainlit app that keeps its conversations in MongoDB.

    It starts a MongoDB of its own that only this machine can reach, creates the indexes, and serves
    the app until you press Ctrl-C. Data is kept between runs. An empty database gets a history of
    some weeks.
    """
    with ExitStack() as stack, _interruptible(stack), failures_explained():
        _require_chatkit(chatkit=chatkit)
        # Before MongoDB starts: a port that is taken should be told at once.
        port = free_port(host, port, "--port")
        if uri is None:
            mongodb_port = free_port("127.0.0.1", mongodb_port, "--mongodb-port")
        folder = _prepared_folder(data_dir)
        server = None
        if uri is None:
            server = _start_server(folder, mongodb_port, stack)
            uri = server.uri
        name = default_database(uri) if database is None else database
        on_database(uri, name, _prepare_database)
        web = web_address(host, port)
        app = AppProcess(
            host=host,
            port=port,
            app_root=folder.app_root,
            log=folder.log,
            environment=_environment(uri, name, web, folder, chatkit=chatkit),
            program=CHATKIT if chatkit else CHAINLIT,
        )
        print_line(f"Starting {'the ChatKit server' if chatkit else 'Chainlit'} …")
        # After MongoDB's, so it runs before: the app's last writes need the server.
        stack.callback(app.stop)
        app.start()
        _announce(web, shell_address(uri, name), folder, chatkit=chatkit)
        _watch(app, server)


def _start_server(folder: DemoFolder, port: int, stack: ExitStack) -> LocalServer:
    server = LocalServer(folder.database, port=port, arguments=CACHE)
    print_line("Starting MongoDB …")
    # Before the start, which may be interrupted in the middle.
    stack.callback(server.stop)
    server.start()
    return server


def _environment(
    uri: str, name: str, web: str, folder: DemoFolder, *, chatkit: bool
) -> dict[str, str]:
    environment = {
        "MONGODB_URI": uri,
        "MONGODB_DATABASE": name,
        "CHAINLIT_AUTH_SECRET": folder.auth_secret(),
    }
    # ChatKit takes only whole addresses; Chainlit's page is best served by links without a host.
    return {**environment, "MONGO_DATALAYER_FILES_URL": web} if chatkit else environment


def _require_chatkit(*, chatkit: bool) -> None:
    if chatkit and find_spec("chatkit") is None:
        raise Failure("ChatKit is not installed. Run: pip install 'mongo-datalayer[chatkit]'")


async def _prepare_database(database: Database) -> None:
    """Create the indexes, and a history where nobody has been yet."""
    await apply_indexes(database)
    for name in ("users", "threads"):
        if await open_collection(database, name).find_one() is not None:
            return
    importer = Import(database, FileBucket(database), replace=False)
    await importer.store(history_records(datetime.now(timezone.utc)))


def _prepared_folder(data_dir: Path | None) -> DemoFolder:
    folder = DemoFolder((data_dir or default_folder()).expanduser().resolve())
    try:
        folder.prepare()
    except OSError as exc:
        raise Failure(f"The data directory cannot be used: {exc}") from exc
    return folder


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


def _announce(web: str, shell: str, folder: DemoFolder, *, chatkit: bool) -> None:
    use = "Log in       alice / alice   or   bob / bob"
    if chatkit:
        use = f"Or ask       python -m mongo_datalayer.demo.chatkit_client {web}"
    print_lines(
        f"\n"
        f"  Open         {web}\n"
        f"  {use}\n"
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

    before = {number: signal.signal(number, interrupt) for number in heeded_signals()}
    try:
        yield
    except KeyboardInterrupt:
        print_lines("\nStopping …")
        stack.close()
        print_line("Stopped. The data is kept.")
    finally:
        _ignore_signals()
        stack.close()
        for number, handler in before.items():
            signal.signal(number, handler)


def _ignore_signals() -> None:
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
