"""Where the commands of the tests find their database."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.cli.people import Documents


@pytest.fixture
def where(mongo_uri: str, database_name: str) -> tuple[str, ...]:
    """The options that name the test's database."""
    return ("--uri", mongo_uri, "--database", database_name)


@pytest.fixture
async def other(database: Documents) -> AsyncIterator[Documents]:
    """An empty database to import into."""
    name = f"{database.name}_other"
    yield database.client[name]
    await database.client.drop_database(name)


@pytest.fixture
def there(mongo_uri: str, other: Documents) -> tuple[str, ...]:
    """The options that name that one."""
    return ("--uri", mongo_uri, "--database", other.name)
