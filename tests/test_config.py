from __future__ import annotations

import os
from pathlib import Path

import pytest

from mongo_datalayer import ConfigurationError, MongoDataLayer
from mongo_datalayer.config import DEFAULT_LINK_SECONDS, DEFAULT_TIMEOUT_MS, Settings


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("MONGODB_", "MONGO_DATALAYER_")):
            monkeypatch.delenv(name)


def test_the_defaults() -> None:
    settings = Settings.load()

    assert settings.uri is None
    assert settings.database is None
    assert settings.timeout_ms == DEFAULT_TIMEOUT_MS == 20_000
    assert settings.files_secret is None
    assert settings.files_link_seconds == DEFAULT_LINK_SECONDS


def test_every_variable_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MONGODB_URI", " mongodb://somewhere ")
    monkeypatch.setenv("MONGODB_DATABASE", "talks")
    monkeypatch.setenv("MONGO_DATALAYER_TIMEOUT_MS", "5000")
    monkeypatch.setenv("MONGO_DATALAYER_FILES_SECRET", "very secret")
    monkeypatch.setenv("MONGO_DATALAYER_UNKNOWN", "ignored")

    settings = Settings.load()

    assert settings.require_uri() == "mongodb://somewhere"
    assert settings.database == "talks"
    assert settings.timeout_ms == 5000
    assert "very secret" not in repr(settings)


def test_names_without_the_prefix_are_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIMEOUT_MS", "1")
    monkeypatch.setenv("DATABASE", "other")
    monkeypatch.setenv("URI", "mongodb://other")

    assert Settings.load() == Settings()
    assert Settings.load().uri is None
    assert Settings.load().timeout_ms == DEFAULT_TIMEOUT_MS


@pytest.mark.parametrize("value", [None, "", "  "])
def test_from_env_without_a_uri_says_exactly_what_to_set(
    monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    if value is not None:
        monkeypatch.setenv("MONGODB_URI", value)

    with pytest.raises(
        ConfigurationError,
        match=r"MONGODB_URI is not set\. .*MONGODB_URI=mongodb://localhost:27017",
    ):
        MongoDataLayer.from_env()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("MONGO_DATALAYER_TIMEOUT_MS", "soon"),
        ("MONGO_DATALAYER_TIMEOUT_MS", "0"),
        ("MONGO_DATALAYER_TIMEOUT_MS", "-5"),
        ("MONGO_DATALAYER_FILES_LINK_SECONDS", "0"),
    ],
)
def test_a_bad_value_names_its_variable(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv("MONGODB_URI", "mongodb://localhost")
    monkeypatch.setenv(variable, value)

    with pytest.raises(ConfigurationError, match=f"{variable}='{value}'"):
        MongoDataLayer.from_env()


def test_two_bad_values_are_both_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MONGO_DATALAYER_TIMEOUT_MS", "soon")
    monkeypatch.setenv("MONGO_DATALAYER_FILES_LINK_SECONDS", "later")

    with pytest.raises(ConfigurationError, match=r"(?s)TIMEOUT_MS='soon'.*LINK_SECONDS='later'"):
        Settings.load()


async def test_arguments_win_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MONGODB_URI", "mongodb://localhost:1")
    monkeypatch.setenv("MONGODB_DATABASE", "bad name")

    layer = MongoDataLayer.from_env(database="good")
    await layer.close()

    with pytest.raises(ConfigurationError, match="bad name"):
        MongoDataLayer.from_env()


@pytest.mark.parametrize("given", [{}, {"uri": "mongodb://localhost", "client": object()}])
def test_a_layer_takes_a_uri_or_a_client(given: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError, match="exactly one"):
        MongoDataLayer(**given)  # type: ignore[arg-type]  # wrong on purpose


def test_an_unknown_order_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="'creation', not 'name'"):
        MongoDataLayer("mongodb://localhost", order_by="name")  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.parametrize("value", ["", "  "])
def test_a_blank_variable_is_not_set(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    for name, field in Settings.model_fields.items():
        monkeypatch.setenv(str(field.validation_alias or f"MONGO_DATALAYER_{name}".upper()), value)

    assert Settings.load().files_secret is None
    assert Settings.load().files_url is None
    assert Settings.load().timeout_ms == DEFAULT_TIMEOUT_MS


def test_a_file_has_variables_and_the_environment_wins(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "variables"
    file.write_text("MONGODB_URI='mongodb://file'\nMONGODB_DATABASE=talks\nOTHER=ignored\n")
    monkeypatch.setenv("MONGODB_DATABASE", "mine")

    assert Settings.load(str(file)).uri == "mongodb://file"
    assert Settings.load(str(file)).database == "mine"
    assert Settings.load(str(tmp_path / "missing")).uri is None
    assert Settings.load().uri is None


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    file = tmp_path / "variables"
    file.write_bytes(b"MONGODB_URI=\xff\xfe")

    with pytest.raises(ConfigurationError, match=r"variables cannot be read"):
        Settings.load(str(file))
