"""What the tests beside PraisonAI's own code share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.praisonai.wheel import unpack_wheel


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that holds the package ``praisonai``."""
    return unpack_wheel(tmp_path_factory.mktemp("wheel"))
