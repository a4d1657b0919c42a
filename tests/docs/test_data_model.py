"""The documents on the pages are what the code stores, and every field is described."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from bson import json_util
from pydantic import BaseModel

from mongo_datalayer.chainlit.codec import read_thread
from mongo_datalayer.model import bson_values as values
from mongo_datalayer.model.documents import LargeValue, OverflowDocument, Stored, ThreadDocument
from mongo_datalayer.schema.indexes import DECLARED, SEARCH
from mongo_datalayer.search.segments import SegmentBuilder
from mongo_datalayer.storage.large_values import is_value_key
from tests.docs.pages import DOCS, README, code_blocks, table_rows

DATA_MODEL = DOCS / "data-model.md"
CHATKIT = DOCS / "chatkit.md"
DOCUMENTS = [*code_blocks(README, "json"), *code_blocks(DATA_MODEL, "json")]


SHOWN = ["README", "a thread", "a main document", "an overflow document"]


def test_every_kind_of_document_is_shown() -> None:
    assert len(DOCUMENTS) == len(SHOWN)
    stored = [_stored(text) for text in DOCUMENTS]
    assert ["overflowIds" in document for document in stored] == [False, False, True, False]
    assert stored[3]["_id"] in stored[2]["overflowIds"]
    assert stored[3]["thread"] == stored[2]["_id"]


@pytest.mark.parametrize("text", DOCUMENTS, ids=SHOWN)
def test_a_shown_document_is_one_the_code_knows(text: str) -> None:
    stored = _stored(text)
    model = OverflowDocument if "thread" in stored else ThreadDocument
    shown = model.model_validate(stored)

    assert [model for model in _models(shown) if model.model_extra] == []
    assert shown.steps


def test_a_large_value_is_shown_as_its_reference() -> None:
    head = ThreadDocument.model_validate(_stored(DOCUMENTS[2]))
    assert head.steps
    (step,) = head.steps

    assert isinstance(step.output, LargeValue)
    assert is_value_key(step.output.gridfs)


@pytest.mark.parametrize("text", DOCUMENTS[:3], ids=SHOWN[:3])
def test_a_shown_document_is_in_the_order_it_is_read_in(text: str) -> None:
    stored = _stored(text)
    shown = [step["id"] for step in stored["steps"]]

    assert [step["id"] for step in read_thread(stored)["steps"]] == shown
    assert stored["updatedAt"] >= stored["createdAt"]


def _stored(text: str) -> dict[str, Any]:
    stored: dict[str, Any] = json_util.loads(text)
    return stored


def _models(model: BaseModel) -> Iterator[BaseModel]:
    yield model
    for _, value in model:
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, BaseModel):
                yield from _models(item)


def _described() -> set[str]:
    return {
        name
        for page in (DATA_MODEL, CHATKIT)
        for cells in table_rows(page)
        for name in re.findall(r"`([^`]+)`", cells[0])
    }


def test_every_field_of_a_segment_is_described() -> None:
    builder = SegmentBuilder(1)
    builder.add(0, {"name": "some words"})
    pages = list(builder.pages())

    assert {name for document in (builder.header(), *pages) for name in document} <= _described()


def test_every_field_of_every_document_is_described() -> None:
    described = _described()

    for model in Stored.__subclasses__():
        fields = {field.alias or name for name, field in model.model_fields.items()}
        if model.__name__ not in {"DeletedItem", "SessionState"}:  # described in the text
            assert fields <= described, model.__name__


def test_every_index_is_described_with_its_keys() -> None:
    rows = {
        cells[0].strip("`"): cells[1]
        for page in (DATA_MODEL, CHATKIT)
        for cells in table_rows(page)
    }

    for index in (*DECLARED, *SEARCH):
        keys = ", ".join(f"{name}: {direction}" for name, direction in index.keys)
        assert rows[str(index)].startswith(f"`{keys}`")
        for option, word in {"unique": "unique", "sparse": "sparse"}.items():
            assert (word in rows[str(index)]) == bool(index.options.get(option)), str(index)


def test_the_table_of_values_is_that_of_the_code() -> None:
    shown = [tuple(cells) for cells in table_rows(DATA_MODEL)]
    rows = list(_value_rows())

    assert len(rows) > 10
    assert set(rows) <= set(shown)


def _value_rows() -> Iterator[tuple[str, str]]:
    """The rows of the table in the docstring of the module; a long cell goes on below."""
    table = (values.__doc__ or "").split("=\n")[2].split("\n===")[0]
    value = form = ""
    for line in table.splitlines():
        left, right = line[:32].strip(), line[32:].strip().replace("``", "`")
        if left and value:
            yield value, form
        value, form = (left, right) if left else (value, f"{form} {right}")
    yield value, form
