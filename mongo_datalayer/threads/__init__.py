"""Threads and their overflow: the only code that knows how a thread is stored.

One document, the head, holds one conversation, and every write is one atomic update of it, guarded
so that it can be repeated. The ordinary case of each operation is one command; only where the guard
says no the document is read to find out why.

Of a long conversation the head holds the newest part: new steps are appended to it as ever, where
it is known that they are in no part already. What is not found in the head is looked for in the
parts. Above this package nobody knows.
"""

from mongo_datalayer.threads.conversations import ThreadChanges, Threads
from mongo_datalayer.threads.heads import object_keys
from mongo_datalayer.threads.steps import AT_ONCE, NewStep

__all__ = ["AT_ONCE", "NewStep", "ThreadChanges", "Threads", "object_keys"]
