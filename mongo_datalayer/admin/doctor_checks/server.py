"""Judges the server, the way to it, the login, and this machine. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta
from typing import Any

from mongo_datalayer.admin.doctor_checks import releases
from mongo_datalayer.admin.doctor_checks.check_result import CheckResult
from mongo_datalayer.admin.doctor_checks.releases import dotted, numbers
from mongo_datalayer.config import LEAST_SERVER
from mongo_datalayer.model.printable import counted
from mongo_datalayer.schema.roles import Role, allows, missing_actions

NOTICED_SKEW = timedelta(seconds=2)
HARMFUL_SKEW = timedelta(seconds=60)

SUPPORTED_CHAINLIT = ((2, 7), (3,))
"""The lowest Chainlit that is supported, and the lowest that is not any more."""

ENDS_SOON = timedelta(days=90)

FILLING_DISK, FULL_DISK = 0.15, 0.05
"""Which share of the disk is still free when that is worth knowing, and when it is urgent."""

_SLOW_SECONDS = 0.1
# Of two members both are the majority: when one fails, no write is acknowledged.
_SAFE_MEMBERS = 3
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


def judge_connection(seconds: float) -> CheckResult:
    """The round trip to the server, which every operation pays."""
    finding = f"the server answers in {seconds * 1000:.1f} ms"
    if seconds > _SLOW_SECONDS:
        return CheckResult("warning", finding, "Move the app and the database closer together.")
    return CheckResult("ok", finding)


def judge_version(version: str, today: date, *, offers_zlib: bool = True) -> CheckResult:
    """The server's version, by its age and by the hole it may have.

    Args:
        version: The version that the server names.
        today: The day on which it is judged.
        offers_zlib: Whether the server takes compressed messages that the hole needs.
    """
    finding = f"MongoDB {version}"
    if numbers(version)[:2] < LEAST_SERVER:
        return CheckResult("problem", finding, f"Upgrade to {dotted(LEAST_SERVER)} or newer.")
    until = releases.supported_until(version)
    facts = []
    if until is not None and until < today:
        facts.append(f"has had no fixes since {until:%B %Y}")
    elif until is not None and until < today + ENDS_SOON:
        facts.append(f"gets fixes until {until}")
    if releases.has_hole(version):
        facts.append(f"has the vulnerability {releases.HOLE}")
    if not facts:
        return CheckResult("ok", finding)
    finding = f"{finding}, which {' and '.join(facts)}"
    if not releases.has_hole(version):
        return CheckResult("warning", finding, "Plan an upgrade.")
    fixed = releases.first_without_hole(version)
    if offers_zlib:
        advice = (
            f"Upgrade to {fixed} or newer. Until then start mongod with "
            "--networkMessageCompressors snappy,zstd."
        )
        return CheckResult("problem", f"{finding}: its memory can be read without a login", advice)
    finding = f"{finding}, which cannot be used while zlib is off"
    return CheckResult("warning", finding, f"Plan an upgrade to {fixed} or newer.")


def judge_disk(sizes: Mapping[str, Any]) -> CheckResult:
    """The free space of the file system with the data, by ``dbStats``."""
    total, used = sizes.get("fsTotalSize"), sizes.get("fsUsedSize")
    if not total or used is None:
        return CheckResult("ok", "the server does not say")
    free = total - used
    finding = f"{free / 1024**3:.1f} of {total / 1024**3:.1f} GiB free"
    if free / total < FULL_DISK:
        return CheckResult("problem", finding, "Make room: a full disk stops MongoDB.")
    if free / total < FILLING_DISK:
        return CheckResult("warning", finding, "Make room, or plan a larger disk.")
    return CheckResult("ok", finding)


def judge_topology(hello: Mapping[str, Any]) -> CheckResult:
    """What kind of deployment answers."""
    if hello.get("msg") == "isdbgrid":
        return CheckResult("ok", "a sharded cluster")
    if "setName" not in hello:
        finding = "a standalone server: nothing takes over when it fails"
        return CheckResult("warning", finding, "Use a replica set in production.")
    name, members = hello["setName"], len(hello.get("hosts", ()))
    if members < _SAFE_MEMBERS:
        finding = f"the replica set {name} with {counted(members, 'data-bearing member')}"
        return CheckResult("warning", finding, "Three members keep serving when one fails.")
    return CheckResult("ok", f"the replica set {name} with {members} members")


def judge_write_concern(ours: Mapping[str, Any], default: Mapping[str, Any] | None) -> CheckResult:
    """When a write counts as done: as the URI and this package say, and by the server's default."""
    # A server that tells no default is taken to confirm with one member.
    w = ours.get("w", (default or {}).get("w", 1))
    finding = f"w: {w}"
    if default is not None:
        finding += f" (the server's default: {default.get('w')})"
    if w == 0:
        return CheckResult(
            "problem", f"{finding}: failed writes go unnoticed", "Remove w=0 from the URI."
        )
    unjournaled = ours.get("j") is False
    if w == 1 or unjournaled:
        return CheckResult(
            "warning",
            f"{finding}{', j: false' if unjournaled else ''}: what was confirmed can be lost with "
            "the primary",
            "Remove w and journal from the URI; the default is majority.",
        )
    return CheckResult("ok", finding)


def judge_access(
    info: Mapping[str, Any], needed: Role, *, hosts: Iterable[str], open_to_all: bool
) -> CheckResult:
    """Whether the login may do what is needed, and not much more.

    Args:
        info: ``authInfo`` of ``connectionStatus``.
        needed: The role that is needed.
        hosts: Where the server is.
        open_to_all: Whether the database can be read with this login, or without one.
    """
    users = [f"{user['user']} of {user['db']}" for user in info["authenticatedUsers"]]
    if not users:
        return _judge_no_login(hosts, open_to_all=open_to_all)
    login = f"logged in as {', '.join(users)}"
    granted: Sequence[Mapping[str, Any]] = info["authenticatedUserPrivileges"]
    if missing := missing_actions(needed, granted):
        lacks = "; ".join(
            f"{', '.join(actions)} on {collection or 'the database'}"
            for collection, actions in missing.items()
        )
        finding = f"{login}, which may not: {lacks}"
        return CheckResult("problem", finding, "Grant what `mongo-datalayer role` prints.")
    # Stands for all that an administrator may: the app's own role drops nothing.
    if allows(granted, needed.database, "", "dropDatabase"):
        return CheckResult(
            "warning",
            f"{login}, which may even drop the database",
            "Let the app log in with the role that `mongo-datalayer role` prints.",
        )
    return CheckResult("ok", f"{login}, which may do all that is needed")


def _judge_no_login(hosts: Iterable[str], *, open_to_all: bool) -> CheckResult:
    if not open_to_all:
        finding = "the server demands a login"
        return CheckResult("problem", finding, "Put user and password into the URI.")
    return CheckResult(
        "warning" if set(hosts) <= _LOOPBACK else "problem",
        "the server lets everybody in, without a login",
        "Turn access control on before others can reach it.",
    )


def judge_clock(ahead: timedelta) -> CheckResult:
    """How far the server's clock is ahead of this machine's."""
    skew = abs(ahead)
    if skew < NOTICED_SKEW:
        return CheckResult("ok", f"{skew.total_seconds():.1f} s from this machine's")
    direction = "ahead of" if ahead > timedelta(0) else "behind"
    return CheckResult(
        "problem" if skew >= HARMFUL_SKEW else "warning",
        f"the server's is {skew.total_seconds():.1f} s {direction} this machine's",
        "Let NTP set both: the order of threads and the life of links to files depend on it.",
    )


def judge_chainlit(version: str | None) -> CheckResult:
    """The Chainlit that is installed beside this package; None when there is none."""
    lowest, beyond = SUPPORTED_CHAINLIT
    advice = f"Install Chainlit {dotted(lowest)} or newer, below {dotted(beyond)}."
    if version is None:
        return CheckResult("warning", "not installed here", advice)
    if not lowest <= numbers(version) < beyond:
        return CheckResult("problem", f"{version} is not supported", advice)
    return CheckResult("ok", version)
