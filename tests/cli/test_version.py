"""The version of the schema that a database has, beside this package's."""

from __future__ import annotations

import json

from mongo_datalayer.model.documents import META, SCHEMA_ID
from mongo_datalayer.schema.indexes import apply_indexes
from mongo_datalayer.schema.version import check_version
from mongo_datalayer.version import SCHEMA_VERSION, VERSION
from tests.cli.commands import Done, run
from tests.cli.people import Documents, snapshot


def checked(done: Done) -> dict[str, str]:
    """The doctor's row on the version."""
    rows: list[dict[str, str]] = json.loads(done.out)
    return next(row for row in rows if row["check"] == "schema version")


async def put_version(database: Documents, version: int, package: str) -> None:
    record = {"version": version, "package": package}
    await database[META].update_one({"_id": SCHEMA_ID}, {"$set": record}, upsert=True)


async def test_setup_records_the_version(where: tuple[str, ...], database: Documents) -> None:
    before = await run("doctor", "--json", *where)
    dry = await run("setup", "apply", "--dry-run", *where)
    unchanged = await check_version(database)
    await run("setup", "apply", *where)
    after = await run("doctor", "--json", *where)
    check = await run("setup", "check", *where)

    assert checked(before)["finding"].startswith("not recorded")
    assert "schema" in dry.out
    assert unchanged.state == "missing"
    assert checked(after)["state"] == "ok"
    assert (check.code, check.err) == (0, "")
    stored = await database[META].find_one({"_id": SCHEMA_ID})
    assert stored is not None
    assert (stored["version"], stored["package"]) == (SCHEMA_VERSION, VERSION)


async def test_a_database_without_a_record_is_as_good(
    where: tuple[str, ...], database: Documents
) -> None:
    await apply_indexes(database)

    check = await run("setup", "check", *where)

    assert (check.code, check.err) == (0, "")
    assert "version     schema" in check.out


async def test_an_older_database_is_brought_to_this_version(
    where: tuple[str, ...], database: Documents
) -> None:
    await run("setup", "apply", *where)
    await put_version(database, SCHEMA_VERSION - 1, "0.0.9")

    before = await run("setup", "check", *where)
    warned = await run("doctor", "--json", *where)
    applied = await run("setup", "apply", *where)

    assert (before.code, before.err) == (1, "Run `mongo-datalayer setup apply`.\n")
    assert checked(warned)["state"] == "warning"
    assert "set up by mongo_datalayer 0.0.9" in checked(warned)["finding"]
    assert applied.code == 0
    assert (await check_version(database)).state == "present"


async def test_a_newer_database_is_left_alone(where: tuple[str, ...], database: Documents) -> None:
    await put_version(database, SCHEMA_VERSION + 1, "9.9")
    before = await snapshot(database)

    check = await run("setup", "check", "--only", "views", *where)
    applied = await run("setup", "apply", "--only", "views", *where)
    doctor = await run("doctor", "--json", *where)

    for done in (check, applied):
        assert done.code == 1
        assert "9.9" in done.err
        assert "Upgrade mongo_datalayer." in done.err
    assert (checked(doctor)["state"], doctor.code) == ("problem", 1)
    assert await snapshot(database) == before
