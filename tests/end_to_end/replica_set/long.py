"""The long form: three kills, three step-downs and a freeze, under a steady load.

``scripts/replica_set_load`` runs it.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click

from tests.end_to_end.replica_set.load import Load, Outcome
from tests.end_to_end.replica_set.members import ReplicaSet

FROZEN_SECONDS = 30.0  # longer than one operation may take

Event = Callable[[ReplicaSet], None]


def freeze(replica_set: ReplicaSet) -> None:
    """Freeze the primary for :data:`FROZEN_SECONDS`."""
    end = time.monotonic() + FROZEN_SECONDS
    replica_set.freeze_primary(lambda: time.monotonic() > end, seconds=FROZEN_SECONDS + 10)


EVENTS: list[tuple[str, Event]] = [
    ("kill -9", ReplicaSet.kill_primary),
    ("step down", ReplicaSet.step_primary_down),
] * 3 + [(f"freeze for {FROZEN_SECONDS:.0f} s", freeze)]


@click.command()
@click.option("--pause", default=5.0, show_default=True, help="Seconds of chat between events.")
def main(pause: float) -> None:
    """Hurt the primary of a replica set seven times while two processes chat.

    Fails when a step that was acknowledged is not there exactly once. At the end it runs the same
    load with the write concern w=1, which must lose steps when a primary dies before it replicated
    them, and fails when it does not.

    Example: scripts/replica_set_load --pause 10
    """
    with ReplicaSet() as replica_set, tempfile.TemporaryDirectory() as folder:
        outcome = hurt(replica_set, Path(folder), pause)
        control = lose(replica_set, Path(folder))
    click.echo(f"default write concern: {outcome}")
    for error, times in outcome.errors.most_common():
        click.echo(f"    {times} times: {error}")
    click.echo(f"the same with w=1:     {control}")
    if outcome.lost or outcome.duplicated:
        raise click.ClickException("A step that was acknowledged is not there exactly once.")
    if not control.lost:
        raise click.ClickException("With w=1 nothing was lost: this load cannot show a loss.")


def hurt(replica_set: ReplicaSet, folder: Path, pause: float) -> Outcome:
    """The events, one after the other, under the load with its defaults."""
    start = time.monotonic()
    with Load(replica_set.uri, "majority", folder) as load:
        for name, event in EVENTS:
            time.sleep(pause)
            click.echo(f"{time.monotonic() - start:6.1f} s  {load.acknowledged():7d} calls  {name}")
            event(replica_set)
        time.sleep(pause)
        load.end()
        return asyncio.run(load.outcome())


def lose(replica_set: ReplicaSet, folder: Path) -> Outcome:
    """The same load with w=1, and a primary that dies before it replicated."""
    with Load(f"{replica_set.uri}&w=1", "w1", folder) as load:
        replica_set.lose_primary_before_replication(
            lambda lag: load.acknowledged(since=lag.since) >= 200
        )
        load.end()
        return asyncio.run(load.outcome())


if __name__ == "__main__":
    main(prog_name="scripts/replica_set_load")
