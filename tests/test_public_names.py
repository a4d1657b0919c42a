"""The public names: all of the API on one screen."""

from __future__ import annotations

import inspect
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from chainlit.data.base import BaseDataLayer

import mongo_datalayer
from mongo_datalayer import MongoDataLayer

PUBLIC = {
    "mongo_datalayer": [
        "ConfigurationError",
        "GridFSStorageClient",
        "InvalidCursorError",
        "MongoDataLayer",
        "MongoDataLayerError",
        "NotFoundError",
        "SearchTimeoutError",
        "StorageError",
    ],
    "mongo_datalayer.chatkit": [
        "AlreadyExistsError",
        "MissingError",
        "MongoChatKitStore",
        "UploadRefusedError",
        "chatkit_routes",
        "mount_chatkit",
    ],
    "mongo_datalayer.files": [
        "FileBucket",
        "FileLinks",
        "GridFSStorageClient",
        "StoredFile",
        "files_route",
        "mount_files",
    ],
    "mongo_datalayer.praisonai": ["DatabaseManager", "SQLAlchemyDataLayer"],
    "mongo_datalayer.server": ["LocalServer", "find_mongod"],
}
LIGHT = (
    "mongo_datalayer",
    "mongo_datalayer.files",
    "mongo_datalayer.chatkit",
    "mongo_datalayer.cli",
    "mongo_datalayer.server",
    "mongo_datalayer.schema.indexes",
    "mongo_datalayer.errors",
)


@pytest.mark.parametrize("module", PUBLIC)
def test_the_public_names_are_these(module: str) -> None:
    names = import_module(module).__all__

    assert names == PUBLIC[module]
    assert names == sorted(names)


@pytest.mark.parametrize(
    ("module", "name"), [(module, name) for module, names in PUBLIC.items() for name in names]
)
def test_every_public_name_can_be_imported_and_says_what_it_is(module: str, name: str) -> None:
    value = getattr(import_module(module), name)

    assert name in dir(import_module(module))
    assert value.__doc__


def test_other_names_do_not_exist() -> None:
    with pytest.raises(AttributeError, match="no attribute 'MongoLayer'"):
        mongo_datalayer.MongoLayer  # noqa: B018 - looking it up is the test


def test_every_error_is_one_of_ours_and_says_so() -> None:
    errors = import_module("mongo_datalayer.errors")
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]

    assert all(issubclass(kind, mongo_datalayer.MongoDataLayerError) for kind in kinds)
    for kind in kinds:
        assert kind.__name__ in str(errors.__doc__)


def imported_by(statement: str) -> set[str]:
    """The packages that a fresh interpreter has loaded after ``statement``."""
    program = f"{statement}\nimport sys\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        cwd=Path(__file__).parents[1],
    )
    return set(done.stdout.split())


@pytest.mark.parametrize("module", LIGHT)
def test_importing_does_not_import_chainlit(module: str) -> None:
    assert "chainlit" not in imported_by(f"import {module}")


def test_importing_the_package_alone_imports_no_driver_either() -> None:
    assert not imported_by("import mongo_datalayer") & {"chainlit", "pymongo", "bson", "pydantic"}


def test_the_layer_takes_the_arguments_that_chainlit_names() -> None:
    """Chainlit passes its arguments by keyword."""
    for name, method in inspect.getmembers(BaseDataLayer, inspect.isfunction):
        expected = inspect.signature(method).parameters
        given = inspect.signature(getattr(MongoDataLayer, name)).parameters
        assert list(given) == list(expected), name
        owner = next(base for base in MongoDataLayer.__mro__ if name in vars(base))
        assert owner is not BaseDataLayer, f"{name} is Chainlit's own"
