"""Puts the file route on a running app, Chainlit's own by default."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from starlette.applications import Starlette
from starlette.routing import Route

from mongo_datalayer.errors import ConfigurationError
from mongo_datalayer.files.route import ROUTE_NAME, LinkedFiles, files_route


def mount_files(storage: object, app: Starlette | None = None) -> None:
    """Serve the storage client's files from an app, before it runs or while it does.

    On Chainlit's app the route takes precedence over the page that answers every other path, and
    stands below its root path. A second call replaces the route of the first.

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
    add_routes(lambda prefix: [files_route(storage, prefix)], app)


def add_routes(routes: Callable[[str], Sequence[Route]], app: Starlette | None) -> None:
    """Put routes before those of an app, in place of those with their names.

    Args:
        routes: Makes the routes below a path.
        app: A Starlette or FastAPI app; None for Chainlit's own, where the path is its root path.
    """
    prefix = ""
    if app is None:
        # Imported here, as importing the server sets up a whole app.
        from chainlit.server import app as chainlit_app
        from chainlit.server import router

        app, prefix = chainlit_app, router.prefix
    added = routes(prefix)
    names = {route.name for route in added}
    served = app.router.routes
    kept = [route for route in served if getattr(route, "name", None) not in names]
    served[:] = [*added, *kept]


def is_mounted() -> bool:
    """Whether a route that serves files is on Chainlit's app."""
    from chainlit.server import app

    return any(getattr(route, "name", None) == ROUTE_NAME for route in app.router.routes)
