from __future__ import annotations

import pytest

from tests.programs import REQUIRE_ALL, require_program


def test_the_first_program_found_is_taken() -> None:
    found = require_program("no-such-program", "sh", what="nothing", how="")

    assert found.name == "sh"


def test_a_missing_program_skips_and_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(REQUIRE_ALL, raising=False)

    with pytest.raises(
        pytest.skip.Exception, match=r"left out: a, as no no-such-program was found\. Do c"
    ):
        require_program("no-such-program", what="a", how="Do c")


def test_a_missing_program_fails_when_all_are_required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(REQUIRE_ALL, "1")

    with pytest.raises(pytest.fail.Exception, match="left out: a"):
        require_program("no-such-program", what="a", how="Do c")
