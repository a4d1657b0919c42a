"""A history that was moved from another data layer, as its user sees it."""

from __future__ import annotations

import base64
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import expect

from tests.demo_process import DemoProcess
from tests.end_to_end.browser.chat import Chat
from tests.migrate.sources import NOON, SqliteSource

PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAA"
    "AABJRU5ErkJggg=="
)


def test_a_migrated_thread_shows_its_steps_in_order_its_picture_and_its_thumb(
    alice: Chat, demo: DemoProcess, tmp_path: Path
) -> None:
    thread_id = filled(tmp_path)
    command = [sys.executable, "-m", "mongo_datalayer.cli", "migrate", "run"]
    command += [str(tmp_path / "chainlit.db"), "--files", str(tmp_path / "files")]
    done = subprocess.run(
        [*command, "--uri", demo.mongo_uri, "--database", "chainlit"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr

    alice.page.reload()
    expect(alice.sidebar_entry(thread_id)).to_contain_text("From the old layer")
    alice.open(thread_id)

    kinds = [kind for kind, _ in alice.transcript() if kind != "run"]
    assert kinds == ["user_message", "tool", "assistant_message"]
    expect(alice.questions.first).to_contain_text("What did I ask before?")
    expect(alice.answers.last).to_contain_text("You asked this.")
    picture = alice.page.locator("img[alt='dot.png']")
    expect(picture).to_have_js_property("naturalWidth", 1)
    expect(alice.answers.last.locator("svg.lucide-thumbs-up")).to_be_visible()


def filled(folder: Path) -> str:
    """A source with one thread of alice's; its id."""
    source = SqliteSource(folder / "chainlit.db")
    # She has logged in at the new place, so she has another id there.
    user = source.add("users", identifier="alice", createdAt=NOON.format(0))
    thread = source.add("threads", name="From the old layer", userId=user, createdAt=NOON.format(0))
    run = source.add("steps", threadId=thread, type="run", name="on_message")
    steps = {"user_message": "What did I ask before?", "tool": "looked up"}
    for second, (kind, output) in enumerate(
        [*steps.items(), ("assistant_message", "You asked this.")]
    ):
        answer = source.add(
            "steps",
            threadId=thread,
            parentId=run,
            type=kind,
            name=kind,
            output=output,
            createdAt=NOON.format(second + 2),
        )
    key = f"{user}/picture/dot.png"
    source.add(
        "elements",
        threadId=thread,
        forId=answer,
        type="image",
        name="dot.png",
        mime="image/png",
        objectKey=key,
    )
    source.add("feedbacks", forId=run, threadId=thread, value=1)
    path = folder / "files" / key
    path.parent.mkdir(parents=True)
    path.write_bytes(base64.b64decode(PIXEL))
    source.connection.close()
    return thread
