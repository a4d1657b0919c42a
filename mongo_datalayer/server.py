"""Finds and runs a real mongod on a developer's machine, for the demo and for tests.

This is the public name of what :mod:`mongo_datalayer.testing` has; the data layer itself never
starts a server.
"""

from mongo_datalayer.testing.find_mongod import find_mongod
from mongo_datalayer.testing.local_mongod import LocalServer

__all__ = ["LocalServer", "find_mongod"]
