"""The same calls on PraisonAI's class, on SQLite, and on ours: only what the docs say differs."""

from __future__ import annotations

import inspect
import sys
import warnings
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict, is_dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from chainlit.context import init_http_context
from chainlit.user import PersistedUser

from mongo_datalayer.model.times import parse_time
from mongo_datalayer.praisonai import DatabaseManager, SQLAlchemyDataLayer
from tests.docs.pages import DOCS, table_rows
from tests.praisonai.calls import CALLS

PAGE = DOCS / "praisonai.md"
KINDS = {"steps": "thread", "parentId": "step", "chainlitKey": "element"}
"""A field that only threads have, only steps, and only elements."""
THEIR_MODULES = ("db", "sql_alchemy", "database_config", "praisonai")


@pytest.fixture(scope="module")
def their_class(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """PraisonAI's DatabaseManager, with the methods that Chainlit asks for since."""
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.setenv("CHAINLIT_APP_ROOT", str(tmp_path_factory.mktemp("praison")))
        patch.setenv("FORCE_SQLITE", "true")
        patch.syspath_prepend(str(wheel))
        patch.syspath_prepend(str(wheel / "praisonai" / "ui"))
        theirs: Any = import_module("db").DatabaseManager
        since = dict.fromkeys(theirs.__abstractmethods__)
        yield type("TheirDatabaseManager", (theirs,), {**since, "__abstractmethods__": frozenset()})
    for name in list(sys.modules):
        if name.partition(".")[0] in THEIR_MODULES:
            del sys.modules[name]


@pytest.fixture
async def theirs(
    their_class: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Any]:
    monkeypatch.setenv("CHAINLIT_APP_ROOT", str(tmp_path))
    layer = their_class()
    layer.initialize()
    yield layer
    await layer.close()


@pytest.fixture
async def ours(
    mongo_uri: str, database_name: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[DatabaseManager]:
    monkeypatch.setenv("MONGODB_URI", mongo_uri)
    monkeypatch.setenv("MONGODB_DATABASE", database_name)
    monkeypatch.setenv("MONGO_DATALAYER_FILES_SECRET", "x" * 32)
    layer = DatabaseManager()
    yield layer
    await layer.close()


def documented(kind: str) -> set[str]:
    """What the page's table of ``Call`` or ``Field`` says is different."""
    table, names = "", set()
    for cells in table_rows(PAGE):
        if cells[0] in {"Argument", "Call", "Field"}:
            table = cells[0] if cells[1] == "PraisonAI's class" else ""
        elif table == kind:
            names.add(cells[0])
    return names


async def found_different(name: str, theirs: Any, ours: DatabaseManager) -> set[str]:
    """The places where the answers to a call differ."""
    init_http_context(thread_id="t")  # Chainlit's decorator, which their class has, asks for one
    answers = [plain(await CALLS[name](layer)) for layer in (theirs, ours)]
    return set(differences(*answers))


@pytest.mark.parametrize("name", CALLS)
async def test_a_call_differs_only_where_the_docs_say_so(
    name: str, theirs: Any, ours: DatabaseManager
) -> None:
    found = await found_different(name, theirs, ours) - documented("Field")

    assert bool(found) == (name in documented("Call")), found


def test_every_call_of_the_docs_is_made_here() -> None:
    assert documented("Call") <= CALLS.keys()


async def test_every_field_of_the_docs_does_differ(theirs: Any, ours: DatabaseManager) -> None:
    step = await found_different("`showInput` and `generation`", theirs, ours)
    element = await found_different("create_element, get_element", theirs, ours)

    assert step | element == documented("Field")


def test_it_has_every_public_method_with_its_arguments(their_class: Any) -> None:
    public = [name for name in dir(their_class) if not name.startswith("_")]

    for name in public:
        assert name in dir(DatabaseManager), name
        method = getattr(their_class, name)
        if callable(method):
            expected = inspect.signature(method).parameters
            given = inspect.signature(getattr(DatabaseManager, name)).parameters
            assert list(given) == list(expected), name


def test_the_constructor_takes_the_same_arguments(their_class: Any) -> None:
    base = their_class.__mro__[2]
    expected = inspect.signature(base).parameters
    given = inspect.signature(SQLAlchemyDataLayer).parameters

    assert base.__name__ == "SQLAlchemyDataLayer"
    assert list(given)[: len(expected)] == list(expected)
    for name, parameter in expected.items():
        assert given[name].default == parameter.default


def plain(value: Any) -> Any:
    """An answer without what no two databases have in common: ids and times of their own."""
    if isinstance(value, PersistedUser):
        return {**asdict(value), "id": "an id", "createdAt": timeless(value.createdAt)}
    if isinstance(value, dict):
        result = {key: plain(item) for key, item in value.items()}
        if "steps" in value:
            result["createdAt"] = timeless(value["createdAt"])
            result["userId"] = value["userId"] and "an id"
        return result
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    assert not is_dataclass(value), value
    return value


def timeless(value: Any) -> Any:
    return "a time" if parse_time(value) else value


def differences(theirs: Any, ours: Any, place: str = "") -> Iterator[str]:
    """The places where two answers differ; the field of a step is ```step.name```."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        kind = next((kind for mark, kind in KINDS.items() if mark in theirs), place)
        for name in {**theirs, **ours}:
            if name not in theirs:
                yield f"other fields of {kind}s"
            elif name not in ours:
                yield f"`{kind}.{name}`"
            else:
                yield from differences(theirs[name], ours[name], f"`{kind}.{name}`")
    elif isinstance(theirs, list) and isinstance(ours, list) and len(theirs) == len(ours):
        for one, other in zip(theirs, ours, strict=True):
            yield from differences(one, other, f"{place}[]")
    elif theirs != ours:
        yield place
