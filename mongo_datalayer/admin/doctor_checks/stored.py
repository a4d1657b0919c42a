"""Judges what is stored. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mongo_datalayer.admin.doctor_checks.check_result import CheckResult
from mongo_datalayer.files.stored_file import StoredFile
from mongo_datalayer.model.printable import counted, readable_size
from mongo_datalayer.schema.indexes import IndexReport
from mongo_datalayer.schema.validators import Validator
from mongo_datalayer.schema.version import SchemaVersion

DOCUMENT_BYTES = 16 * 1024 * 1024
WORRYING_SHARE = 0.5
FULL_SHARE = 0.85


def judge_indexes(report: IndexReport) -> CheckResult:
    """The declared indexes."""
    if report.complete:
        unknown = f", {len(report.unknown)} from other applications" if report.unknown else ""
        return CheckResult("ok", f"{len(report.present)} present{unknown}")
    wrong = {"missing": report.missing, "different": report.different}
    finding = "; ".join(
        f"{state}: {', '.join(map(str, group))}" for state, group in wrong.items() if group
    )
    return CheckResult("problem", finding, "Run `mongo-datalayer indexes apply`.")


def judge_validators(found: Iterable[Validator]) -> CheckResult:
    """The collections' validators; to have none is no fault."""
    by_collection = {validator.collection: validator for validator in found}
    if all(validator.state == "missing" for validator in by_collection.values()):
        return CheckResult("ok", "not in use")
    states = {
        name: validator.state + ("" if validator.action is None else f" ({validator.action})")
        for name, validator in by_collection.items()
    }
    if len(set(states.values())) == 1:
        finding = f"all {next(iter(states.values()))}"
    else:
        finding = ", ".join(f"{name}: {state}" for name, state in states.items())
    stale = [v for v in by_collection.values() if v.state in ("outdated", "foreign")]
    if not stale:
        return CheckResult("ok", finding)
    replace = " --replace" if any(v.state == "foreign" for v in stale) else ""
    advice = f"Run `mongo-datalayer schema apply{replace}`."
    if any(validator.action == "error" for validator in stale):
        return CheckResult("problem", f"{finding}: it may refuse what this version writes", advice)
    return CheckResult("warning", finding, advice)


def judge_schema_version(version: SchemaVersion) -> CheckResult:
    """The recorded version of the schema; to have no record is no fault."""
    if version.state == "newer":
        return CheckResult("problem", version.explanation, "Upgrade mongo_datalayer.")
    if version.state == "outdated":
        return CheckResult("warning", version.explanation, "Run `mongo-datalayer setup apply`.")
    if version.version is None:
        return CheckResult("ok", "not recorded, which is fine; `setup apply` records it")
    return CheckResult("ok", f"{version.version}, the one of this package")


def judge_files(count: int, newest: StoredFile, chunks: int) -> CheckResult:
    """The file store, by its newest file and how many pieces of its content are there."""
    # Rounded up, as the last piece is shorter.
    expected = -(-newest.size // newest.chunk_bytes)
    if chunks != expected:
        return CheckResult(
            "problem",
            f"{newest.object_key} has {chunks} of its {counted(expected, 'piece')}",
            "Restore fs.chunks together with fs.files from one backup.",
        )
    return CheckResult("ok", f"about {counted(count, 'file')}; the newest is whole")


def judge_sizes(largest: Sequence[Mapping[str, Any]], *, sampled: int | None) -> CheckResult:
    """The largest documents against what MongoDB stores in one.

    Steps, elements, items and large values never bring a document there: they move to others
    before.

    Args:
        largest: ``thread`` (its id, or a ChatKit thread's owner and id) and ``bytes`` of the
            largest main and overflow documents, largest first.
        sampled: How many of each were examined; None for all.
    """
    among = _among(sampled)
    if not largest:
        return CheckResult("ok", f"no threads{among}")
    near = [document for document in largest if _share(document) >= WORRYING_SHARE]
    if not near:
        size = readable_size(largest[0]["bytes"])
        return CheckResult("ok", f"the largest{among} has {size}, of at most 16 MB")
    names = ", ".join(
        f"{thread_name(document['thread'])} ({_megabytes(document['bytes'])})" for document in near
    )
    return CheckResult(
        "problem" if _share(near[0]) >= FULL_SHARE else "warning",
        f"near the 16 MB a document may have{among}: {names}",
        "Look for what is large in these threads: metadata, or what another program wrote. Writes "
        "that would go beyond fail.",
    )


def judge_unlisted_overflow(count: int, *, sampled: int | None) -> CheckResult:
    """Overflow documents that a process left which was killed while it moved items to them."""
    if not count:
        return CheckResult("ok", f"none{_among(sampled)}")
    return CheckResult(
        "warning",
        f"{count}{_among(sampled)} that no thread lists: nobody reads them",
        "Run `mongo-datalayer files gc --delete`.",
    )


def _share(document: Mapping[str, Any]) -> float:
    return float(document["bytes"]) / DOCUMENT_BYTES


def thread_name(thread: Any) -> str:
    """A thread by its id, ChatKit's with its owner."""
    if isinstance(thread, Mapping):
        return f"{thread['id']} of {thread['owner']}"
    return str(thread)


def _among(sampled: int | None) -> str:
    return "" if sampled is None else f" of {sampled} taken at random (all would take too long)"


def _megabytes(size: int) -> str:
    return f"{size / 1024 / 1024:.1f} MB"


def judge_damage(
    odd: Sequence[str], incomplete: Sequence[Any], lost: Sequence[str], *, sampled: int | None
) -> CheckResult:
    """What cannot be read any more.

    Args:
        odd: Names of threads with times that are no dates, with items that are no documents, or
            with a list of overflow documents that is none.
        incomplete: Threads that lost overflow documents.
        lost: Keys of large values that are not in GridFS.
        sampled: How many threads were looked at, if not all.
    """
    kinds = {
        "thread{s} with invalid fields": odd,
        "thread{s} without all overflow documents": incomplete,
    }
    kinds["large value{s} without a file"] = lost
    finding = "; ".join(
        f"{counted(len(found), kind)}, such as {found[0]}" for kind, found in kinds.items() if found
    )
    scope = "" if sampled is None else f" (in a sample of {sampled})"
    if not finding:
        return CheckResult("ok", f"none found{scope}")
    advice = "Run `mongo-datalayer schema check`. What is missing is only in a backup."
    return CheckResult("problem", f"{finding}{scope}", advice)
