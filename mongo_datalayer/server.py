"""Finds and runs a real mongod on a developer's machine, for the demo and for tests.

The data layer itself never starts a server.
"""

from mongo_datalayer.server.find import find_mongod
from mongo_datalayer.server.local import LocalServer

__all__ = ["LocalServer", "find_mongod"]
