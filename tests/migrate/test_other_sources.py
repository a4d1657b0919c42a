"""Literal AI's JSON and the table of Chainlit's DynamoDB layer."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from chainlit.context import init_http_context
from chainlit.data.dynamodb import DynamoDBDataLayer
from chainlit.types import Feedback
from chainlit.user import User
from literalai.observability.step import Attachment, Score, Step
from literalai.observability.thread import Thread
from moto.server import ThreadedMotoServer
from pymongo.asynchronous.database import AsyncDatabase

from mongo_datalayer import MongoDataLayer, migrate
from mongo_datalayer.errors import ConfigurationError, SourceError
from mongo_datalayer.migrate.dynamodb import plain
from mongo_datalayer.migrate.literalai import json_values
from tests.migrate.sources import NOON

Documents = AsyncDatabase[dict[str, Any]]


async def threads_of(database: Documents) -> dict[str, Any]:
    layer = MongoDataLayer(client=database.client, database=database.name)
    ids = [each["_id"] async for each in database.threads.find({}, {"_id": 1})]
    found = {each: await layer.get_thread(each) for each in ids}
    await layer.close()
    return found


# Literal AI -----------------------------------------------------------------------------------


def literal_thread(number: int) -> dict[str, Any]:
    """A thread as the SDK's own ``to_dict`` gives it."""
    step = Step(name="ada", type="user_message", thread_id=f"t{number}")
    step.id, step.start_time, step.end_time = f"s{number}", NOON.format(1), NOON.format(2)
    step.input, step.output = {"content": "question"}, {"content": "answer"}
    step.metadata = {"showInput": "json", "language": "python", "favorite": True}
    score: Any = dict.fromkeys(("step_id", "scorer", "tags", "dataset_experiment_item_id"))
    score |= {"name": "user-feedback", "type": "HUMAN", "value": 1.0, "comment": "fine"}
    step.scores = [Score(id=f"f{number}", **score)]
    step.attachments = [
        Attachment(
            id=f"e{number}",
            name="a.png",
            url="https://x",
            mime="image/png",
            metadata={"type": "image"},
        ),
    ]
    thread = Thread(
        id=f"t{number}",
        name="Chat",
        participant_id="u",
        tags=["a"],
        metadata={"k": 1},
        steps=[step],
    )
    thread.participant_identifier = "ada"
    thread.created_at = NOON.format(0)
    content: dict[str, Any] = json.loads(json.dumps(thread.to_dict()))
    return content


@pytest.mark.parametrize("form", ["list", "lines", "one"])
async def test_literal_ai(tmp_path: Path, database: Documents, form: str) -> None:
    path = tmp_path / "threads.json"
    threads = [literal_thread(number) for number in range(1 if form == "one" else 3)]
    lines = "\n".join(json.dumps(thread) for thread in threads)
    path.write_text(json.dumps(threads, indent=1) if form == "list" else lines)

    with await migrate.run(str(path), database) as report:
        assert report.complete, report.as_dict(findings=True)
        assert report.counts["threads"]["stored"] == len(threads)
    with await migrate.verify(str(path), database) as report:
        assert report.complete

    thread = (await threads_of(database))["t0"]
    assert (thread["userId"], thread["userIdentifier"], thread["tags"]) == ("u", "ada", ["a"])
    step = thread["steps"][0]
    assert (step["input"], step["output"]) == ("question", "answer")
    assert (step["showInput"], step["language"], step["metadata"]) == (
        "json",
        "python",
        {"favorite": True},
    )
    assert (step["createdAt"], step["end"]) == (NOON.format(1), NOON.format(2))
    assert step["feedback"]["value"] == 1
    element = thread["elements"][0]
    assert (element["type"], element["url"], element["forId"]) == ("image", "https://x", "s0")


@pytest.mark.parametrize("content", ["", "{", '{"id": 1}', '[{"name": "x"}]', '{"id": "t"}'])
async def test_json_that_is_something_else(
    tmp_path: Path, database: Documents, content: str
) -> None:
    path = tmp_path / "threads.json"
    path.write_text(content)

    with pytest.raises(ConfigurationError):
        await migrate.run(str(path), database)


async def test_threads_of_literal_ai_that_were_made_by_hand(
    tmp_path: Path, database: Documents
) -> None:
    """Nothing in a file ends a run: what is no thread, step, vote or attachment is listed."""
    changes: list[dict[str, Any]] = [
        {"participant": "ada"},
        {"participant": {"id": ["x"]}},
        {"participant": {"id": "u", "identifier": 7}},
        {"steps": ["x", 5, {"id": "s", "metadata": '{"k": 1}', "scores": "x"}]},
        {"steps": {"id": "s", "metadata": [1], "attachments": ["x"]}},
        {"steps": [{"id": "s", "scores": [{"name": "user-feedback", "value": 10**400}]}]},
        {"steps": [{"id": "s", "scores": [{"name": ["x"], "value": 1}, None]}]},
        {"id": 9},
    ]
    threads = [literal_thread(number) | change for number, change in enumerate(changes)]
    values = [*threads, "no thread", {"id": None, "steps": []}, [1]]
    path = tmp_path / "threads.json"
    path.write_text("\n".join(map(json.dumps, values)))

    with await migrate.run(str(path), database) as report:
        assert report.balanced
        assert report.counts["threads"]["stored"] == len(threads)
        assert report.counts["threads"]["left out"] == 3
        assert report.counts["steps"]["left out"] == 2
        assert report.counts["elements"]["left out"] == 1
        assert report.counts["feedbacks"]["left out"] == 4
    with await migrate.verify(str(path), database) as report:
        assert not report.counts["threads"]["differs"]

    found = await threads_of(database)
    assert (found["t0"]["userIdentifier"], found["t1"]["userIdentifier"]) == ("ada", '["x"]')
    assert found["t3"]["steps"][0]["metadata"] == {"k": 1}
    assert found["9"]["steps"]


async def test_of_a_thread_that_was_saved_twice_the_last_one_counts(
    tmp_path: Path, database: Documents
) -> None:
    threads = [literal_thread(number) for number in (0, 1, 0)]
    threads[0]["name"], threads[2]["name"] = "before", "after"
    path = tmp_path / "threads.json"
    path.write_text(json.dumps(threads))

    for _ in range(2):
        with await migrate.run(str(path), database) as report:
            assert report.balanced
            assert not report.complete
            reason = ("left out", "threads", "a later thread has the same id")
            assert report.reasons[reason] == report.counts["threads"]["left out"] == 1
        assert (await threads_of(database))["t0"]["name"] == "after"


async def test_json_that_ends_in_the_middle(tmp_path: Path, database: Documents) -> None:
    path = tmp_path / "threads.json"
    path.write_text(json.dumps(literal_thread(0)) + '\n{"id": "t1", ')

    with pytest.raises(SourceError, match="cannot be read as JSON"):
        await migrate.run(str(path), database)


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_values_are_read_in_any_pieces(size: int) -> None:
    values = [{"a": "x" * 50, "b": [1, 2]}, {}, {"c": "]}[{,"}]
    for text in (
        json.dumps(values),
        "\n".join(map(json.dumps, values)),
        json.dumps(values, indent=2),
    ):
        file = io.StringIO(text)
        assert list(json_values(lambda file=file: file.read(size))) == values


# DynamoDB -------------------------------------------------------------------------------------


@pytest.fixture
def dynamodb(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Any, str]]:
    """A client, and the address of the table ``chat``."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    client = boto3.client("dynamodb", endpoint_url=f"http://{host}:{port}")
    names = ("PK", "SK")
    client.create_table(
        TableName="chat",
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[
            {"AttributeName": name, "KeyType": kind}
            for name, kind in zip(names, ("HASH", "RANGE"), strict=True)
        ],
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in names],
    )
    yield client, f"dynamodb://chat?endpoint_url=http://{host}:{port}"
    client.delete_table(TableName="chat")  # all servers of a process have the same tables
    client.close()
    server.stop()


async def filled(client: Any) -> None:
    """Two threads and an orphan, by Chainlit's layer."""
    init_http_context()
    layer = DynamoDBDataLayer("chat", client=client)
    await layer.create_user(User(identifier="ada", metadata={"role": "x", "level": 2}))
    for number in range(2):
        await layer.update_thread(
            f"t{number}", name="Chat", user_id="ada", metadata={"n": 1, "f": 0.5}, tags=["a"]
        )
    for thread_id, step_id in (("t0", "s1"), ("t0", "s2"), ("t1", "s3"), ("gone", "s4")):
        step: Any = {
            "id": step_id,
            "threadId": thread_id,
            "type": "run",
            "name": "run",
            "output": f"output of {step_id}",
            "createdAt": NOON.format(int(step_id[1])),
            "metadata": {"n": 3},
            "showInput": False,
        }
        await layer.create_step(step)
    await layer.upsert_feedback(Feedback(forId="s1", threadId="t0", value=0))


async def checked(address: str, database: Documents) -> None:
    with await migrate.run(address, database) as report:
        assert report.balanced
        lost = {each["id"] for each in report.findings() if each["outcome"] == "left out"}
        assert lost == {"s4"}
    with await migrate.run(address, database) as report:
        assert report.counts["threads"]["already there"] == 2
    threads = await threads_of(database)
    assert threads.keys() == {"t0", "t1"}
    thread = threads["t0"]
    assert (thread["userId"], thread["userIdentifier"]) == ("ada", "ada")
    assert (thread["metadata"], thread["tags"]) == ({"n": 1, "f": 0.5}, ["a"])
    assert [step["id"] for step in thread["steps"]] == ["s1", "s2"]
    step = thread["steps"][0]
    assert (step["feedback"]["value"], step["metadata"]) == (0, {"n": 3})
    user = await database.users.find_one({})
    assert user is not None
    assert (user["_id"], user["metadata"]) == ("ada", {"role": "x", "level": 2})


async def test_a_live_table(dynamodb: tuple[Any, str], database: Documents) -> None:
    client, address = dynamodb
    await filled(client)

    await checked(address, database)

    with pytest.raises(SourceError, match="nothing"):
        await migrate.run(address.replace("chat", "nothing"), database)


async def test_items_that_the_layer_never_wrote(
    dynamodb: tuple[Any, str], database: Documents
) -> None:
    """Each item is accounted for, and none ends a run."""
    client, address = dynamodb
    await filled(client)
    for key, sort, fields in (
        ("CONFIG#x", "CONFIG", {"value": {"S": "1"}}),
        ("USER#ada", "PROFILE", {"identifier": {"S": "ada"}}),
        ("THREAD#t0", "SUMMARY", {"text": {"S": "short"}}),
        ("THREAD#t0", "STEP#s5", {"id": {"S": "s5"}, "feedback": {"S": "good"}}),
        ("THREAD#t0", "STEP#s6", {"id": {"S": "s6"}, "feedback": {"M": {"value": {"N": "1"}}}}),
    ):
        client.put_item(TableName="chat", Item={"PK": {"S": key}, "SK": {"S": sort}, **fields})

    with await migrate.run(address, database) as report:
        assert report.balanced
        assert report.counts["items"]["skipped"] == 3
        assert report.counts["users"]["read"] == 1
        assert report.reasons["left out", "feedbacks", "feedback is neither up nor down"] == 1

    steps = (await threads_of(database))["t0"]["steps"]
    feedback = {step["id"]: step["feedback"] for step in steps}
    assert (feedback["s5"], feedback["s6"]["value"]) == (None, 1)
    for option in ("&bogus=1", "x"):
        with pytest.raises(ConfigurationError, match="cannot be opened"):
            await migrate.inspect(address.replace("http://", "") + option)


async def test_an_export(dynamodb: tuple[Any, str], database: Documents, tmp_path: Path) -> None:
    client, _ = dynamodb
    await filled(client)
    items = client.scan(TableName="chat")["Items"]
    for number in range(2):  # the items of one thread are in several files
        with gzip.open(tmp_path / f"{number}.json.gz", "wt") as file:
            file.writelines(json.dumps({"Item": item}) + "\n" for item in items[number::2])

    await checked(str(tmp_path), database)

    (tmp_path / "2.json.gz").write_bytes(b"none")
    with pytest.raises(SourceError, match="no file of an export"):
        await migrate.run(str(tmp_path), database)


@pytest.mark.parametrize(
    ("typed", "value"),
    [
        ({"S": "x"}, "x"),
        ({"N": "1"}, 1),
        ({"N": "1.0"}, 1),
        ({"N": "0.5"}, 0.5),
        ({"N": "12345678901234567890"}, 12345678901234567890),
        ({"NULL": True}, None),
        ({"BOOL": False}, False),
        ({"L": [{"N": "1"}, {"M": {"a": {"SS": ["b"]}}}]}, [1, {"a": ["b"]}]),
        ({"NS": ["1", "2.5"]}, [1, 2.5]),
        ({"B": "eA=="}, b"x"),
        ({"B": b"x"}, b"x"),
    ],
)
def test_values_of_dynamodb(typed: dict[str, Any], value: Any) -> None:
    assert plain(typed) == value
