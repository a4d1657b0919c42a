"""Puts the file route on a running app, Chainlit's own by default."""

from __future__ import annotations

from starlette.applications import Starlette

from mongo_datalayer.errors import ConfigurationError
from mongo_datalayer.files.route import ROUTE_NAME, LinkedFiles, files_route


def mount_files(storage: object, app: Starlette | None = None) -> None:
    """Serve the storage client's files from an app.

    On Chainlit's app the route goes before the page that Chainlit answers every other path with,
    below its root path. Calling it again replaces the route: the last client serves. It may be
    called before the app runs and while it does.

    Args:
        storage: A :class:`GridFSStorageClient`, such as a data layer's ``storage_client``.
        app: A Starlette or FastAPI app; None for Chainlit's own.

    Raises:
        ConfigurationError: the storage client keeps its files somewhere else.
    """
    if not isinstance(storage, LinkedFiles):
        raise ConfigurationError(
            f"mount_files serves the files of a GridFSStorageClient. {type(storage).__name__} "
            "makes links to a server of its own: leave the call out."
        )
    prefix = ""
    if app is None:
        # Here and not above: importing the server sets up a whole app.
        from chainlit.server import app as chainlit_app
        from chainlit.server import router

        app, prefix = chainlit_app, router.prefix
    routes = app.router.routes
    kept = [route for route in routes if getattr(route, "name", None) != ROUTE_NAME]
    routes[:] = [files_route(storage, prefix), *kept]
