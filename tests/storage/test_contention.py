"""Attempts end after a count, pause from the third one on, and end in an error that says where."""

from __future__ import annotations

import asyncio
import random

import pytest

from mongo_datalayer.errors import StorageError
from mongo_datalayer.storage import contention
from mongo_datalayer.storage.contention import WRITE_ATTEMPTS, Attempts, contended, incomplete


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that were asked for, none of which is made; each is the longest possible."""
    asked: list[float] = []

    async def sleep(seconds: float) -> None:
        asked.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    monkeypatch.setattr(random, "uniform", lambda _, longest: longest)
    return asked


async def test_the_attempts_are_counted(pauses: list[float]) -> None:
    assert [number async for number in Attempts(4)] == [0, 1, 2, 3]
    assert len(pauses) == 2


async def test_two_attempts_need_no_pause(pauses: list[float]) -> None:
    async for number in Attempts(WRITE_ATTEMPTS):
        if number == 1:
            break
    assert pauses == []


async def test_pauses_grow_to_a_bound_and_stay_short_together(pauses: list[float]) -> None:
    assert [number async for number in Attempts(WRITE_ATTEMPTS)][-1] == WRITE_ATTEMPTS - 1
    assert pauses == sorted(pauses)
    assert pauses[0] < pauses[-1] == contention.LONGEST_PAUSE_SECONDS
    assert sum(pauses) < 3


def test_the_errors_name_what_could_not_be_written_or_read() -> None:
    assert "'s' in the thread 't'" in str(contended("t", "s"))
    assert "the thread 't'" in str(contended("t"))
    assert isinstance(incomplete("t"), StorageError)
    assert "'t'" in str(incomplete("t"))
