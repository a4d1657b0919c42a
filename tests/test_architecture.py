"""Which room may import which, read from the source: a pure core, a thin edge, one direction."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = "mongo_datalayer"
SOURCE = Path(__file__).parents[1] / PACKAGE
DRIVERS = frozenset({"pymongo", "bson", "gridfs", "motor", "mongomock", "mongomock_motor"})

# Each room with the rooms that it imports from. The picture is in docs/design/layout.md.
ROOMS: dict[str, set[str]] = {
    "errors": set(),
    "version": set(),
    "config": {"errors"},
    "model": {"errors", "config"},
    "mongodb": {"errors", "config", "model"},
    "schema": {"version", "errors", "config", "model", "mongodb"},
    "files": {"errors", "config", "model", "mongodb"},
    "search": {"model", "mongodb"},
    "monitoring": {"errors", "mongodb", "schema", "files"},
    "storage": {"errors", "config", "model", "mongodb", "files", "search"},
    "chainlit": {"errors", "config", "model", "mongodb", "schema", "files", "search", "storage"}
    | {"monitoring"},
    "chatkit": {"errors", "config", "model", "mongodb", "schema", "files", "storage"},
    "praisonai": {"errors", "config", "model", "mongodb", "chainlit"},
    "admin": {"errors", "config", "model", "mongodb", "schema", "files", "search", "storage"}
    | {"chainlit", "chatkit"},
    "console": {"errors", "config", "model", "mongodb", "schema", "files", "search", "storage"}
    | {"chainlit", "admin"},
    "migrate": {"errors", "config", "model", "mongodb", "files", "chainlit", "chatkit", "admin"},
    "cli": {"errors", "config", "model", "mongodb", "schema", "files", "search", "admin"}
    | {"chainlit", "console", "migrate", "demo", "testing", "__init__"},
    "testing": {"errors", "config", "files", "model", "chainlit", "chatkit", "__init__"},
    "demo": {"errors", "config", "files", "monitoring", "chatkit", "testing", "server", "__init__"},
    "server": {"testing"},
    "__init__": {"version", "errors", "files", "chainlit"},
}

# Data in, data out: neither a driver nor Chainlit is loaded with them.
PURE = (
    *("config", "errors", "version", "model.bson_values", "model.cursor", "model.documents"),
    "model.times",
    *("search.pattern", "search.ngrams", "search.segments", "chainlit.codec", "chainlit.queries"),
    "chainlit.updates",
)

# Rooms that may load Chainlit, ChatKit (an extra) and the driver. All others work without them.
LOADS_CHAINLIT = {"chainlit", "files", "monitoring", "demo", "testing", "praisonai"}
LOADS_CHATKIT = {"chatkit", "demo", "testing"}
LOADS_DRIVER = {"mongodb", "schema", "files", "search", "storage", "chainlit", "chatkit", "admin"}
# The commands explain the driver's errors to people.
LOADS_DRIVER |= {"console", "migrate", "monitoring", "cli", "testing"}


def module_of(path: Path) -> str:
    """``files.links`` for ``mongo_datalayer/files/links.py``; a package is its ``__init__``."""
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts)


MODULES = {module_of(path): path for path in sorted(SOURCE.rglob("*.py"))}


def imported(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Module and name of every import that is run, also those inside of functions."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            yield from imported(ast.Module(node.orelse, []))
        elif isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"a relative import: {ast.unparse(node)}"
            assert node.module is not None
            yield from ((node.module, alias.name) for alias in node.names)
        else:
            yield from imported(node)


@cache
def imports(module: str) -> frozenset[tuple[str, str]]:
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    return frozenset(imported(tree))


def packages(module: str) -> set[str]:
    """The top-level packages that the module imports."""
    return {name.partition(".")[0] for name, _ in imports(module)}


def own_imports(module: str) -> set[str]:
    """The modules of this package that the module imports."""
    found = set()
    for name, item in imports(module):
        if name != PACKAGE and not name.startswith(f"{PACKAGE}."):
            continue
        inside = name.removeprefix(PACKAGE).removeprefix(".")
        places = ((inside, item), (inside, item, "__init__"), (inside,), (inside, "__init__"))
        candidates = (".".join(filter(None, place)) for place in places)
        found.add(next(candidate for candidate in candidates if candidate in MODULES))
    return found


def loaded(module: str) -> set[str]:
    """The module and everything of this package that is loaded with it."""
    found: set[str] = set()
    waiting = {module}
    while waiting:
        found |= waiting
        waiting = {other for seen in waiting for other in own_imports(seen)} - found
    return found


def part(module: str) -> str:
    return module.partition(".")[0]


def test_every_room_has_its_row() -> None:
    assert set(ROOMS) == {part(module) for module in MODULES}


def test_the_rows_have_no_circle() -> None:
    TopologicalSorter(ROOMS).prepare()


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_from_the_rooms_of_its_row(module: str) -> None:
    others = {part(other) for other in own_imports(module)} - {part(module)}

    assert others <= ROOMS[part(module)]


def test_the_two_fronts_never_meet_and_do_not_know_the_tools() -> None:
    for front, other in (("chainlit", "chatkit"), ("chatkit", "chainlit")):
        for module in (name for name in MODULES if part(name) == front):
            assert not {part(each) for each in loaded(module)} & {other, "admin", "cli"}, module


def test_no_module_imports_itself_by_a_detour() -> None:
    graph = {module: own_imports(module) - {module} for module in MODULES}

    assert set(TopologicalSorter(graph).static_order()) == set(MODULES)


@pytest.mark.parametrize("module", MODULES)
def test_chainlit_chatkit_and_the_driver_are_loaded_only_where_they_are_met(module: str) -> None:
    """``chatkit`` is the other package here, ``mongo_datalayer.chatkit`` this one's room."""
    for package, rooms in (
        ({"chainlit"}, LOADS_CHAINLIT),
        ({"chatkit"}, LOADS_CHATKIT),
        (DRIVERS, LOADS_DRIVER),
    ):
        assert part(module) in rooms or not packages(module) & package


@pytest.mark.parametrize("room", ["admin", "cli"])
def test_the_tools_need_neither_chainlit_nor_chatkit(room: str) -> None:
    for module in (name for name in MODULES if part(name) == room):
        for other in loaded(module):
            assert not packages(other) & {"chatkit", "chainlit"}, f"{module} loads {other}"


@pytest.mark.parametrize("module", PURE)
def test_a_pure_module_loads_neither_driver_nor_chainlit(module: str) -> None:
    for other in loaded(module):
        assert not packages(other) & {*DRIVERS, "chainlit"}, f"{module} loads {other}"


@pytest.mark.parametrize("module", PURE)
def test_a_pure_module_does_not_wait(module: str) -> None:
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))

    waits = [node for node in ast.walk(tree) if isinstance(node, (ast.AsyncFunctionDef, ast.Await))]
    assert not waits
    assert not packages(module) & {"asyncio", "threading", "socket", "subprocess"}


def test_the_reading_of_imports_sees_all_kinds() -> None:
    source = """
import os.path as p
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    import chainlit
else:
    import bson
def f():
    from pymongo import errors
try:
    import motor
except ImportError:
    pass
"""
    names = {name for name, _ in imported(ast.parse(source))}

    assert names == {"os.path", "typing", "bson", "pymongo", "motor"}
