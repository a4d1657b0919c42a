"""``--also``, which erase-user and role share. Its own module: other commands load no roles."""

from __future__ import annotations

from collections.abc import Callable

import click

from mongo_datalayer.cli.app import Function
from mongo_datalayer.errors import MongoDataLayerError
from mongo_datalayer.schema.agent_collections import LIBRARIES, AgentCollections, parse_collections


def also_option(what_for: str) -> Callable[[Function], Function]:
    """``--also``, which names agent libraries; with what a command does with them."""

    def read(
        _context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]
    ) -> tuple[AgentCollections, ...]:
        try:
            return tuple(dict.fromkeys(map(parse_collections, values)))
        except MongoDataLayerError as exc:
            raise click.BadParameter(str(exc)) from exc

    names = ", ".join(LIBRARIES)
    return click.option(
        "--also",
        metavar="LIBRARY",
        multiple=True,
        callback=read,
        help=f"{what_for} LIBRARY is one of {names}. Name other collections like this: "
        "agents-sdk:my_messages,my_sessions. May be repeated.",
    )
