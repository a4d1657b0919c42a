"""Who may import whom, read from the source: a pure core, a thin edge, one direction."""

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

# Every part of the package, lowest first. A part imports only from rows above its own.
LEVELS = (
    {"errors", "values", "recent", "ordering", "search"},
    {"config", "documents", "cursor"},
    {"codec", "pipelines", "driver", "server"},
    {"indexes", "retries", "schema", "views"},
    {"files", "part_items", "roles", "search_index", "users"},
    {"overflow"},
    {"large_values"},
    {"chatkit", "threads"},
    {"orphans"},
    {"chat", "elements", "erasure", "health", "retention", "search_coverage"}
    | {"statistics", "transfer"},
    {"data_layer"},
    {"__init__"},
    {"demo", "testing"},
    {"cli"},
)

# Data in, data out: neither a driver nor Chainlit is loaded with them.
PURE = (
    *("values", "recent", "ordering", "documents", "cursor", "codec", "pipelines", "search"),
    *("config", "search_index.words", "search_index.segments"),
)

# Where Chainlit is loaded. All other modules can be used without it.
IMPORT_CHAINLIT = {
    "chat",
    "data_layer",
    "files.client",
    "files.mount",
    "demo.app",
    "demo.samples",
    "testing.contract",
}

# Where ChatKit is loaded. It is an extra.
IMPORT_CHATKIT = {
    "chatkit.errors",
    "chatkit.payloads",
    "chatkit.store",
    "chatkit.uploads",
    "demo.chatkit_app",
    "testing.chatkit_contract",
}

# What talks to MongoDB, or names the driver's errors and types. `cli` explains them to people.
IMPORT_DRIVER = {
    "driver",
    "retries",
    "indexes",
    "schema",
    "overflow",
    "large_values",
    "search_coverage",
    "search_index.building",
    "threads.archive",
    "threads.conversations",
    "threads.heads",
    "threads.steps",
    "users",
    "health",
    "orphans",
    "data_layer",
    "chatkit.archive",
    "chatkit.attachments",
    "chatkit.threads",
    "files.bucket",
    "files.documents",
    "server.local",
    "erasure",
    "transfer.records",
    "cli.connection",
    "cli.failure",
}


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


def level(module: str) -> int:
    return next(number for number, parts in enumerate(LEVELS) if part(module) in parts)


def test_every_part_has_its_level() -> None:
    listed = [name for parts in LEVELS for name in parts]

    assert sorted(listed) == sorted({part(module) for module in MODULES})


@pytest.mark.parametrize("module", MODULES)
def test_lower_never_imports_higher(module: str) -> None:
    others = {other for other in own_imports(module) if part(other) != part(module)}

    wrong = {other for other in others if level(other) >= level(module)}
    assert not wrong, f"{module} imports {wrong}"


def test_no_module_imports_itself_by_a_detour() -> None:
    graph = {module: own_imports(module) - {module} for module in MODULES}

    assert set(TopologicalSorter(graph).static_order()) == set(MODULES)


def test_chainlit_is_imported_only_where_it_is_met() -> None:
    assert {module for module in MODULES if "chainlit" in packages(module)} == IMPORT_CHAINLIT


def test_chatkit_is_imported_only_where_it_is_met() -> None:
    """``chatkit`` is the other package here, ``mongo_datalayer.chatkit`` this one's part."""
    assert {module for module in MODULES if "chatkit" in packages(module)} == IMPORT_CHATKIT
    for module in sorted(name for name in MODULES if part(name) == "chatkit"):
        assert "chainlit" not in {name for other in loaded(module) for name in packages(other)}


@pytest.mark.parametrize(
    "module", ["erasure", "health", "orphans", "retention", "statistics", "transfer.incoming"]
)
def test_the_tools_need_no_chatkit(module: str) -> None:
    assert not loaded(module) & IMPORT_CHATKIT


def test_the_driver_is_imported_only_where_mongodb_is_met() -> None:
    assert {module for module in MODULES if packages(module) & DRIVERS} == IMPORT_DRIVER


@pytest.mark.parametrize("module", PURE)
def test_a_pure_module_loads_neither_driver_nor_chainlit(module: str) -> None:
    for other in loaded(module):
        assert not packages(other) & {*DRIVERS, "chainlit"}, f"{module} loads {other}"


@pytest.mark.parametrize("module", sorted(set(PURE) - {"ordering"}))
def test_a_pure_module_does_not_wait(module: str) -> None:
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))

    waits = [node for node in ast.walk(tree) if isinstance(node, (ast.AsyncFunctionDef, ast.Await))]
    assert not waits
    assert not packages(module) & {"asyncio", "threading", "socket", "subprocess"}


def test_collections_are_talked_to_by_one_module_each() -> None:
    """Above them nobody knows what a collection is."""
    for module in ("chat", "elements", "data_layer"):
        names = {item for name, item in imports(module) if name == f"{PACKAGE}.driver"}
        assert not names & {"open_collection", "aggregate", "Collection"}


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
