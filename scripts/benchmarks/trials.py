"""One measured call, with what comes before it and what its result must be."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.contenders.contender import Contender
from benchmarks.conversations import Thread, made_id

Check = Callable[[Any], str | None]
"""Takes what a call returned; says what is wrong with it, or None."""


def accept(result: Any) -> str | None:
    """No check of the result: what was written is read back later."""
    del result
    return None


@dataclass(frozen=True)
class Trial:
    """One call to be timed.

    Attributes:
        call: Makes the call.
        check: Looks at what it returned.
        before: What is done before, untimed.
    """

    call: Callable[[], Awaitable[Any]]
    check: Check = accept
    before: Callable[[], Awaitable[Any]] | None = None


@dataclass(frozen=True)
class Stage:
    """Where an operation is called: a contender, and the threads that it may use.

    Attributes:
        contender: The data layer, with the ids of its users.
        threads: The threads, in turn.
        user: Identifier of the user of lists.
        listed: All threads of that user.
        tasks: How many calls are made at once.
    """

    contender: Contender
    threads: Sequence[Thread]
    user: str = ""
    listed: Sequence[Thread] = ()
    tasks: int = 1

    @property
    def layer(self) -> Any:
        """The methods."""
        return self.contender.layer

    @property
    def user_id(self) -> str:
        """The id of the user of lists."""
        return self.contender.users[self.user]

    def thread(self, number: int) -> Thread:
        """The thread of a trial."""
        return self.threads[number % len(self.threads)]

    def lap(self, number: int) -> int:
        """How many trials a trial's thread had before."""
        return number // len(self.threads)


Operation = Callable[[Stage, int], Trial]
"""Makes the trial with this number. The same number means the same call for each contender."""


def trial_id(operation: str, thread: Thread, number: int) -> str:
    """The id of what a trial makes."""
    return made_id("trial", operation, thread.id, number)
