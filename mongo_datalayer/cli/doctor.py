"""``mongo-datalayer doctor``: looks the database over, one verdict a line."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import asdict

import click

from mongo_datalayer.cli.connection import bucket_option, connection_options, opened_database
from mongo_datalayer.health import Verdict, examine

NEEDS_A_PERSON = 1

_COLOURS = {"ok": "green", "warning": "yellow", "problem": "red"}


@click.command(epilog="Example: mongo-datalayer doctor --uri mongodb://localhost:27017")
@connection_options
@bucket_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(uri: str | None, database: str | None, bucket: str, *, as_json: bool) -> None:
    """Say what is well and what is not; change nothing. It takes less than 5 seconds.

    Exits with 1 when there is a problem, which needs a person; with 0 when there are only warnings
    (it works, and is worth knowing); and with 2 when the server could not be used.
    """
    verdicts = asyncio.run(_examine(uri, database, bucket))
    if as_json:
        click.echo(json.dumps([asdict(verdict) for verdict in verdicts], indent=2))
    else:
        _show(verdicts)
    if any(verdict.state == "problem" for verdict in verdicts):
        raise SystemExit(NEEDS_A_PERSON)


async def _examine(uri: str | None, name: str | None, bucket: str) -> list[Verdict]:
    async with opened_database(uri, name) as database:
        return await examine(database, bucket=bucket)


def _show(verdicts: list[Verdict]) -> None:
    width = max(len(verdict.check) for verdict in verdicts)
    for verdict in verdicts:
        state = click.style(f"{verdict.state:<7}", fg=_COLOURS[verdict.state])
        advice = f". {verdict.advice}" if verdict.advice else ""
        click.echo(f"{state}  {verdict.check:<{width}}  {verdict.finding}{advice}")
    counts = Counter(verdict.state for verdict in verdicts)
    click.echo(f"{counts['ok']} ok, {counts['warning']} warnings, {counts['problem']} problems.")
