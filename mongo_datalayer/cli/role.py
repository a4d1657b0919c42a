"""``mongo-datalayer role``: prints the roles that the app and analysts need. No connection."""

from __future__ import annotations

import json

import click

from mongo_datalayer.cli.connection import bucket_option
from mongo_datalayer.cli.failure import failures_explained
from mongo_datalayer.config import Settings
from mongo_datalayer.roles import Role, analyst_role, app_role

_ROLES = {"app": app_role, "analyst": analyst_role}
_PURPOSES = {
    "app": "For the app and this command line: no dropping, and nothing elsewhere.",
    "analyst": "For people who read: no write, and no content of files.",
}


@click.command(epilog="Example: mongo-datalayer role --database chainlit > roles.js")
@click.argument("who", type=click.Choice(["all", *_ROLES]), default="all")
@click.option(
    "--database",
    metavar="NAME",
    help="Name of the database. [default: $MONGODB_DATABASE, else chainlit]",
)
@bucket_option
@click.option(
    "--json", "as_json", is_flag=True, help="Print the arguments of createRole as JSON, by name."
)
def role(who: str, database: str | None, bucket: str, *, as_json: bool) -> None:
    """Print the roles that the app and analysts need in MongoDB.

    They grant no more than that. It connects to nothing. An administrator pastes the text into
    mongosh, or runs it as a file, and gives the roles to users.
    """
    with failures_explained():
        name = Settings.load().database if database is None else database
    roles = {kind: make(name, bucket) for kind, make in _ROLES.items() if who in ("all", kind)}
    if as_json:
        click.echo(json.dumps({kind: made.definition for kind, made in roles.items()}, indent=2))
        return
    click.echo("\n\n".join(_text(_PURPOSES[kind], made) for kind, made in roles.items()))


def _text(purpose: str, made: Role) -> str:
    """The statement, and how to make a user; the password is asked for, never written down."""
    return (
        f"// {purpose}\n{made.shell_text}\n"
        f"// db.getSiblingDB({json.dumps(made.database)}).createUser("
        f'{{user: "…", pwd: passwordPrompt(), roles: ["{made.name}"]}})'
    )
