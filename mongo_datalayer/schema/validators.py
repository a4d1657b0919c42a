"""The collections' validators: ``$jsonSchema`` made from the models of the stored documents.

They refuse what this package could not read, and accept everything it writes. Unknown fields are
legal, a field may be missing or null where the model says so, and a field that the layer stores as
it was given has no type.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from typing import Any, Literal, TypeAlias

from bson.dbref import DBRef
from bson.int64 import Int64

from mongo_datalayer.model import documents
from mongo_datalayer.model.documents import Document, Stored
from mongo_datalayer.mongodb.client import Database, open_collection
from mongo_datalayer.schema.plan import (
    MADE_BY,
    SchemaObject,
    State,
    apply_plan,
    compare,
    list_collections,
)

Action: TypeAlias = Literal["warn", "error"]

MODELS: Mapping[str, type[Stored]] = {
    documents.USERS: documents.UserDocument,
    documents.THREADS: documents.ThreadDocument,
    documents.OVERFLOW: documents.OverflowDocument,
    documents.CHATKIT_THREADS: documents.ChatKitThreadDocument,
    documents.CHATKIT_OVERFLOW: documents.ChatKitOverflowDocument,
    documents.CHATKIT_ATTACHMENTS: documents.ChatKitAttachmentDocument,
    documents.PRAISONAI_SETTINGS: documents.SettingDocument,
}
"""The collections that have a validator, each with the model of its documents."""

AS_GIVEN: Mapping[type[Stored], frozenset[str]] = {
    documents.StepDocument: frozenset(documents.StepDocument.model_fields)
    - {"id", "parentId", "input", "output", "metadata", "receivedAt", "feedback"},
    documents.ElementDocument: frozenset(documents.ElementDocument.model_fields) - {"id"},
    documents.ThreadDocument: frozenset({"tags"}),
}
"""Fields that hold what an app gave, of any type: refusing a value would lose the whole step."""

LEVEL = "moderate"
"""A document that did not fit before may still be changed; only what fits must go on to fit."""

FAULTS_TOLD = 3
"""How many reasons are told of a document that does not fit."""

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
# MongoDB's $jsonSchema has no constants; the type is enough for a field that may be missing too.
_LEFT_OUT = frozenset(
    {"title", "default", "description", "additionalProperties", "format", "const"}
)


@dataclass(frozen=True)
class Validator(SchemaObject):
    """The validator of a collection and its state in one database.

    Attributes:
        collection: Name of the collection.
        state: Whether it has the validator of this version.
        action: What the server does with a document that does not fit; None without a validator.
        wanted: What it should do; None keeps what it does, or warns where there is no validator.
        exists: Whether the collection exists.
    """

    collection: str
    state: State
    action: str | None = None
    wanted: Action | None = None
    exists: bool = True

    def changes(self, *, replace: bool = False) -> bool:
        """Whether applying changes it: the action counts too."""
        acts_otherwise = self.wanted is not None and self.wanted != self.action
        return super().changes(replace=replace) or (self.state == "present" and acts_otherwise)

    @classmethod
    async def apply(cls, database: Database, objects: Sequence[Validator]) -> list[Validator]:
        """Set the validators, making collections that are missing."""
        applied = []
        for item in objects:
            # create refuses a collection that is there, and collMod one that is missing.
            command = "collMod" if item.exists else "create"
            action = item.wanted or item.action or "warn"
            validation = _validation(item.collection, action)
            await database.command({command: item.collection, **validation})
            applied.append(replace(item, state="set", action=action, exists=True))
        return applied


@dataclass(frozen=True)
class Misfit:
    """A document that does not fit: its id, and the first of the reasons."""

    id: Any
    faults: tuple[str, ...]


# The schema -----------------------------------------------------------------------------------


def collection_schema(collection: str) -> Document:
    """The ``$jsonSchema`` of a collection of :data:`MODELS`; its title names this package. Pure."""
    model = MODELS[collection]
    source = model.model_json_schema(by_alias=True)
    models = {**source.pop("$defs", {}), model.__name__: source}
    for kind, names in AS_GIVEN.items():
        for name in names & models.get(kind.__name__, {}).get("properties", {}).keys():
            # An empty schema fits every value.
            models[kind.__name__]["properties"][name] = {}
    return {"title": f"{MADE_BY}{collection}", **_bson_schema(source, models)}


def _bson_schema(node: Mapping[str, Any], models: Mapping[str, Any]) -> Document:
    """A node of pydantic's JSON schema as MongoDB writes it, with BSON's types."""
    if "$ref" in node:
        return _bson_schema(models[node["$ref"].rpartition("/")[2]], models)
    if "anyOf" in node:
        return _merged([_bson_schema(choice, models) for choice in node["anyOf"]])
    schema: Document = {}
    for word, value in node.items():
        if word == "type":
            is_date = value == "string" and node.get("format") == "date-time"
            schema["bsonType"] = ["date"] if is_date else _BSON_TYPES[value]
        elif word == "properties":
            fields = {name: _bson_schema(field, models) for name, field in value.items()}
            schema["properties"] = {name: field for name, field in fields.items() if field}
        elif word == "items":
            schema["items"] = _bson_schema(value, models)
        elif word not in _LEFT_OUT:
            schema[word] = value
    return schema


def _merged(choices: list[Document]) -> Document:
    """One schema for a value of several types.

    Merging is sound because each other word applies to one type: objects have properties, arrays
    have items.
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
    # The driver writes an int of 32 bits where that is enough, and reads a long as Int64.
    if isinstance(value, int) and not isinstance(value, bool):
        return "long" if isinstance(value, Int64) or abs(value) >= 2**31 else "int"
    return _PYTHON_TYPES.get(type(value), type(value).__name__)


# Validators -----------------------------------------------------------------------------------


async def check_validators(database: Database, wanted: Action | None = None) -> list[Validator]:
    """Compare the declared validators with those of ``database``; changes nothing. One command."""
    listed = await list_collections(database, MODELS)
    return [_compared(name, listed.get(name), wanted) for name in MODELS]


async def apply_validators(
    database: Database, action: Action, *, replace: bool = False, dry_run: bool = False
) -> list[Validator]:
    """Set the declared validators, making collections that are missing.

    Args:
        database: The database.
        action: ``error`` refuses a write that does not fit, ``warn`` only logs it on the server.
        replace: As in :func:`apply_plan`.
        dry_run: As in :func:`apply_plan`.
    """
    validators = await check_validators(database, action)
    return await apply_plan(database, validators, replace=replace, dry_run=dry_run)


async def find_misfits(database: Database, collection: str) -> AsyncIterator[Misfit]:
    """The documents of ``collection`` that do not fit its schema; the server reads all of them."""
    schema = collection_schema(collection)
    misfits = {"$nor": [{"$jsonSchema": schema}]}
    async for document in open_collection(database, collection).find(misfits):
        yield Misfit(document["_id"], tuple(islice(faults(schema, document), FAULTS_TOLD)))


def _validation(collection: str, action: str | None) -> Document:
    return {
        "validator": {"$jsonSchema": collection_schema(collection)},
        "validationLevel": LEVEL,
        "validationAction": action,
    }


def _compared(collection: str, listed: Document | None, wanted: Action | None) -> Validator:
    options = {} if listed is None else listed.get("options", {})
    validator = options.get("validator")
    if not validator:
        return Validator(collection, "missing", wanted=wanted, exists=listed is not None)
    # A validator that somebody made without an action refuses: that is MongoDB's default.
    action = options.get("validationAction", "error")
    declared = _validation(collection, action)
    present = {option: options.get(option) for option in declared}
    mark = validator.get("$jsonSchema", {}).get("title", "")
    return Validator(collection, compare(declared, present, mark), action, wanted)
