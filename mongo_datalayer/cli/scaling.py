"""``mongo-datalayer scaling``: what to do when one replica set is not enough."""

from __future__ import annotations

from dataclasses import asdict

import click

from mongo_datalayer.admin.scaling import plan_sharding
from mongo_datalayer.cli.app import NEEDS_A_PERSON, database_command, json_option, print_json
from mongo_datalayer.cli.terminal import print_line
from mongo_datalayer.mongodb.client import Database


@click.group()
def scaling() -> None:
    """Plan what to do when one replica set is not enough.

    docs/scaling.md says when that is.
    """


@scaling.command(epilog="Example: mongo-datalayer scaling plan > shard.js")
@database_command(bucket=True)
@click.option("--overflow", is_flag=True, help="Also shard the overflow documents of long threads.")
@json_option
async def plan(database: Database, bucket: str, *, overflow: bool, as_json: bool) -> int:
    """Print the commands that shard this database. Changes nothing.

    An administrator runs them in the mongo shell, connected to a mongos. What is in the way is
    printed as comments. What is sharded already is left out.

    \b
    Exit codes:
      0  nothing is in the way
      1  something is in the way
      2  the server could not be used
    """
    found = await plan_sharding(database, bucket=bucket, overflow=overflow)
    if as_json:
        print_json(asdict(found))
    else:
        for obstacle in found.obstacles:
            print_line(f"// {obstacle}")
        for command in found.commands:
            print_line(command)
        if not found.commands:
            print_line("// Nothing is left to shard.")
    return NEEDS_A_PERSON if found.obstacles else 0
