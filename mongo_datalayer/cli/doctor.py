"""``mongo-datalayer doctor``: looks the database over, one line for each check."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict

import click

from mongo_datalayer.admin.doctor import run_checks
from mongo_datalayer.admin.doctor_checks.check_result import CheckResult
from mongo_datalayer.cli.app import NEEDS_A_PERSON, database_command, json_option, print_json
from mongo_datalayer.cli.terminal import count_list, print_line, print_row
from mongo_datalayer.mongodb.client import Database

STATES = ("ok", "warning", "problem")


@click.command(epilog="Example: mongo-datalayer doctor --uri mongodb://localhost:27017")
@database_command(bucket=True)
@json_option
async def doctor(database: Database, bucket: str, *, as_json: bool) -> int:
    """Check the server, the login and the database. Changes nothing.

    It takes less than 5 seconds. With a warning everything works, and you should know of it. A
    problem needs you.

    \b
    Exit codes:
      0  no problems, perhaps warnings
      1  at least one problem
      2  the server could not be used
    """
    results = await run_checks(database, bucket=bucket)
    if as_json:
        print_json([asdict(result) for result in results])
    else:
        _show(results)
    return NEEDS_A_PERSON if any(result.state == "problem" for result in results) else 0


def _show(results: list[CheckResult]) -> None:
    widths = (max(map(len, STATES)), max(len(result.check) for result in results))
    for result in results:
        advice = f". {result.advice}" if result.advice else ""
        print_row(result.state, result.check, result.finding + advice, widths=widths)
    counts = Counter(result.state for result in results)
    warnings, problems = counts["warning"], counts["problem"]
    print_line(f"{counts['ok']} ok, {count_list([(warnings, 'warning'), (problems, 'problem')])}.")
