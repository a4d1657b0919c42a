"""``mongo-datalayer role``: prints the roles for the app, analysts and the console."""

from __future__ import annotations

import json

import click

from mongo_datalayer.cli.also import also_option
from mongo_datalayer.cli.app import (
    bucket_option,
    database_option,
    failures_explained,
    load_settings,
    print_json,
)
from mongo_datalayer.cli.terminal import print_lines
from mongo_datalayer.config import DEFAULT_DATABASE, check_database_name
from mongo_datalayer.mongodb.client import default_database
from mongo_datalayer.schema.agent_collections import AgentCollections
from mongo_datalayer.schema.roles import Role, analyst_role, app_role, console_role

_PURPOSES = {
    "app": "For the app and this command line: no dropping, and nothing elsewhere.",
    "analyst": "For people who read: no write, and no content of files.",
    "console": "For `mongo-datalayer console`: reads all, writes its audit log and its marks.",
}


@click.command(epilog="Example: mongo-datalayer role --database chainlit > roles.js")
@click.argument("who", type=click.Choice(["all", *_PURPOSES]), default="all")
@database_option
@bucket_option
@also_option("The app's role may use the collections of this agent library too.")
@click.option(
    "--format",
    "text_format",
    type=click.Choice(["shell", "atlas"]),
    default="shell",
    show_default=True,
    help="Commands for mongosh, or JSON for the Atlas Administration API, one role a line.",
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print each role's arguments of createRole as JSON."
)
def role(
    who: str,
    database: str | None,
    bucket: str,
    also: tuple[AgentCollections, ...],
    *,
    text_format: str,
    as_json: bool,
) -> None:
    """Print MongoDB's roles for the app, analysts and the console.

    They grant no more than these need. The command connects to nothing. An administrator pastes its
    output into mongosh, or runs it as a file, and grants the roles to users. Run again, it brings
    the roles to this version.
    """
    if as_json and text_format != "shell":
        raise click.UsageError("Pass --json or --format, not both.")
    if also and who not in ("all", "app"):
        raise click.UsageError(f"--also changes the role of the app, and not that of {who!r}.")
    with failures_explained():
        name = _database_name() if database is None else database
        check_database_name(name, "--database")
    made = {
        "app": app_role(name, bucket, [each for library in also for each in library.collections]),
        "analyst": analyst_role(name, bucket),
        "console": console_role(name, bucket),
    }
    roles = {kind: definition for kind, definition in made.items() if who in ("all", kind)}
    if as_json:
        print_json({kind: definition.definition for kind, definition in roles.items()})
        return
    if text_format == "atlas":
        print_lines("\n".join(json.dumps(each.atlas_role) for each in roles.values()))
        return
    print_lines("\n\n".join(_text(kind, definition) for kind, definition in roles.items()))


def _database_name() -> str:
    settings = load_settings()
    if (name := settings.database_name()) is not None:
        return name
    return DEFAULT_DATABASE if settings.uri is None else default_database(settings.require_uri())


def _text(kind: str, definition: Role) -> str:
    """The statement, and how to make a user; mongosh asks for the password."""
    return (
        f"// {_PURPOSES[kind]}\n{definition.shell_text}\n"
        f"// db.getSiblingDB({json.dumps(definition.database)}).createUser("
        f'{{user: "…", pwd: passwordPrompt(), roles: ["{definition.name}"]}})'
    )
