"""A web page on the conversations, for the team that runs the app. It only reads.

Needs the extra ``mongo-datalayer[console]``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mongo_datalayer.console.app import console_app

__all__ = ["console_app"]


def __getattr__(name: str) -> Any:
    # On use: the command line lists conversations without the packages of the extra.
    if name == "console_app":
        try:
            from mongo_datalayer.console.app import console_app
        except ModuleNotFoundError as exc:
            raise ModuleNotFoundError(
                f"The console needs {exc.name}, which is not installed. Install the extra "
                "`console`: pip install 'mongo-datalayer[console]'",
                name=exc.name,
            ) from exc
        return console_app
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
