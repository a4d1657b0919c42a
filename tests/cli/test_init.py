from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
import yaml
from click.testing import CliRunner, Result

from mongo_datalayer.cli import main
from tests.compose import make_replica_set, read_compose_file

FILES = {".env", ".env.example", ".gitignore", "README.md", "app.py", "compose.yaml"}


def init(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["init", *arguments])


@pytest.mark.parametrize(
    ("option", "files", "start"),
    [
        ([], FILES, "chainlit run app.py"),
        (["--chatkit"], {*FILES, "index.html"}, "uvicorn app:app --env-file .env"),
    ],
    ids=["chainlit", "chatkit"],
)
def test_it_writes_an_app_with_a_secret_of_its_own(
    option: list[str], files: set[str], start: str, tmp_path: Path
) -> None:
    done = [init(str(tmp_path / name), *option) for name in "ab"]

    assert [result.exit_code for result in done] == [0, 0]
    assert f"Go there:         cd {tmp_path / 'a'}\n" in done[0].output
    assert f"Run the app:      {start}\n" in done[0].output
    assert {path.name for path in (tmp_path / "a").iterdir()} == files
    assert start in (tmp_path / "a" / "README.md").read_text()
    first, second = ((tmp_path / name / ".env").read_text() for name in "ab")
    assert first != second
    assert "_SECRET=\n" not in first
    example = (tmp_path / "a" / ".env.example").read_text()
    assert "_SECRET=\n" in example
    assert first.startswith(example.partition("_SECRET=")[0])
    assert stat.S_IMODE((tmp_path / "a" / ".env").stat().st_mode) == 0o600


def test_it_overwrites_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "app.py").write_text("mine")
    (tmp_path / ".env").write_text("MONGODB_URI=mine")

    done = init()

    assert done.exit_code == 0
    assert "cd " not in done.output
    assert (tmp_path / "app.py").read_text() == "mine"
    assert (tmp_path / ".env").read_text() == "MONGODB_URI=mine"
    assert "Kept   app.py, which is there already" in done.output
    assert (tmp_path / "compose.yaml").is_file()


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    done = init(str(tmp_path / "file" / "app"))

    assert done.exit_code == 2
    assert "cannot be written: Not a directory" in done.output


def test_docker_understands_the_compose_file(tmp_path: Path) -> None:
    init(str(tmp_path))

    assert set(read_compose_file(tmp_path)["services"]) == {"mongodb"}


def test_the_health_check_makes_a_replica_set_that_takes_writes(tmp_path: Path) -> None:
    init(str(tmp_path))
    compose = yaml.safe_load((tmp_path / "compose.yaml").read_text())

    make_replica_set(compose["services"]["mongodb"], "localhost:27017", tmp_path / "data")


def test_the_chatkit_server_answers_its_visitor_alone(
    mongo_uri: str, database_name: str, tmp_path: Path
) -> None:
    init("--chatkit", str(tmp_path))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "app:app", "--env-file", ".env"]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--port", str(port)],
            cwd=tmp_path,
            env={**os.environ, "MONGODB_URI": mongo_uri, "MONGODB_DATABASE": database_name},
            stdout=log,
            stderr=log,
        )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as visitor:
            deadline = time.monotonic() + 60
            while not answers(visitor):
                assert process.poll() is None, (tmp_path / "log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.1)
            assert ask(visitor, "Hello").count("You said: Hello") >= 1
            assert titles(visitor) == ["Hello"]
            assert visitor.get("/readyz").json() == {"status": "ok"}
            gone = {"type": "threads.get_by_id", "params": {"thread_id": "thr_gone"}}
            assert visitor.post("/chatkit", json=gone).status_code == 404
            visitor.cookies.clear()
            assert visitor.post("/chatkit", json={}).status_code == 401
            visitor.get("/")
            assert titles(visitor) == []
    finally:
        process.terminate()
        process.wait(30)


def answers(visitor: httpx.Client) -> bool:
    try:
        return "openai-chatkit" in visitor.get("/").text
    except httpx.TransportError:
        return False


def ask(visitor: httpx.Client, text: str) -> str:
    said = {"content": [{"type": "input_text", "text": text}], "attachments": []}
    request = {"type": "threads.create", "params": {"input": {**said, "inference_options": {}}}}
    return visitor.post("/chatkit", json=request).raise_for_status().text


def titles(visitor: httpx.Client) -> list[str]:
    request = {"type": "threads.list", "params": {"limit": 10}}
    found = visitor.post("/chatkit", json=request).raise_for_status().json()
    return [thread["title"] for thread in found["data"]]
