"""The turns of conversations as a Parquet file, with pyarrow of the extra ``dataset``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, BinaryIO

from mongo_datalayer.admin.dataset import COLUMNS, turns
from mongo_datalayer.errors import ConfigurationError

ROW_GROUP = 5000
"""How many turns are in memory, and in one row group of the file."""

_LISTS = ("tags", "tools")
_INTEGERS = ("turn", "errors")


def require_pyarrow() -> None:
    """Check that the extra is installed.

    Raises:
        ConfigurationError: it is not.
    """
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as exc:
        raise ConfigurationError(
            "Parquet needs pyarrow: pip install 'mongo-datalayer[dataset]'"
        ) from exc


class ParquetTurns:
    """Writes turns to an open file; it is readable once :meth:`close` returned.

    Args:
        file: A regular file, open for writing.
    """

    def __init__(self, file: BinaryIO) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        types = dict.fromkeys(COLUMNS, pa.string()) | {"shared": pa.bool_()}
        types |= dict.fromkeys(_LISTS, pa.list_(pa.string()))
        types |= dict.fromkeys(_INTEGERS, pa.int64())
        self._schema = pa.schema(list(types.items()))
        self._writer = parquet.ParquetWriter(file, self._schema)
        self._rows: list[dict[str, Any]] = []
        self._failed = False

    def add(self, thread: Mapping[str, Any]) -> bool:
        """Add the turns of a conversation; False when it has none."""
        rows = [asdict(turn) for turn in turns(thread)]
        self._rows += rows
        if len(self._rows) >= ROW_GROUP:
            self._flush()
        return bool(rows)

    def close(self) -> bool:
        """Write what is left and the end of the file; False when an earlier write had failed.

        The file cannot be read then.
        """
        if self._failed:
            return False
        self._flush()
        self._writer.close()
        return True

    def _flush(self) -> None:
        import pyarrow as pa

        if self._rows:
            table = pa.Table.from_pylist(self._rows, schema=self._schema)
            self._failed = True
            self._writer.write_table(table)
            self._failed = False
            self._rows = []
