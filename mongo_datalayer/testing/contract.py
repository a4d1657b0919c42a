"""What a Chainlit data layer must do, as tests to inherit.

::

    class TestMyLayer(DataLayerContract):
        @pytest.fixture
        async def layer(self):
            layer = MyLayer(...)
            yield layer
            await layer.close()

The fixture gives an empty data layer. The tests use only methods of Chainlit's ``BaseDataLayer``,
outside of any Chainlit session. A backend that cannot do something says so in ``lacks``: the name
of the test, and why.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from typing import Any, ClassVar, Literal, cast

import pytest
from chainlit.context import context_var
from chainlit.data.base import BaseDataLayer
from chainlit.element import CustomElement, Image
from chainlit.step import StepDict
from chainlit.types import Feedback, PaginatedResponse, Pagination, ThreadDict, ThreadFilter
from chainlit.user import PersistedUser, User

Page = PaginatedResponse[ThreadDict]


def new_id() -> str:
    """An id as Chainlit makes them."""
    return str(uuid.uuid4())


def step(thread_id: str, minute: int = 0, **fields: Any) -> StepDict:
    """A step of the thread, made ``minute`` minutes after ten o'clock."""
    time = f"2026-03-01T10:{minute:02d}:00.000123Z"
    made = {
        "id": new_id(),
        "threadId": thread_id,
        "parentId": None,
        "type": "assistant_message",
        "name": "Assistant",
        "input": "",
        "output": "",
        "createdAt": time,
        "start": time,
        "end": time,
        "metadata": {},
        **fields,
    }
    return cast("StepDict", made)


class Contract:
    """What the contract classes share: the layer, and what it lacks."""

    lacks: ClassVar[dict[str, str]] = {}

    @pytest.fixture
    async def layer(self) -> Any:
        """An empty data layer; to be overridden."""
        raise NotImplementedError("Give the contract class a fixture named 'layer'.")

    @pytest.fixture(autouse=True)
    def _contract(self, request: pytest.FixtureRequest) -> None:
        reason = self.lacks.get(request.node.originalname)
        if reason is not None:
            pytest.skip(reason)
        context_var.set(cast("Any", None))

    @staticmethod
    async def make_user(layer: BaseDataLayer, identifier: str = "ada@example.org") -> PersistedUser:
        """A stored user."""
        user = await layer.create_user(User(identifier=identifier))
        assert user is not None
        return user

    @staticmethod
    async def make_thread(
        layer: BaseDataLayer, user: PersistedUser, *steps: StepDict, name: str = "A chat"
    ) -> str:
        """A stored thread of the user with these steps, which are moved into it."""
        thread_id = steps[0]["threadId"] if steps else new_id()
        await layer.update_thread(thread_id=thread_id, name=name, user_id=user.id)
        for made in steps:
            await layer.create_step(step_dict=made)
        return thread_id

    @staticmethod
    async def read(layer: BaseDataLayer, thread_id: str) -> ThreadDict:
        """The thread, which must be there and fit for Chainlit's JSON responses."""
        thread = await layer.get_thread(thread_id=thread_id)
        assert thread is not None
        json.dumps(thread, allow_nan=False, ensure_ascii=False).encode()
        return thread

    @staticmethod
    async def page(
        layer: BaseDataLayer,
        user_id: str | None,
        *,
        first: int = 20,
        cursor: str | None = None,
        search: str | None = None,
        feedback: Literal[0, 1] | None = None,
    ) -> Page:
        """A page of the user's threads."""
        return await layer.list_threads(
            pagination=Pagination(first=first, cursor=cursor),
            filters=ThreadFilter(userId=user_id, search=search, feedback=feedback),
        )

    async def listed(self, layer: BaseDataLayer, user_id: str, **filters: Any) -> list[str]:
        """Ids of the threads on the first page."""
        return [thread["id"] for thread in (await self.page(layer, user_id, **filters)).data]


class UserContract(Contract):
    """Users."""

    async def test_an_unknown_user_is_none(self, layer: BaseDataLayer) -> None:
        assert await layer.get_user(identifier="nobody") is None

    async def test_a_user_comes_back(self, layer: BaseDataLayer) -> None:
        made = await layer.create_user(
            User(identifier="ada", display_name="Ada", metadata={"role": "admin", "a.b": [1, None]})
        )
        assert made is not None
        read = await layer.get_user(identifier="ada")
        assert read == made
        assert read is not None
        assert isinstance(read.id, str)
        assert read.createdAt.endswith("Z")
        assert read.display_name == "Ada"
        assert read.metadata == {"role": "admin", "a.b": [1, None]}

    async def test_a_second_login_keeps_id_and_creation_and_refreshes_metadata(
        self, layer: BaseDataLayer
    ) -> None:
        first = await layer.create_user(
            User(identifier="ada", display_name="Ada", metadata={"n": 1})
        )
        second = await layer.create_user(User(identifier="ada", metadata={"n": 2}))
        assert first is not None
        assert second is not None
        assert (second.id, second.createdAt) == (first.id, first.createdAt)
        assert second.metadata == {"n": 2}
        assert second.display_name == "Ada"

    async def test_logins_at_once_make_one_user(self, layer: BaseDataLayer) -> None:
        made = await asyncio.gather(*(layer.create_user(User(identifier="ada")) for _ in range(20)))
        assert len({user.id for user in made if user is not None}) == 1

    async def test_users_are_fresh_objects(self, layer: BaseDataLayer) -> None:
        await self.make_user(layer, "ada")
        one = await layer.get_user(identifier="ada")
        assert one is not None
        one.display_name = "Changed by Chainlit after a login"
        other = await layer.get_user(identifier="ada")
        assert other is not None
        assert other.display_name is None


class ThreadContract(Contract):
    """Threads: reading, changing, deleting."""

    async def test_an_unknown_thread_is_none_and_has_no_author(self, layer: BaseDataLayer) -> None:
        assert await layer.get_thread(thread_id="unknown") is None
        assert await layer.get_thread_author(thread_id="unknown") == ""

    async def test_a_new_thread_has_every_key(self, layer: BaseDataLayer) -> None:
        user = await self.make_user(layer)
        await layer.update_thread(thread_id="t", name="Hello", user_id=user.id, tags=["demo"])
        thread = await self.read(layer, "t")
        assert thread["createdAt"].endswith("Z")
        assert {key: value for key, value in thread.items() if key != "createdAt"} == {
            "id": "t",
            "name": "Hello",
            "userId": user.id,
            "userIdentifier": user.identifier,
            "tags": ["demo"],
            "metadata": {},
            "steps": [],
            "elements": [],
        }
        assert await layer.get_thread_author(thread_id="t") == user.identifier

    @pytest.mark.parametrize("thread_id", ["a/b?c", "$x.y", " ", "ü" * 300, "../..", "%2e", "{}"])
    async def test_a_thread_id_may_be_any_string(
        self, layer: BaseDataLayer, thread_id: str
    ) -> None:
        await layer.create_step(step_dict=step(thread_id, output="here"))
        assert [s["output"] for s in (await self.read(layer, thread_id))["steps"]] == ["here"]

    async def test_none_leaves_what_is_there(self, layer: BaseDataLayer) -> None:
        user = await self.make_user(layer)
        await layer.update_thread("t", name="N", user_id=user.id, metadata={"k": 1}, tags=["x"])
        before = await self.read(layer, "t")
        await layer.update_thread(thread_id="t")
        await layer.update_thread(thread_id="t", name=None, user_id=None, metadata=None, tags=None)
        assert await self.read(layer, "t") == before

    async def test_empty_values_are_values(self, layer: BaseDataLayer) -> None:
        await layer.update_thread("t", name="N", metadata={"k": 1}, tags=["x"])
        await layer.update_thread("t", name="", tags=[])
        thread = await self.read(layer, "t")
        assert (thread["name"], thread["tags"], thread["metadata"]) == ("", [], {"k": 1})

    async def test_metadata_merges_by_top_level_key_and_none_deletes(
        self, layer: BaseDataLayer
    ) -> None:
        await layer.update_thread("t", metadata={"keep": {"a": 1}, "change": {"a": 1}, "go": 1})
        await layer.update_thread("t", metadata={"change": {"b": "$100"}, "go": None, "new": []})
        assert (await self.read(layer, "t"))["metadata"] == {
            "keep": {"a": 1},
            "change": {"b": "$100"},
            "new": [],
        }

    @pytest.mark.parametrize("key", ["a.b", "$x", "", "a%2Eb", "%", "x.", "$", ".$.", "0", "_id"])
    async def test_metadata_keys_may_be_any_string(self, layer: BaseDataLayer, key: str) -> None:
        await layer.update_thread("t", metadata={key: 1, "other": 2})
        await layer.update_thread("t", metadata={key: {"$$ROOT": "$$ROOT", key: "$x"}})
        assert (await self.read(layer, "t"))["metadata"] == {
            key: {"$$ROOT": "$$ROOT", key: "$x"},
            "other": 2,
        }
        await layer.update_thread("t", metadata={key: None})
        assert (await self.read(layer, "t"))["metadata"] == {"other": 2}

    async def test_metadata_does_not_rename(self, layer: BaseDataLayer) -> None:
        await layer.update_thread("t", metadata={"name": "From metadata"})
        assert (await self.read(layer, "t"))["name"] == "From metadata"
        await layer.update_thread("t", name="Chosen")
        await layer.update_thread("t", metadata={"name": "Again from metadata"})
        assert (await self.read(layer, "t"))["name"] == "Chosen"

    async def test_a_huge_name_is_cut(self, layer: BaseDataLayer) -> None:
        await layer.update_thread("t", name="word " * 100_000)
        name = (await self.read(layer, "t"))["name"]
        assert name is not None
        assert name.startswith("word word")
        assert len(name) <= 255

    async def test_a_read_thread_is_fresh(self, layer: BaseDataLayer) -> None:
        await layer.update_thread("t", metadata={"k": {"a": 1}})
        thread = await self.read(layer, "t")
        cast("dict[str, Any]", thread["metadata"])["k"]["a"] = 2
        assert (await self.read(layer, "t"))["metadata"] == {"k": {"a": 1}}

    async def test_a_deleted_thread_is_gone_and_stays_gone(self, layer: BaseDataLayer) -> None:
        user = await self.make_user(layer)
        kept = await self.make_thread(layer, user, step(new_id()))
        thread_id = await self.make_thread(layer, user, step(new_id()))
        await layer.delete_thread(thread_id=thread_id)
        await layer.update_thread(thread_id=thread_id, metadata={"client_type": "webapp"})
        await layer.create_step(step_dict=step(thread_id))
        await layer.update_step(step_dict=step(thread_id))
        await layer.create_element(
            Image(name="i", url="https://example.org/i.png", thread_id=thread_id, for_id="x")
        )
        assert await layer.get_thread(thread_id=thread_id) is None
        assert await layer.get_thread_author(thread_id=thread_id) == ""
        assert await self.listed(layer, user.id) == [kept]

    async def test_deleting_an_unknown_thread_is_no_error(self, layer: BaseDataLayer) -> None:
        await layer.delete_thread(thread_id="unknown")


class StepContract(Contract):
    """Steps: any order, any value."""

    async def test_a_step_comes_back_whole(self, layer: BaseDataLayer) -> None:
        sent: dict[str, Any] = {
            "id": new_id(),
            "threadId": "t",
            "parentId": None,
            "type": "tool",
            "name": "search",
            "input": '{"q": "$100"}',
            "output": "found",
            "createdAt": "2026-03-01T10:00:00.123456Z",
            "start": "2026-03-01T10:00:00Z",
            "end": "2026-03-01T10:00:01.5Z",
            "isError": False,
            "waitForAnswer": True,
            "showInput": "json",
            "defaultOpen": True,
            "autoCollapse": False,
            "language": "json",
            "command": "Search",
            "modes": {"model": "large"},
            "tags": ["a", "b"],
            "metadata": {"favorite": False, "x.y": 1, "$z": {"deep": [None, True, 0.5]}},
            "generation": {"tools": [{"$ref": "#/defs/a"}], "tokenCount": 7},
            "someFieldOfALaterChainlit": {"kept": True},
        }
        await layer.create_step(step_dict=cast("StepDict", dict(sent)))
        (read,) = (await self.read(layer, "t"))["steps"]
        assert {key: read.get(key) for key in sent} == sent
        assert read["streaming"] is False
        assert read["feedback"] is None

    async def test_a_bare_step_has_what_the_frontend_needs(self, layer: BaseDataLayer) -> None:
        await layer.update_step(step_dict={"id": "s", "threadId": "t", "type": "run"})
        (read,) = (await self.read(layer, "t"))["steps"]
        assert read["output"] == ""
        assert read["input"] == ""
        assert read["parentId"] is None
        assert read["metadata"] == {}
        assert isinstance(read["createdAt"], str)

    async def test_create_twice_stores_one_step(self, layer: BaseDataLayer) -> None:
        made = step("t", output="once")
        await layer.create_step(step_dict=made)
        await layer.create_step(step_dict=made)
        assert len((await self.read(layer, "t"))["steps"]) == 1

    async def test_update_is_authoritative_and_none_leaves(self, layer: BaseDataLayer) -> None:
        made = step("t", output="first", language="text", metadata={"a": 1})
        await layer.create_step(step_dict=made)
        changed = {**made, "output": "", "language": None, "metadata": {"b": 2}}
        await layer.update_step(step_dict=cast("StepDict", changed))
        (read,) = (await self.read(layer, "t"))["steps"]
        assert (read["output"], read["language"], read["metadata"]) == ("", "text", {"b": 2})

    async def test_update_before_create(self, layer: BaseDataLayer) -> None:
        made = step("t", output="", name="search", tags=["x"])
        await layer.update_step(
            step_dict={"id": made["id"], "threadId": "t", "type": "tool", "output": "result"}
        )
        await layer.create_step(step_dict=made)
        (read,) = (await self.read(layer, "t"))["steps"]
        assert (read["output"], read["type"], read["name"]) == ("result", "tool", "search")
        assert (read["tags"], read["createdAt"]) == (["x"], made["createdAt"])

    async def test_steps_are_read_in_order_of_time_not_of_arrival(
        self, layer: BaseDataLayer
    ) -> None:
        times = [
            "2026-03-01T10:00:00Z",
            "2026-03-01T10:00:00.000001Z",
            "2026-03-01T10:00:00.1Z",
            "2026-03-01T10:00:01Z",
        ]
        for time in reversed(times):
            await layer.create_step(step_dict=step("t", createdAt=time))
        assert [s["createdAt"] for s in (await self.read(layer, "t"))["steps"]] == times

    async def test_parents_come_first_and_unknown_parents_become_none(
        self, layer: BaseDataLayer
    ) -> None:
        parent = step("t", 5)
        child = step("t", 1, parentId=parent["id"])
        orphan = step("t", 9, parentId=new_id())
        for made in (child, orphan, parent):
            await layer.create_step(step_dict=made)
        steps = (await self.read(layer, "t"))["steps"]
        assert [(s["id"], s["parentId"]) for s in steps] == [
            (parent["id"], None),
            (child["id"], parent["id"]),
            (orphan["id"], None),
        ]

    async def test_hidden_input_is_not_shown(self, layer: BaseDataLayer) -> None:
        await layer.create_step(step_dict=step("t", input="secret", showInput=False))
        assert (await self.read(layer, "t"))["steps"][0]["input"] == ""

    @pytest.mark.parametrize(
        "text", ["$100", "$$ROOT", "{$ref}", "a\0b", "\ud83d", "😀" * 1000, ""]
    )
    async def test_text_of_any_kind(self, layer: BaseDataLayer, text: str) -> None:
        made = step("t", output=text, input=text, showInput=True)
        await layer.create_step(step_dict=made)
        await layer.update_step(step_dict=made)
        (read,) = (await self.read(layer, "t"))["steps"]
        assert read["output"] == read["input"] == text.replace("\ud83d", "\ufffd")

    async def test_values_that_no_database_takes_lose_no_message(
        self, layer: BaseDataLayer
    ) -> None:
        odd: dict[Any, Any] = {
            "nan": float("nan"),
            "big": 2**80,
            "set": {1},
            "bytes": b"\xff",
            1: "one",
            "nul\0key": 1,
            "object": object(),
            "deep": json.loads("[" * 150 + "]" * 150),
        }
        await layer.create_step(step_dict=step("t", output="still here", metadata=odd))
        (read,) = (await self.read(layer, "t"))["steps"]
        assert read["output"] == "still here"
        assert read["metadata"]["big"] == str(2**80)

    async def test_the_caller_may_change_the_step_after_the_call(
        self, layer: BaseDataLayer
    ) -> None:
        made = step("t", output="as sent", metadata={"n": 1})
        writing = asyncio.ensure_future(cast("Any", layer.create_step(step_dict=made)))
        await asyncio.sleep(0)
        made["output"] = "changed"
        made["metadata"]["n"] = 2
        await writing
        (read,) = (await self.read(layer, "t"))["steps"]
        assert (read["output"], read["metadata"]) == ("as sent", {"n": 1})

    async def test_writes_to_one_step_apply_in_order_of_the_calls(
        self, layer: BaseDataLayer
    ) -> None:
        made = step("t")
        tasks = [asyncio.ensure_future(cast("Any", layer.create_step(step_dict=made)))]
        for number in range(50):
            changed = cast("StepDict", {**made, "output": str(number)})
            tasks.append(asyncio.ensure_future(cast("Any", layer.update_step(step_dict=changed))))
        await asyncio.gather(*tasks)
        assert [s["output"] for s in (await self.read(layer, "t"))["steps"]] == ["49"]

    async def test_many_writers_of_one_new_thread(self, layer: BaseDataLayer) -> None:
        user = await self.make_user(layer)
        made = [step("t", number % 60) for number in range(100)]
        await asyncio.gather(
            layer.update_thread(thread_id="t", name="N", user_id=user.id),
            *(layer.create_step(step_dict=each) for each in made),
            *(layer.update_step(step_dict=each) for each in made),
        )
        thread = await self.read(layer, "t")
        assert sorted(s["id"] for s in thread["steps"]) == sorted(each["id"] for each in made)
        assert (thread["name"], thread["userId"]) == ("N", user.id)

    async def test_deleting_a_step_takes_what_is_below_it(self, layer: BaseDataLayer) -> None:
        parent, other = step("t", 1), step("t", 4)
        child = step("t", 2, parentId=parent["id"])
        grandchild = step("t", 3, parentId=child["id"])
        for made in (parent, child, grandchild, other):
            await layer.create_step(step_dict=made)
        for made in (grandchild, other):
            await layer.create_element(
                Image(name="i", url="https://example.org/i.png", for_id=made["id"], thread_id="t")
            )
        await layer.upsert_feedback(Feedback(forId=child["id"], value=1, threadId="t"))
        await layer.delete_step(step_id=parent["id"])
        thread = await self.read(layer, "t")
        assert [s["id"] for s in thread["steps"]] == [other["id"]]
        assert [e["forId"] for e in thread["elements"] or ()] == [other["id"]]

    async def test_a_deleted_step_stays_gone(self, layer: BaseDataLayer) -> None:
        made = step("t")
        await layer.create_step(step_dict=made)
        await layer.delete_step(step_id=made["id"])
        await layer.create_step(step_dict=made)
        await layer.update_step(step_dict=made)
        await layer.create_element(
            Image(name="i", url="https://example.org/i.png", for_id=made["id"], thread_id="t")
        )
        thread = await self.read(layer, "t")
        assert (thread["steps"], thread["elements"]) == ([], [])

    async def test_deleting_an_unknown_step_is_no_error(self, layer: BaseDataLayer) -> None:
        await layer.delete_step(step_id="unknown")


class FeedbackContract(Contract):
    """Feedback: one verdict for each step."""

    async def feedback(self, layer: BaseDataLayer, thread_id: str = "t") -> list[Any]:
        """The feedback of each step of the thread."""
        return [s["feedback"] for s in (await self.read(layer, thread_id))["steps"]]

    @pytest.mark.parametrize("value", [0, 1])
    async def test_feedback_is_on_its_step(
        self, layer: BaseDataLayer, value: Literal[0, 1]
    ) -> None:
        made = step("t")
        await layer.create_step(step_dict=made)
        feedback_id = await layer.upsert_feedback(
            feedback=Feedback(forId=made["id"], value=value, threadId="t", comment="because")
        )
        assert isinstance(feedback_id, str)
        assert await self.feedback(layer) == [
            {"id": feedback_id, "forId": made["id"], "value": value, "comment": "because"}
        ]

    async def test_a_step_has_one_verdict(self, layer: BaseDataLayer) -> None:
        made = step("t")
        await layer.create_step(step_dict=made)
        first = await layer.upsert_feedback(
            Feedback(forId=made["id"], value=0, threadId="t", comment="bad")
        )
        second = await layer.upsert_feedback(Feedback(forId=made["id"], value=1, threadId="t"))
        assert second == first
        assert await self.feedback(layer) == [
            {"id": first, "forId": made["id"], "value": 1, "comment": None}
        ]

    async def test_feedback_without_a_thread(self, layer: BaseDataLayer) -> None:
        made = step("t")
        await layer.create_step(step_dict=made)
        await layer.upsert_feedback(Feedback(forId=made["id"], value=1))
        assert [given["value"] for given in await self.feedback(layer)] == [1]

    async def test_feedback_survives_updates_of_its_step(self, layer: BaseDataLayer) -> None:
        made = step("t")
        await layer.create_step(step_dict=made)
        await layer.upsert_feedback(Feedback(forId=made["id"], value=1, threadId="t"))
        await layer.update_step(step_dict=made)
        assert [given["value"] for given in await self.feedback(layer)] == [1]

    async def test_feedback_before_its_step_waits_and_shows_no_ghost(
        self, layer: BaseDataLayer
    ) -> None:
        made = step("t")
        await layer.upsert_feedback(Feedback(forId=made["id"], value=1, threadId="t"))
        await layer.upsert_feedback(
            Feedback(forId=made["id"], value=0, threadId="t", comment="second thought")
        )
        assert await layer.get_thread("t") is None
        await layer.create_step(step_dict=made)
        (given,) = await self.feedback(layer)
        assert (given["value"], given["comment"]) == (0, "second thought")

    async def test_deleted_feedback_is_gone(self, layer: BaseDataLayer) -> None:
        made = step("t")
        await layer.create_step(step_dict=made)
        feedback_id = await layer.upsert_feedback(Feedback(forId=made["id"], value=1, threadId="t"))
        assert await layer.delete_feedback(feedback_id=feedback_id) is True
        assert await self.feedback(layer) == [None]
        assert await layer.delete_feedback(feedback_id=feedback_id) is False

    async def test_deleted_feedback_that_waited_is_gone(self, layer: BaseDataLayer) -> None:
        made = step("t")
        feedback_id = await layer.upsert_feedback(Feedback(forId=made["id"], value=1, threadId="t"))
        assert await layer.delete_feedback(feedback_id=feedback_id) is True
        await layer.create_step(step_dict=made)
        assert await self.feedback(layer) == [None]


class FavoriteContract(Contract):
    """Favourite steps."""

    async def test_favorites_are_listed_newest_first_and_only_the_users_own(
        self, layer: BaseDataLayer
    ) -> None:
        ada, bob = await self.make_user(layer, "ada"), await self.make_user(layer, "bob")
        old, plain, new = step("a", 1), step("a", 2), step("b", 3)
        foreign = step("c", 4)
        await self.make_thread(layer, ada, old, plain)
        await self.make_thread(layer, ada, new)
        await self.make_thread(layer, bob, foreign)
        for made in (old, new, foreign):
            marked = await layer.set_step_favorite(step_dict=made, favorite=True)
            assert marked["metadata"]["favorite"] is True
        favorites = await layer.get_favorite_steps(user_id=ada.id)
        assert [(s["id"], s["threadId"]) for s in favorites] == [(new["id"], "b"), (old["id"], "a")]
        assert all(s["metadata"]["favorite"] is True for s in favorites)

    async def test_a_listed_favorite_can_be_taken_back(self, layer: BaseDataLayer) -> None:
        user = await self.make_user(layer)
        made = step("t", output="kept", metadata={"other": 1})
        await self.make_thread(layer, user, made)
        await layer.set_step_favorite(step_dict=made, favorite=True)
        (listed,) = await layer.get_favorite_steps(user_id=user.id)
        marked = await layer.set_step_favorite(step_dict=listed, favorite=False)
        assert marked["metadata"]["favorite"] is False
        assert await layer.get_favorite_steps(user_id=user.id) == []
        (read,) = (await self.read(layer, "t"))["steps"]
        assert (read["output"], read["metadata"]) == ("kept", {"other": 1, "favorite": False})


class ElementContract(Contract):
    """Elements that need no file."""

    async def elements(self, layer: BaseDataLayer, thread_id: str = "t") -> list[Any]:
        """The thread's elements."""
        return (await self.read(layer, thread_id))["elements"] or []

    async def test_an_element_comes_back(self, layer: BaseDataLayer) -> None:
        sent = Image(
            name="cat",
            url="https://example.org/cat.png",
            display="side",
            size="large",
            for_id="s",
            thread_id="t",
            mime="image/png",
        )
        await layer.create_element(sent)
        expected = sent.to_dict()
        (listed,) = await self.elements(layer)
        one = await layer.get_element(thread_id="t", element_id=sent.id)
        assert one is not None
        for read in (cast("dict[str, Any]", listed), cast("dict[str, Any]", one)):
            assert {key: read[key] for key in expected} == expected

    async def test_an_unknown_element_is_none(self, layer: BaseDataLayer) -> None:
        await layer.update_thread(thread_id="t", name="N")
        assert await layer.get_element(thread_id="t", element_id="unknown") is None
        assert await layer.get_element(thread_id="unknown", element_id="unknown") is None

    async def test_an_element_of_another_thread_is_none(self, layer: BaseDataLayer) -> None:
        sent = Image(name="i", url="https://example.org/i.png", thread_id="t")
        await layer.create_element(sent)
        await layer.update_thread(thread_id="other", name="N")
        assert await layer.get_element(thread_id="other", element_id=sent.id) is None
        await layer.delete_element(element_id=sent.id, thread_id="other")
        assert len(await self.elements(layer)) == 1

    async def test_custom_elements_keep_their_props_and_the_last_version_wins(
        self, layer: BaseDataLayer
    ) -> None:
        sent = CustomElement(name="Card", props={"a.b": 1, "$x": [None]}, thread_id="t")
        await layer.create_element(sent)
        (read,) = await self.elements(layer)
        assert (read["type"], read["props"]) == ("custom", {"a.b": 1, "$x": [None]})
        sent.props = {"n": 2}
        await layer.create_element(sent)
        (read,) = await self.elements(layer)
        assert read["props"] == {"n": 2}

    async def test_an_element_for_no_step_is_kept(self, layer: BaseDataLayer) -> None:
        sent = Image(name="i", url="https://example.org/i.png", thread_id="t", for_id="")
        await layer.create_element(sent)
        (read,) = await self.elements(layer)
        assert (read["id"], read["forId"]) == (sent.id, None)

    async def test_a_deleted_element_is_gone(self, layer: BaseDataLayer) -> None:
        one, other = (
            Image(name=name, url="https://example.org/i.png", thread_id="t") for name in "ab"
        )
        await layer.create_element(one)
        await layer.create_element(other)
        await layer.delete_element(element_id=one.id, thread_id="t")
        assert [element["id"] for element in await self.elements(layer)] == [other.id]
        await layer.delete_element(element_id=other.id)
        assert await self.elements(layer) == []


class ListContract(Contract):
    """Lists of threads: filters, order and pages."""

    async def test_a_list_needs_a_user(self, layer: BaseDataLayer) -> None:
        with pytest.raises(ValueError, match="userId"):
            await self.page(layer, None)

    async def test_a_user_without_threads(self, layer: BaseDataLayer) -> None:
        page = await self.page(layer, "nobody")
        assert page.data == []
        assert page.pageInfo.hasNextPage is False
        assert page.pageInfo.endCursor is None

    async def test_an_entry_has_what_the_sidebar_reads_and_no_steps(
        self, layer: BaseDataLayer
    ) -> None:
        user = await self.make_user(layer)
        made = step(new_id(), 5, output="x" * 10_000)
        thread_id = await self.make_thread(layer, user, made, name="Title")
        await layer.update_thread(thread_id=thread_id, metadata={"is_shared": True})
        page = await self.page(layer, user.id)
        json.dumps(page.data, allow_nan=False)
        (entry,) = page.data
        assert (entry["id"], entry["name"]) == (thread_id, "Title")
        assert (entry["userId"], entry["userIdentifier"]) == (user.id, user.identifier)
        assert entry["metadata"] == {"is_shared": True}
        assert entry["createdAt"].endswith("Z")
        assert entry["steps"] == []

    async def test_users_see_only_their_own(self, layer: BaseDataLayer) -> None:
        ada, bob = await self.make_user(layer, "ada"), await self.make_user(layer, "bob")
        adas = await self.make_thread(layer, ada, step(new_id()))
        bobs = await self.make_thread(layer, bob, step(new_id()))
        assert await self.listed(layer, ada.id) == [adas]
        assert await self.listed(layer, bob.id) == [bobs]

    async def test_a_new_step_is_activity_and_metadata_is_not(self, layer: BaseDataLayer) -> None:
        user = await self.make_user(layer)
        one, two = new_id(), new_id()
        for minute, thread_id in enumerate((one, two)):
            await self.make_thread(layer, user, step(thread_id, minute))
        assert await self.listed(layer, user.id) == [two, one]
        await layer.update_thread(thread_id=one, metadata={"viewed": True})
        await layer.update_thread(thread_id=one, name="Renamed")
        assert await self.listed(layer, user.id) == [two, one]
        late = {"id": new_id(), "threadId": one, "type": "run"}
        await layer.create_step(step_dict=cast("StepDict", late))
        assert await self.listed(layer, user.id) == [one, two]
        entries = (await self.page(layer, user.id)).data
        assert entries[0]["createdAt"] > entries[1]["createdAt"]

    @pytest.mark.parametrize("size", [1, 2, 3, 7])
    async def test_pages_hold_every_thread_once(self, layer: BaseDataLayer, size: int) -> None:
        user = await self.make_user(layer)
        # Imported history: some threads of the very same time.
        threads = [
            await self.make_thread(layer, user, step(f"thread-{n}", n // 3)) for n in range(7)
        ]
        await asyncio.gather(*(layer.update_thread(thread_id=each) for each in threads))
        found: list[str] = []
        cursor: str | None = None
        while True:
            page = await self.page(layer, user.id, first=size, cursor=cursor)
            assert len(page.data) <= size
            found.extend(thread["id"] for thread in page.data)
            cursor = page.pageInfo.endCursor
            if not page.pageInfo.hasNextPage:
                break
        assert sorted(found) == sorted(threads)
        assert found == await self.listed(layer, user.id)

    async def test_a_cursor_outlives_its_thread(self, layer: BaseDataLayer) -> None:
        user = await self.make_user(layer)
        for n in range(4):
            await self.make_thread(layer, user, step(f"thread-{n}", n))
            await asyncio.sleep(0.002)
        whole = await self.listed(layer, user.id)
        page = await self.page(layer, user.id, first=2)
        await layer.delete_thread(thread_id=whole[1])
        rest = await self.listed(layer, user.id, cursor=page.pageInfo.endCursor)
        assert rest == whole[2:]

    @pytest.mark.parametrize(
        "cursor",
        ["unknown", "42", "e30", "W10", "[]", "5f0c8f6e-2f4b-4f0e-9a59-6a1f3f1b2c10", "é"],
    )
    async def test_a_malformed_cursor_is_an_error(self, layer: BaseDataLayer, cursor: str) -> None:
        with pytest.raises(ValueError, match="cursor"):
            await self.page(layer, "somebody", cursor=cursor)

    async def test_an_empty_cursor_is_the_first_page(self, layer: BaseDataLayer) -> None:
        user = await self.make_user(layer)
        thread_id = await self.make_thread(layer, user, step(new_id()))
        assert await self.listed(layer, user.id, cursor="") == [thread_id]

    @pytest.mark.parametrize("first", [-5, 0, 10**12, 2**63])
    async def test_the_page_size_is_clamped(self, layer: BaseDataLayer, first: int) -> None:
        user = await self.make_user(layer)
        thread_id = await self.make_thread(layer, user, step(new_id()))
        assert await self.listed(layer, user.id, first=first) == [thread_id]

    @pytest.mark.parametrize(
        ("text", "needle"),
        [
            ("The quick brown fox", "QUICK BROWN"),
            ("Grüße aus Österreich", "ÖSTERREICH"),
            ("ПРИВЕТ, мир", "привет"),
            ("price: $100 (a.b)*[c]^", "$100 (A.B)*[C]^"),
            ("back\\slash", "K\\S"),
            ("a-b #c ~d", "A-B #C ~D"),
            ("two\nlines", "o\nl"),
        ],
    )
    async def test_search_is_a_literal_substring_of_either_case(
        self, layer: BaseDataLayer, text: str, needle: str
    ) -> None:
        user = await self.make_user(layer)
        by_output = await self.make_thread(layer, user, step(new_id(), output=f"x{text}y"))
        by_input = await self.make_thread(layer, user, step(new_id(), input=f"x{text}y"))
        by_name = await self.make_thread(layer, user, step(new_id()), name=f"x{text}y")
        await self.make_thread(layer, user, step(new_id(), output="something else"), name="other")
        found = await self.listed(layer, user.id, search=needle)
        assert sorted(found) == sorted([by_output, by_input, by_name])

    @pytest.mark.parametrize("needle", [".*", "^", "a|b", "\\", "$", "(?i)", "[", "\0"])
    async def test_search_text_is_no_pattern(self, layer: BaseDataLayer, needle: str) -> None:
        user = await self.make_user(layer)
        await self.make_thread(layer, user, step(new_id(), output="plain words"))
        assert await self.listed(layer, user.id, search=needle) == []

    async def test_filters_combine(self, layer: BaseDataLayer) -> None:
        user = await self.make_user(layer)
        made: dict[tuple[str, int | None], str] = {}
        for word in ("apple", "pear"):
            for value in (0, 1, None):
                said = step(new_id(), output=f"an {word}")
                thread_id = await self.make_thread(layer, user, said)
                made[word, value] = thread_id
                if value is not None:
                    await layer.upsert_feedback(
                        Feedback(forId=said["id"], value=cast("Any", value), threadId=thread_id)
                    )
        for value in (0, 1):
            both = await self.listed(layer, user.id, feedback=value)
            assert sorted(both) == sorted([made["apple", value], made["pear", value]])
            assert await self.listed(layer, user.id, feedback=value, search="PEAR") == [
                made["pear", value]
            ]
            page = await self.page(
                layer, user.id, first=1, feedback=cast("Any", value), search="an "
            )
            rest = await self.listed(
                layer,
                user.id,
                feedback=value,
                search="an ",
                cursor=page.pageInfo.endCursor,
            )
            assert sorted([page.data[0]["id"], *rest]) == sorted(both)
        assert len(await self.listed(layer, user.id, search="")) == 6


class LongThreadContract(Contract):
    """Conversations that are longer than a document of the database."""

    async def make_long(self, layer: BaseDataLayer, user: PersistedUser) -> list[StepDict]:
        """The steps of a thread ``t`` of 300 KiB; the first and the last say which they are."""
        texts = {0: "the zebra", 5: "the last"}
        steps = [step("t", n, output=f"{texts.get(n, n)} {'x' * 50 * 1024}") for n in range(6)]
        await self.make_thread(layer, user, *steps)
        await self.make_thread(layer, user, step("short", output="no such animal"))
        return steps

    async def test_a_long_thread_comes_back_whole(self, layer: BaseDataLayer) -> None:
        steps = await self.make_long(layer, await self.make_user(layer))
        read = (await self.read(layer, "t"))["steps"]
        assert [(s["id"], s["output"]) for s in read] == [(s["id"], s["output"]) for s in steps]

    async def test_search_finds_the_oldest_and_the_newest_step(self, layer: BaseDataLayer) -> None:
        user = await self.make_user(layer)
        await self.make_long(layer, user)
        for needle in ("Zebra", "the last"):
            assert await self.listed(layer, user.id, search=needle) == ["t"]
        assert await self.listed(layer, user.id, search="zebras") == []

    async def test_the_oldest_step_is_found_by_its_feedback(self, layer: BaseDataLayer) -> None:
        user = await self.make_user(layer)
        steps = await self.make_long(layer, user)
        await layer.upsert_feedback(Feedback(forId=steps[0]["id"], value=0, threadId="t"))
        assert await self.listed(layer, user.id, feedback=0) == ["t"]
        assert await self.listed(layer, user.id, feedback=1) == []
        assert await self.listed(layer, user.id, feedback=0, search="zebra") == ["t"]

    async def test_the_oldest_step_may_be_a_favorite(self, layer: BaseDataLayer) -> None:
        user = await self.make_user(layer)
        steps = await self.make_long(layer, user)
        for made in (steps[0], steps[-1]):
            await layer.set_step_favorite(step_dict=made, favorite=True)
        favorites = await layer.get_favorite_steps(user_id=user.id)
        assert [s["id"] for s in favorites] == [steps[-1]["id"], steps[0]["id"]]


class DataLayerContract(
    UserContract,
    ThreadContract,
    StepContract,
    FeedbackContract,
    FavoriteContract,
    ElementContract,
    ListContract,
    LongThreadContract,
):
    """The whole contract."""
