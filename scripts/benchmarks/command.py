"""The command line of the benchmark."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console

from benchmarks import page, postgres, report, results, session, targets
from benchmarks.operations import OPERATIONS
from benchmarks.postgres import PostgresError
from benchmarks.timing import Effort
from benchmarks.workloads import Plan

WORKLOADS = ("small", "users", "long", "tasks")
ROOT = Path(__file__).resolve().parents[2]
WIDTH = 170
"""Columns of the tables where the output is no terminal."""
QUICK_CONTENDERS = tuple(name for name in session.CONTENDERS if name != "sqlite")
QUICK = Effort(rounds=25, seconds=0.7, least=4)
FULL = Effort(rounds=200, seconds=20.0, least=10)


def _names(
    *allowed: str,
) -> Callable[[click.Context, click.Parameter, str | None], tuple[str, ...] | None]:
    """Reads a list of names, separated by commas; each must be one of ``allowed``."""

    def split(
        ctx: click.Context, param: click.Parameter, value: str | None
    ) -> tuple[str, ...] | None:
        if value is None:
            return None
        names = tuple(part.strip() for part in value.split(",") if part.strip())
        for name in names:
            if name not in allowed:
                raise click.BadParameter(f"{name!r} is none of: {', '.join(allowed)}", ctx, param)
        return names

    return split


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part.replace("_", "")) for part in text.split(","))


@click.command()
@click.option("--quick", is_flag=True, help="The short form, in under two minutes.")
@click.option(
    "--only",
    callback=_names(*session.CONTENDERS),
    help=f"Only these, of {', '.join(session.CONTENDERS)}; by default all, but --quick without "
    "sqlite.",
)
@click.option(
    "--acknowledged",
    callback=_names("journaled", "w:1"),
    default="journaled,w:1",
    help="How MongoDB acknowledges writes: journaled, w:1, or both.",
)
@click.option(
    "--workloads",
    callback=_names(*WORKLOADS),
    default=",".join(WORKLOADS),
    help=f"Only these, of {', '.join(WORKLOADS)}.",
)
@click.option(
    "--operations",
    callback=_names(*OPERATIONS),
    help=f"Only these, of {', '.join(OPERATIONS)}.",
)
@click.option("--steps", help="Steps per thread, of long threads; for example 10,1000.")
@click.option("--users", help="Threads per user; for example 10,10000.")
@click.option("--tasks", help="Tasks at once; for example 1,32.")
@click.option("--rounds", type=int, help="Times that each operation is measured, at most.")
@click.option("--seconds", type=float, help="How long one operation of one layer is measured.")
@click.option("--seed-seconds", type=float, help="How long ours may take to store a dataset.")
@click.option("--targets", "with_targets", is_flag=True, help="Compare with the targets too.")
@click.option(
    "--cpu",
    is_flag=True,
    help="Show the processor time of the client instead of the time that passed.",
)
@click.option(
    "--json",
    "json_path",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("build/bench.json"),
    show_default=True,
    help="Where the results are written.",
)
@click.option(
    "--from",
    "from_path",
    type=click.Path(dir_okay=False, exists=True, path_type=Path),
    help="Measure nothing: show the results of this file.",
)
@click.option("--write-docs", is_flag=True, help="Bring docs/performance.md up to date.")
@click.option(
    "--install", is_flag=True, help="Install PostgreSQL if it is not there (Debian, root)."
)
def main(
    *,
    quick: bool,
    only: tuple[str, ...] | None,
    acknowledged: tuple[str, ...],
    workloads: tuple[str, ...],
    operations: tuple[str, ...] | None,
    steps: str | None,
    users: str | None,
    tasks: str | None,
    rounds: int | None,
    seconds: float | None,
    seed_seconds: float | None,
    with_targets: bool,
    cpu: bool,
    json_path: Path,
    from_path: Path | None,
    write_docs: bool,
    install: bool,
) -> None:
    """Measure the data layer beside Chainlit's own ones and a floor, on the same work.

    Example: scripts/bench --quick --only ours,floor --operations create_step,update_step
    """
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    if from_path is not None:
        found = results.read(from_path)
    else:
        only = only or (QUICK_CONTENDERS if quick else session.CONTENDERS)
        effort = QUICK if quick else FULL
        plan = Plan(
            effort=Effort(rounds or effort.rounds, seconds or effort.seconds, effort.least),
            workloads=workloads,
            operations=operations,
            steps=_numbers(steps or ("10,100,1000" if quick else "10,100,1000,5000,20000")),
            users=_numbers(users or ("10,200" if quick else "10,200,1000,10000")),
            tasks=_numbers(tasks or ("1,32" if quick else "1,4,16,32,64")),
            per_operation=10 if quick else 40,
            stored_steps=2000 if quick else 40_000,
        )
        _require_postgres(only, install=install)
        with _progress(console) as notify:
            found = asyncio.run(
                session.run(
                    plan,
                    only,
                    acknowledged=acknowledged,
                    seed_seconds=seed_seconds or (20.0 if quick else 240.0),
                    notify=notify,
                )
            )
        found.write(json_path)
    shown = found.by_cpu() if cpu else found
    report.show(shown, console)
    if with_targets:
        targets.show(shown, console)
    if from_path is None:
        console.print(f"All times: {json_path}")
    if write_docs:
        page.write(found, ROOT / "docs")


@contextmanager
def _progress(console: Console) -> Iterator[Callable[[str], None]]:
    """Shows what is being done; where the output is no terminal, as lines with the time."""
    if console.is_terminal:
        with console.status("…") as status:
            yield status.update
        return
    began = time.monotonic()
    yield lambda text: click.echo(f"{time.monotonic() - began:6.1f} s  {text}", err=True)


def _require_postgres(only: tuple[str, ...], *, install: bool) -> None:
    """Say what is missing before anything is measured."""
    if not session.ON_POSTGRES & set(only):
        return
    try:
        postgres.find_programs()
    except PostgresError as exc:
        if not install:
            raise click.ClickException(str(exc)) from exc
        postgres.install()
