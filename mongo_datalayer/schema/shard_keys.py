"""By which keys the collections are sharded, when one replica set is not enough. Pure.

docs/scaling.md says why these keys; docs/design/sharding.md which shards each operation asks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from mongo_datalayer.config import BUCKET
from mongo_datalayer.model.documents import (
    CHATKIT_OVERFLOW,
    CHATKIT_THREADS,
    OVERFLOW,
    THREADS,
)
from mongo_datalayer.schema.indexes import in_bucket

ShardKey: TypeAlias = Mapping[str, int | str]

SHARD_KEYS: Mapping[str, ShardKey] = {
    # Every write names the thread, and nothing else that would do.
    THREADS: {"_id": "hashed"},
    CHATKIT_THREADS: {"_id": "hashed"},
    # All that is asked of a chunk names its file; and the unique index is the key's.
    f"{BUCKET}.chunks": {"files_id": 1, "n": 1},
}
"""The collections to shard."""

OVERFLOW_KEYS: Mapping[str, ShardKey] = {
    OVERFLOW: {"thread": "hashed"},
    CHATKIT_OVERFLOW: {"thread": "hashed"},
}
"""Those to shard only when one shard does not hold them; MongoDB 5.1 is needed then."""


def shard_keys(bucket: str = BUCKET, *, overflow: bool = False) -> dict[str, ShardKey]:
    """The keys of the collections to shard, where the files are in ``bucket``."""
    keys = {**SHARD_KEYS, **(OVERFLOW_KEYS if overflow else {})}
    return {**keys, **{in_bucket(name, bucket): key for name, key in keys.items()}}
