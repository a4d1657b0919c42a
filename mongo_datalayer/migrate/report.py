"""What a migration did with every row: read = stored + already there + merged + listed."""

from __future__ import annotations

import json
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mongo_datalayer.migrate.records import Finding, MatchedTable, Outcome, Rows
from mongo_datalayer.model.documents import Document

EXAMPLES = 3
"""How many findings of each reason are shown on the terminal; a report file has all."""

STORED, ALREADY = "stored", "already there"
DIFFERS = "differs"
TABLES = ("users", "threads", "steps", "elements", "feedbacks", "files", "items", "attachments")
COLUMNS = (
    *("read", STORED, ALREADY, Outcome.MERGED.value, Outcome.SKIPPED.value),
    *(Outcome.LEFT_OUT.value, Outcome.CHANGED.value, DIFFERS),
)


class Report:
    """Counts by table, and the list of everything that was not simply stored.

    The list goes to a temporary file: it may be as long as the source.

    Attributes:
        kind: What the source is.
        source: Where it is, without a password.
        tables: The tables that were matched.
        warnings: What a person should know before anything else.
        counts: How many rows, by table and then by :data:`COLUMNS`.
        seconds: How long it took.
    """

    def __init__(self, kind: str = "", source: str = "") -> None:
        self.kind = kind
        self.source = source
        self.tables: list[MatchedTable] = []
        self.warnings: list[str] = []
        self.counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.reasons: Counter[tuple[str, str, str]] = Counter()
        self.examples: defaultdict[tuple[str, str, str], list[Finding]] = defaultdict(list)
        self.seconds = 0.0
        self._spool = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115 - close() does

    def close(self) -> None:
        """Delete the temporary file."""
        self._spool.close()

    def __enter__(self) -> Report:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Counting ---------------------------------------------------------------------------------

    def add(self, rows: Rows, outcome: str | None, reason: str = "", id: str = "") -> None:  # noqa: A002
        """Count the rows of one record.

        Args:
            rows: The rows, with what is said of each.
            outcome: What became of those of which nothing is said; None when there are none.
            reason: Why, where they are left out or skipped: one finding stands for all of them.
            id: The id of the thread or user.
        """
        for finding in rows.findings:
            self.tell(finding)
        for table, count in rows.read.items():
            self.counts[table]["read"] += count
        if outcome is None:
            return
        for table, count in rows.stored().items():
            self.counts[table][outcome] += count
        if reason:
            table = next((name for name in TABLES if name in rows.read), "threads")
            others = ", ".join(f"{n} {name}" for name, n in rows.read.items() if name != table)
            self._write(Finding(Outcome(outcome), reason, table, id, others and f"with {others}"))

    def tell(self, finding: Finding) -> None:
        """Count and list one row."""
        self.counts[finding.table][finding.outcome.value] += 1
        self._write(finding)

    def differs(self, table: str, id: str, detail: str) -> None:  # noqa: A002
        """List something that is not what was stored."""
        self.counts[table][DIFFERS] += 1
        finding = Finding(Outcome.LEFT_OUT, "not the same in MongoDB", table, id, detail)
        self._write(finding, outcome=DIFFERS)

    def _write(self, finding: Finding, outcome: str = "") -> None:
        key = (outcome or finding.outcome.value, finding.table, finding.reason)
        self.reasons[key] += 1
        if len(self.examples[key]) < EXAMPLES:
            self.examples[key].append(finding)
        shown = finding.as_dict() | ({"outcome": outcome} if outcome else {})
        self._spool.write(json.dumps(shown) + "\n")

    def read(self, table: str) -> int:
        """How many rows of a table were read."""
        return self.counts[table]["read"] if table in self.counts else 0

    # Judging ----------------------------------------------------------------------------------

    @property
    def balanced(self) -> bool:
        """Whether every row that was read is accounted for."""
        ends = (STORED, ALREADY, *(outcome.value for outcome in Outcome))
        # A changed row is stored as well, and would count twice.
        ends = tuple(end for end in ends if end != Outcome.CHANGED.value)
        return all(
            count["read"] == sum(count[end] for end in ends) for count in self.counts.values()
        )

    @property
    def complete(self) -> bool:
        """Whether nothing was left out and nothing differs."""
        bad = (Outcome.LEFT_OUT.value, DIFFERS)
        return self.balanced and not any(c[name] for c in self.counts.values() for name in bad)

    # Showing ----------------------------------------------------------------------------------

    def findings(self) -> Iterator[dict[str, str]]:
        """Everything that is listed."""
        self._spool.seek(0)
        for line in self._spool:
            yield json.loads(line)
        self._spool.seek(0, 2)

    def as_dict(self, *, findings: bool = False) -> Document:
        """The report as JSON has it, with the whole list if asked for."""
        content: dict[str, Any] = {
            "kind": self.kind,
            "source": self.source,
            "seconds": round(self.seconds, 1),
            "complete": self.complete,
            "tables": [table.__dict__ for table in self.tables],
            "warnings": self.warnings,
            "counts": {table: _counted(count) for table, count in self.counts.items()},
            "reasons": [
                {"outcome": outcome, "table": table, "reason": reason, "count": count}
                for (outcome, table, reason), count in sorted(self.reasons.items())
            ],
        }
        return content | ({"findings": list(self.findings())} if findings else {})

    def write(self, path: Path) -> None:
        """Write the report with the whole list, which never is in memory."""
        text = json.dumps(self.as_dict(), indent=2)
        with path.open("w", encoding="utf-8") as file:
            file.write(text.removesuffix("\n}") + ',\n  "findings": [')
            for number, line in enumerate(self.findings()):
                file.write(("," if number else "") + "\n    " + json.dumps(line))
            file.write("\n  ]\n}\n")


def _counted(count: Counter[str]) -> dict[str, int]:
    return {column.replace(" ", "_"): count[column] for column in COLUMNS}
