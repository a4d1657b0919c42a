from __future__ import annotations

from mongo_datalayer.recent import Recent


def test_what_was_put_is_remembered() -> None:
    recent: Recent[str, int] = Recent(2)
    recent.put("a", 1)
    recent.put("b", 2)

    assert (recent.get("a"), recent.get("b"), recent.get("c")) == (1, 2, None)


def test_one_too_many_forgets_what_was_used_longest_ago() -> None:
    recent: Recent[str, int] = Recent(2)
    recent.put("a", 1)
    recent.put("b", 2)
    recent.get("a")
    recent.put("c", 3)

    assert (recent.get("a"), recent.get("b"), recent.get("c")) == (1, None, 3)


def test_putting_again_counts_as_use_and_replaces() -> None:
    recent: Recent[str, int] = Recent(2)
    recent.put("a", 1)
    recent.put("b", 2)
    recent.put("a", 10)
    recent.put("c", 3)

    assert (recent.get("a"), recent.get("b"), recent.get("c")) == (10, None, 3)


def test_asking_for_what_is_not_there_forgets_nothing() -> None:
    recent: Recent[str, int] = Recent(1)
    recent.put("a", 1)

    assert recent.get("unknown") is None
    assert recent.get("a") == 1


def test_it_never_holds_more_than_its_size() -> None:
    recent: Recent[int, int] = Recent(10)
    for number in range(1000):
        recent.put(number, number)

    assert [number for number in range(1000) if recent.get(number) is not None] == list(
        range(990, 1000)
    )


def test_heavy_values_leave_room_for_fewer() -> None:
    recent: Recent[str, str] = Recent(10, weight=len)
    recent.put("a", "12345")
    recent.put("b", "1234")
    recent.put("a", "123456")
    assert (recent.get("a"), recent.get("b")) == ("123456", "1234")

    recent.put("c", "1")
    assert (recent.get("a"), recent.get("b"), recent.get("c")) == (None, "1234", "1")


def test_a_value_too_heavy_is_not_remembered() -> None:
    recent: Recent[str, str] = Recent(3, weight=len)
    recent.put("a", "1234")
    recent.put("b", "123")

    assert (recent.get("a"), recent.get("b")) == (None, "123")
