"""One turn of a chat, as Chainlit writes it, and the thread that it must leave.

The same thread, whatever the order of the calls, means: every step and element once; of each field
of a step the last update that has it, else what create says; feedback on its step; name, owner,
tags and metadata set; steps in the order of their times, parents first. Only updates of one item
keep their order among each other: the last one is the truth. The order of elements is not part of
it, as Chainlit gives them no time.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from chainlit.element import CustomElement, Image
from chainlit.types import Feedback

from mongo_datalayer import MongoDataLayer

Dict = dict[str, Any]

NAME = "What does $100.50 buy?"
TAGS = ["production", "a.b"]
METADATA: Dict = {"id": "session", "chat_settings": {"a.b": 1}, "client_type": "webapp", "$x": [0]}

_STEP: Dict = {
    "streaming": False,
    "isError": False,
    "waitForAnswer": False,
    "metadata": {},
    "input": "",
    "output": "",
    "showInput": "json",
}


@dataclass(frozen=True)
class Call:
    """One call of the data layer.

    Attributes:
        method: Name of the method.
        item: What it writes to: calls with the same item and ``ordered`` keep their order.
        make: Makes the arguments, anew for each call.
        ordered: Whether the call overrules earlier ones.
    """

    method: str
    item: str
    make: Callable[[], Dict]
    ordered: bool = True

    async def run(self, layer: MongoDataLayer) -> Any:
        return await getattr(layer, self.method)(**self.make())


class Turn:
    """The turn in the thread ``thread_id``, of the user ``user_id`` who is called alice."""

    def __init__(self, thread_id: str, user_id: str) -> None:
        self.thread_id = thread_id
        self.user_id = user_id
        self.message = self.step("message", None, 0, type="user_message", output=NAME)
        self.run = self.step("run", "message", 1, type="run", name="on_message")
        self.search = self.step("search", "run", 2, type="tool", input='{"query": "$100"}')
        self.model = self.step("model", "search", 3, type="llm", output="thinking", tags=["t"])
        self.answer = self.step("answer", "run", 4, type="assistant_message", output="Once")
        # Step by step: what each create and each update says.
        self.updates: list[Dict] = [
            {**self.message, "createdAt": None, "output": "edited on the way"},
            {"id": self.id("message"), "threadId": self.thread_id, "metadata": {"favorite": False}},
            {**self.run, "end": _time(9), "output": "", "isError": True},
            {**self.search, "end": _time(5), "output": "$$ROOT", "language": "json"},
            {**self.model, "createdAt": None, "output": "", "generation": {"$ref": "#/a.b"}},
            {**self.answer, "output": "Once upon", "defaultOpen": True},
            {**self.answer, "output": "Once upon a time.", "tags": ["late"]},
        ]

    def step(self, key: str, parent: str | None, second: int, **fields: Any) -> Dict:
        time = _time(second)
        own = {"name": key, "id": self.id(key), "threadId": self.thread_id}
        times = {"createdAt": time, "start": time, "parentId": parent and self.id(parent)}
        return {**_STEP, **own, **times, **fields}

    def id(self, key: str) -> str:
        return f"{self.thread_id}/{key}"

    @property
    def creates(self) -> list[Dict]:
        return [self.message, self.run, self.search, self.model, self.answer]

    @property
    def calls(self) -> list[Call]:
        """Every call of the turn, in the order in which Chainlit makes them."""
        return [
            Call("update_thread", "name", lambda: self._thread(name=NAME, user_id=self.user_id)),
            Call("update_thread", "tags", lambda: self._thread(tags=list(TAGS))),
            *(self._write("create_step", step) for step in self.creates),
            *(self._write("update_step", step) for step in self.updates),
            Call("create_element", "chart", lambda: {"element": self._chart()}),
            Call("create_element", "image", lambda: {"element": self._image()}),
            Call("upsert_feedback", "feedback", lambda: {"feedback": self._feedback(1, "good")}),
            Call("upsert_feedback", "feedback", lambda: {"feedback": self._feedback(0, None)}),
            Call("update_thread", "metadata", lambda: self._thread(metadata={"$x": 1, "old": 2})),
            Call(
                "update_thread",
                "metadata",
                lambda: self._thread(metadata={**copy.deepcopy(METADATA), "old": None}),
            ),
        ]

    def thread(self) -> Dict:
        """What get_thread must return in the end."""
        return {
            "id": self.thread_id,
            "createdAt": "2024-05-06T12:00:00Z",  # the first step's, to the millisecond
            "name": NAME,
            "userId": self.user_id,
            "userIdentifier": "alice",
            "tags": TAGS,
            "metadata": METADATA,
            "steps": [self.final(step) for step in self.creates],
            "elements": [self._chart_dict(), self._image_dict()],
        }

    def final(self, created: Dict) -> Dict:
        """A step in the end: what create says, overruled by each update in its order."""
        step = {**dict.fromkeys(_FIELDS), **created}
        for update in self.updates:
            if update["id"] == created["id"]:
                step |= {key: value for key, value in update.items() if value is not None}
        if created is self.run:
            step["feedback"] = {
                "id": self.id("vote"),
                "forId": created["id"],
                "value": 0,
                "comment": None,
            }
        return step

    def _write(self, method: str, step: Dict) -> Call:
        make = lambda: {"step_dict": copy.deepcopy(step)}  # noqa: E731 - takes the step, not a name
        return Call(method, step["id"], make, ordered=method == "update_step")

    def _thread(self, **changes: Any) -> Dict:
        return {"thread_id": self.thread_id, **changes}

    def _feedback(self, value: Any, comment: str | None) -> Feedback:
        return Feedback(
            id=self.id("vote"),
            forId=self.id("run"),
            value=value,
            threadId=self.thread_id,
            comment=comment,
        )

    def _image(self) -> Image:
        return Image(
            thread_id=self.thread_id,
            id=self.id("image"),
            for_id=self.id("answer"),
            name="picture",
            url="https://example.org/a.png",
            size="large",
        )

    def _chart(self) -> CustomElement:
        return CustomElement(
            thread_id=self.thread_id,
            id=self.id("chart"),
            for_id=self.id("search"),
            name="chart",
            props={"a.b": {"$set": [1, None]}},
        )

    def _chart_dict(self) -> Dict:
        return _element(self._chart())

    def _image_dict(self) -> Dict:
        return _element(self._image())


_FIELDS = (
    *("id", "threadId", "parentId", "name", "type", "streaming", "isError", "waitForAnswer"),
    *("metadata", "tags", "input", "output", "createdAt", "start", "end", "generation"),
    *("showInput", "defaultOpen", "autoCollapse", "language", "icon", "command", "modes"),
    "feedback",
)


def _element(element: Image | CustomElement) -> Dict:
    return {**element.to_dict()}


def _time(second: int) -> str:
    return f"2024-05-06T12:00:{second:02}.000{second:03}Z"
