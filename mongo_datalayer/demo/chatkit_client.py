"""Talks to :mod:`mongo_datalayer.demo.chatkit_app` over HTTP, as ChatKit's web client does.

``python -m mongo_datalayer.demo.chatkit_client [ADDRESS]`` shows each request and its answer.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import click
import httpx

ADDRESS = "http://localhost:8000"
IMAGE = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c489"
    "0000000d49444154789c6360606060000000050001a5f645400000000049454e44ae426082"
)


class ChatKitClient:
    """One visitor's browser.

    Args:
        http: Speaks to the app.
        user_id: Who asks.
    """

    def __init__(self, http: httpx.Client, user_id: str) -> None:
        self._http = http
        self._headers = {"x-user": user_id}

    def ask(self, type: str, **params: Any) -> Any:  # noqa: A002 - ChatKit's name
        """Send a request that has one answer."""
        response = self._http.post(
            "/chatkit", json={"type": type, "params": params}, headers=self._headers
        )
        return response.raise_for_status().json()

    def stream(self, type: str, **params: Any) -> Iterator[Any]:  # noqa: A002
        """Send a request that is answered with a stream of events."""
        request = {"type": type, "params": params}
        with self._http.stream("POST", "/chatkit", json=request, headers=self._headers) as response:
            for line in response.raise_for_status().iter_lines():
                if line.startswith("data: "):
                    yield json.loads(line.removeprefix("data: "))

    def upload(self, attachment: dict[str, Any], content: bytes) -> int:
        """Send an announced file where its descriptor says; the status of the answer."""
        where = attachment["upload_descriptor"]
        return self._http.request(
            where["method"], where["url"], content=content, headers=where["headers"]
        ).status_code


def said(text: str, *attachments: str) -> dict[str, Any]:
    """What a person sends."""
    return {
        "content": [{"type": "input_text", "text": text}],
        "attachments": list(attachments),
        "inference_options": {},
    }


def tell(what: str, answer: object) -> None:
    """Show a request and its answer."""
    click.echo(f"{what:<10} {answer}")


def converse(client: ChatKitClient, http: httpx.Client) -> None:
    """One visit, with every kind of request."""
    events = list(client.stream("threads.create", input=said("Hello from the client")))
    thread_id = events[0]["thread"]["id"]
    tell("create", thread_id)
    deltas = [e["update"]["delta"] for e in events if e["type"] == "thread.item.updated"]
    tell("stream", f"{len(deltas)} pieces: {''.join(deltas)}")

    announced = client.ask(
        "attachments.create", name="dot.png", size=len(IMAGE), mime_type="image/png"
    )
    tell("announce", f"{announced['upload_descriptor']['method']} {announced['name']}")
    tell("attach", client.upload(announced, IMAGE))
    tell("again", client.upload(announced, IMAGE))
    tell("another", client.upload(announced, IMAGE[::-1]))
    preview = http.get(announced["preview_url"])
    tell("preview", f"{preview.status_code} {preview.headers['content-type']}")
    look = said("Look", announced["id"])
    tell(
        "message", _last(client.stream("threads.add_user_message", thread_id=thread_id, input=look))
    )

    where = said("Where am I?")
    tell(
        "tool call",
        _last(client.stream("threads.add_user_message", thread_id=thread_id, input=where)),
    )
    output = client.stream(
        "threads.add_client_tool_output", thread_id=thread_id, result={"city": "Aachen"}
    )
    tell("output", _last(output))

    first = client.ask("items.list", thread_id=thread_id, limit=4, order="asc")
    after = first["after"]
    rest = client.ask("items.list", thread_id=thread_id, limit=20, order="asc", after=after)
    items = [*first["data"], *rest["data"]]
    tell("page", f"{len(first['data'])} + {len(rest['data'])} items")
    tell("list", [t["title"] for t in client.ask("threads.list", limit=10)["data"]])

    answer = next(item for item in items if item["type"] == "assistant_message")
    client.ask("items.feedback", thread_id=thread_id, item_ids=[answer["id"]], kind="positive")
    tell("feedback", "positive")
    question = items[0]["id"]
    list(client.stream("threads.retry_after_item", thread_id=thread_id, item_id=question))
    left = client.ask("items.list", thread_id=thread_id, order="asc")["data"]
    tell("retry", [item["type"] for item in left])

    stranger = ChatKitClient(http, "somebody else")
    tell("stranger", stranger.ask("threads.list")["data"])
    client.ask("attachments.delete", attachment_id=announced["id"])
    tell("detach", http.get(announced["preview_url"]).status_code)
    client.ask("threads.delete", thread_id=thread_id)
    tell("delete", client.ask("threads.list")["data"])


def _last(events: Iterator[Any]) -> str:
    """What the last finished item is."""
    items = [event["item"] for event in events if event["type"] == "thread.item.done"]
    item = items[-1]
    return f"{len(items)} items, the last a {item['type']}"


def main() -> None:
    """Visit the app at the address on the command line."""
    address = sys.argv[1] if len(sys.argv) > 1 else ADDRESS
    with httpx.Client(base_url=address, timeout=30) as http:
        converse(ChatKitClient(http, "ada"), http)


if __name__ == "__main__":
    main()
