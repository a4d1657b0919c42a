"""The collections' validators: ``$jsonSchema`` made from the models of the stored documents.

They refuse what this package could not read, and nothing that it writes: fields that no model
knows are legal, a field may be missing or null where the model says so, and a field whose value the
layer keeps as it was given has no type.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any, Literal, TypeAlias

from bson.dbref import DBRef
from bson.int64 import Int64

from mongo_datalayer.documents import (
    CHATKIT_ATTACHMENTS,
    CHATKIT_OVERFLOW,
    CHATKIT_THREADS,
    OVERFLOW,
    THREADS,
    USERS,
    ChatKitAttachmentDocument,
    ChatKitOverflowDocument,
    ChatKitThreadDocument,
    Document,
    ElementDocument,
    OverflowDocument,
    StepDocument,
    Stored,
    ThreadDocument,
    UserDocument,
)
from mongo_datalayer.driver import Database, open_collection

Action: TypeAlias = Literal["warn", "error"]
State: TypeAlias = Literal["present", "missing", "outdated", "foreign", "set"]

MODELS: Mapping[str, type[Stored]] = {
    USERS: UserDocument,
    THREADS: ThreadDocument,
    OVERFLOW: OverflowDocument,
    CHATKIT_THREADS: ChatKitThreadDocument,
    CHATKIT_OVERFLOW: ChatKitOverflowDocument,
    CHATKIT_ATTACHMENTS: ChatKitAttachmentDocument,
}
"""The collections that have a validator, each with the model of its documents."""

AS_GIVEN: Mapping[type[Stored], frozenset[str]] = {
    StepDocument: frozenset(StepDocument.model_fields)
    - {"id", "parentId", "input", "output", "metadata", "receivedAt", "feedback"},
    ElementDocument: frozenset(ElementDocument.model_fields) - {"id"},
    ThreadDocument: frozenset({"tags"}),
}
"""Fields that hold what an app gave, of any type: refusing a value would lose the whole step."""

LEVEL = "moderate"
"""A document that did not fit before may still be changed; only what fits must go on to fit."""

FAULTS_TOLD = 3
"""How many reasons are told of a document that does not fit."""

_TITLE = "mongo_datalayer: "
_BSON_TYPES: Mapping[str, list[str]] = {
    "string": ["string"],
    "integer": ["int", "long"],
    "number": ["double", "int", "long", "decimal"],
    "boolean": ["bool"],
    "array": ["array"],
    "object": ["object"],
    "null": ["null"],
}
_PYTHON_TYPES: Mapping[type, str] = {
    str: "string",
    bool: "bool",
    float: "double",
    dict: "object",
    DBRef: "object",  # what the driver makes of a map with $ref and $id
    list: "array",
    datetime: "date",
    type(None): "null",
}
# MongoDB knows no constants: of one that may be missing too, its type says enough.
_LEFT_OUT = frozenset(
    {"title", "default", "description", "additionalProperties", "format", "const"}
)


@dataclass(frozen=True)
class Validator:
    """What a collection's validator is, compared with the declared one.

    Attributes:
        collection: Name of the collection.
        state: ``present`` as declared; ``missing``; ``outdated``, made by another version of this
            package; ``foreign``, made by somebody else; ``set`` just now.
        action: What the server does with a document that does not fit; None without a validator.
    """

    collection: str
    state: State
    action: str | None = None

    def stays(self, action: Action, *, replace_foreign: bool) -> bool:
        """Whether :func:`apply_validators` leaves it as it is."""
        if self.state == "foreign":
            return not replace_foreign
        return self.state == "present" and self.action == action


@dataclass(frozen=True)
class Misfit:
    """A document that does not fit: its id, and the first of the reasons."""

    id: Any
    faults: tuple[str, ...]


# The schema -----------------------------------------------------------------------------------


def collection_schema(collection: str) -> Document:
    """The ``$jsonSchema`` of a collection of :data:`MODELS`. Pure.

    Its title says that this package made it.
    """
    model = MODELS[collection]
    source = model.model_json_schema(by_alias=True)
    parts = {**source.pop("$defs", {}), model.__name__: source}
    for kind, names in AS_GIVEN.items():
        for name in names & parts.get(kind.__name__, {}).get("properties", {}).keys():
            parts[kind.__name__]["properties"][name] = {}
    return {"title": f"{_TITLE}{collection}", **_bson_schema(source, parts)}


def _bson_schema(node: Mapping[str, Any], parts: Mapping[str, Any]) -> Document:
    """A node of pydantic's JSON schema in MongoDB's words, which knows BSON's own types."""
    if "$ref" in node:
        return _bson_schema(parts[node["$ref"].rpartition("/")[2]], parts)
    if "anyOf" in node:
        return _merged([_bson_schema(choice, parts) for choice in node["anyOf"]])
    schema: Document = {}
    for word, value in node.items():
        if word == "type":
            is_date = value == "string" and node.get("format") == "date-time"
            schema["bsonType"] = ["date"] if is_date else _BSON_TYPES[value]
        elif word == "properties":
            fields = {name: _bson_schema(field, parts) for name, field in value.items()}
            schema["properties"] = {name: field for name, field in fields.items() if field}
        elif word == "items":
            schema["items"] = _bson_schema(value, parts)
        elif word not in _LEFT_OUT:
            schema[word] = value
    return schema


def _merged(choices: list[Document]) -> Document:
    """One schema for a value that may be of several types.

    The words beside the type speak of one type only: objects have properties, arrays have items.
    """
    types = [name for choice in choices for name in choice["bsonType"]]
    others = [word for choice in choices for word in choice if word != "bsonType"]
    if len(others) != len(set(others)) or "enum" in others:
        raise NotImplementedError(f"These choices need anyOf: {choices}")
    return {**{k: v for choice in choices for k, v in choice.items()}, "bsonType": types}


def faults(schema: Mapping[str, Any], value: Any, place: str = "") -> Iterator[str]:
    """Why a value does not fit a schema of :func:`collection_schema`, one text for each place.

    The server only says that a document does not fit.
    """
    wanted = schema.get("bsonType")
    if wanted is not None and _bson_type(value) not in wanted:
        yield f"{place}: {_bson_type(value)} instead of {' or '.join(wanted)}"
    elif "enum" in schema and value not in schema["enum"]:
        yield f"{place}: {value!r} instead of {' or '.join(map(repr, schema['enum']))}"
    elif isinstance(value, dict):
        inside = f"{place}." if place else ""
        yield from (
            f"{inside}{name}: missing" for name in schema.get("required", ()) if name not in value
        )
        for name, field in schema.get("properties", {}).items():
            if name in value:
                yield from faults(field, value[name], f"{inside}{name}")
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from faults(schema.get("items", {}), item, f"{place}.{number}")


def _bson_type(value: Any) -> str:
    """MongoDB's name of a value's type, as far as the schemas tell types apart."""
    if isinstance(value, int) and not isinstance(value, bool):
        return "long" if isinstance(value, Int64) or abs(value) >= 2**31 else "int"
    return _PYTHON_TYPES.get(type(value), type(value).__name__)


# Validators -----------------------------------------------------------------------------------


async def check_validators(database: Database) -> list[Validator]:
    """Compare the declared validators with those of ``database``; changes nothing. One command."""
    options = await _collection_options(database)
    return [_compared(name, options.get(name, {})) for name in MODELS]


async def apply_validators(
    database: Database, action: Action, *, replace_foreign: bool = False
) -> list[Validator]:
    """Set the declared validators, making collections that are missing; safe to repeat.

    A validator that somebody else made is left alone unless ``replace_foreign`` is set.

    Args:
        database: The database.
        action: ``error`` refuses a write that does not fit, ``warn`` only logs it on the server.
        replace_foreign: Replace validators that this package did not make.
    """
    options = await _collection_options(database)
    after = []
    for name in MODELS:
        before = _compared(name, options.get(name, {}))
        if before.stays(action, replace_foreign=replace_foreign):
            after.append(before)
            continue
        command = "collMod" if name in options else "create"
        await database.command({command: name, **_validation(name, action)})
        after.append(Validator(name, "set", action))
    return after


async def find_misfits(database: Database, collection: str) -> AsyncIterator[Misfit]:
    """The documents of ``collection`` that do not fit its schema; the server reads all of them."""
    schema = collection_schema(collection)
    condition = {"$nor": [{"$jsonSchema": schema}]}
    async for document in open_collection(database, collection).find(condition):
        yield Misfit(document["_id"], tuple(islice(faults(schema, document), FAULTS_TOLD)))


async def _collection_options(database: Database) -> dict[str, Document]:
    cursor = await database.list_collections(filter={"name": {"$in": list(MODELS)}})
    return {listed["name"]: listed.get("options", {}) async for listed in cursor}


def _validation(collection: str, action: Action) -> Document:
    return {
        "validator": {"$jsonSchema": collection_schema(collection)},
        "validationLevel": LEVEL,
        "validationAction": action,
    }


def _compared(collection: str, options: Mapping[str, Any]) -> Validator:
    validator = options.get("validator")
    if not validator:
        return Validator(collection, "missing")
    action = options.get("validationAction", "error")
    declared = _validation(collection, action)
    if all(options.get(word) == value for word, value in declared.items()):
        return Validator(collection, "present", action)
    title = validator.get("$jsonSchema", {}).get("title", "")
    return Validator(collection, "outdated" if title.startswith(_TITLE) else "foreign", action)
