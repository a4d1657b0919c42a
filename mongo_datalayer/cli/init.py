"""``mongo-datalayer init``: writes a small app that runs at once."""

from __future__ import annotations

import os
import re
import secrets
import shlex
from importlib.util import find_spec
from pathlib import Path

import click

from mongo_datalayer.cli.app import Failure
from mongo_datalayer.cli.terminal import print_line

STARTERS = Path(__file__).parents[1] / "demo" / "starters"
SECRET_BYTES = 48

_RUN = {
    "chainlit_app": "chainlit run app.py",
    "chatkit_app": "uvicorn app:app --env-file .env",
}
_OPEN = {
    "chainlit_app": "http://localhost:8000, and log in as alice with the password alice",
    "chatkit_app": "http://localhost:8000",
}
# A setting of .env.example that has no value is a secret.
_SECRET = re.compile(r"^(\w+_SECRET=)$", re.MULTILINE)


@click.command(epilog="Example: mongo-datalayer init my-chat")
@click.argument("folder", default=".", type=click.Path(file_okay=False, path_type=Path))
@click.option("--chatkit", is_flag=True, help="Write a ChatKit server instead of a Chainlit app.")
def init(folder: Path, *, chatkit: bool) -> None:
    """Write a small app that keeps its conversations in MongoDB.

    It runs at once. FOLDER is the current one, unless you name another. It gets app.py, .env with
    settings and a new secret, .env.example without the secret, compose.yaml for MongoDB in Docker,
    and a README. Files that exist already stay as they are.
    """
    starter = "chatkit_app" if chatkit else "chainlit_app"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in sorted(starter_files(starter).items()):
            _write(folder / name, text)
    except OSError as exc:
        raise Failure(f"{exc.filename} cannot be written: {exc.strerror}") from exc
    print_line("")
    if chatkit and find_spec("chatkit") is None:
        print_line("Install ChatKit:  pip install 'mongo-datalayer[chatkit]'")
    if folder.resolve() != Path.cwd():
        print_line(f"Go there:         cd {shlex.quote(str(folder))}")
    print_line("Start MongoDB:    docker compose up --detach --wait")
    print_line("                  or set MONGODB_URI in .env to a MongoDB that you have")
    print_line(f"Run the app:      {_RUN[starter]}")
    print_line(f"Open:             {_OPEN[starter]}")


def starter_files(starter: str) -> dict[str, str]:
    """Name and text of each file of a starter; ``.env`` has a new secret."""
    paths = [
        path
        for part in ("shared", starter)
        for path in (STARTERS / part).iterdir()
        if path.is_file() and path.name != "__init__.py"
    ]
    files = {path.name: path.read_text(encoding="utf-8") for path in paths}
    secret = secrets.token_urlsafe(SECRET_BYTES)
    return {**files, ".env": _SECRET.sub(rf"\g<1>{secret}", files[".env.example"])}


def _write(path: Path, text: str) -> None:
    # The secret is for its owner alone.
    mode = 0o600 if path.name == ".env" else 0o666
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError:
        print_line(f"Kept   {path}, which is there already")
        return
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    print_line(f"Wrote  {path}")
