"""The built package in a new environment: the first minutes of a person, and each extra."""

from __future__ import annotations

import re
import shlex
import sqlite3
import zipfile
from collections.abc import Callable, Iterator
from email.parser import HeaderParser
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect
from pymongo import MongoClient

from mongo_datalayer.demo.sample_files import picture
from tests.docs.pages import DOCS, README, ROOT, code_blocks, page_name
from tests.end_to_end.browser.chat import Chat
from tests.end_to_end.browser.test_chat import wait_until
from tests.end_to_end.chromium import running_browser
from tests.end_to_end.installed.app import App
from tests.end_to_end.installed.new_environment import NewEnvironment
from tests.end_to_end.installed.uses import USES
from tests.migrate.sources import TABLES
from tests.programs import require_chromium, require_mongosh

PIP = re.compile(r"^(?:RUN )?pip install (?:--no-cache-dir )?(.+)$", re.MULTILINE)
CHECKOUT = re.compile(r"^(?:\.|\./mongo-datalayer|/path/to/checkout)(?=\[|$)")
"""How the pages name the folder of the package, before the extras in brackets."""


def requirements(page: Path) -> list[list[str]]:
    """What each `pip install` on a page installs."""
    shell = [block for name in ("sh", "bash", "dockerfile") for block in code_blocks(page, name)]
    return [shlex.split(line) for block in shell for line in PIP.findall(block)]


DEVELOPMENT = {"bench", "check", "docs", "test", "versions"}
"""The extras of those who work on the package itself."""
PAGES = [page for page in (README, *sorted(DOCS.glob("*.md"))) if requirements(page)]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> NewEnvironment:
    lines = [line for page in PAGES for line in requirements(page)]
    others = {name for line in lines for name in line if not is_own(name)}
    return NewEnvironment(
        tmp_path_factory.mktemp("environment"), extras=[*USES], others=sorted(others)
    )


def is_own(requirement: str) -> bool:
    return bool(CHECKOUT.match(requirement)) or requirement.startswith("mongo-datalayer")


# The first minutes ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_browser(require_chromium()) as browser:
        yield browser


@pytest.fixture
def run(
    environment: NewEnvironment, mongo_uri: str, database_name: str
) -> Iterator[Callable[..., App]]:
    """Starts the app in a folder."""
    apps: list[App] = []

    def run(folder: Path, **variables: str) -> App:
        where = {"MONGODB_URI": mongo_uri, "MONGODB_DATABASE": database_name}
        app = App(folder, {**environment.variables, **where, **variables})
        apps.append(app)
        app.start()
        return app

    yield run
    for app in apps:
        app.stop()


def resume_a_picture(app: App, browser: Browser, mongo_uri: str, database_name: str) -> None:
    """Send a picture, start the app again, and see the picture in the resumed conversation."""
    context = browser.new_context(locale="en-US", viewport={"width": 1280, "height": 800})
    chat = Chat(context.new_page(), app.address)
    chat.log_in("alice")
    chat.attach("Look at this", "picture.png", "image/png", picture())
    thread_id = chat.thread_id
    with MongoClient[dict[str, Any]](mongo_uri) as client:
        threads = client[database_name].threads
        wait_until(lambda: threads.count_documents({"elements.objectKey": {"$exists": True}}) == 1)
    app.stop()
    app.start()

    chat.open(thread_id)

    shown = chat.questions.first.locator("img[alt='picture.png']")
    expect(shown).to_have_js_property("naturalWidth", 320)
    context.close()


def test_the_lines_of_the_readme_are_enough(
    environment: NewEnvironment,
    run: Callable[..., App],
    browser: Browser,
    mongo_uri: str,
    database_name: str,
    tmp_path: Path,
) -> None:
    install, setup = code_blocks(README, "sh")[0].splitlines()
    assert install == "pip install ."  # which is what the environment holds
    code = code_blocks(DOCS / "getting-started.md", "python")[0]
    assert code.startswith(code_blocks(README, "python")[0])
    (tmp_path / "app.py").write_text(code)

    setup = setup.replace("mongodb://localhost:27017", mongo_uri)
    done = environment.run(setup, tmp_path, MONGODB_DATABASE=database_name)
    assert done.returncode == 0, done.stderr
    app = run(tmp_path, CHAINLIT_AUTH_SECRET="a secret of the tests, long enough to sign with")
    resume_a_picture(app, browser, mongo_uri, database_name)
    (look,) = (line for line in code_blocks(DOCS / "getting-started.md", "sh") if "mongosh" in line)
    require_mongosh()
    seen = environment.run(
        look.replace("mongodb://localhost:27017/chainlit", f"{mongo_uri}/{database_name}"), tmp_path
    )

    assert "Look at this" in seen.stdout, seen
    assert "Traceback" not in app.log
    assert f", database {database_name}." in app.log
    assert "WARNING - mongo_datalayer" not in app.log


def test_an_app_of_init_runs_at_once(
    environment: NewEnvironment,
    run: Callable[..., App],
    browser: Browser,
    mongo_uri: str,
    database_name: str,
    tmp_path: Path,
) -> None:
    done = environment.run("mongo-datalayer init my-chat", tmp_path)
    assert done.returncode == 0, done.stderr

    app = run(tmp_path / "my-chat")
    resume_a_picture(app, browser, mongo_uri, database_name)

    assert "Traceback" not in app.log
    assert "WARNING - mongo_datalayer" not in app.log


# What is installed ------------------------------------------------------------------------------


def test_the_wheel_holds_every_file_of_the_package(environment: NewEnvironment) -> None:
    paths = (ROOT / "mongo_datalayer").rglob("*")
    files = {str(path.relative_to(ROOT)) for path in paths if path.is_file()}

    with zipfile.ZipFile(environment.wheel) as wheel:
        packed = {name for name in wheel.namelist() if name.startswith("mongo_datalayer/")}

    assert packed == {name for name in files if "__pycache__" not in name}


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_the_packages_of_a_page_can_be_installed(page: Path, environment: NewEnvironment) -> None:
    for line in requirements(page):
        names = [CHECKOUT.sub(str(environment.wheel), name) for name in line]
        environment.install("--dry-run", *names)


def test_the_script_of_the_indexes_needs_the_packages_of_its_page(
    environment: NewEnvironment, mongo_uri: str, database_name: str, tmp_path: Path
) -> None:
    (names,) = requirements(DOCS / "administration.md")
    environment.install("--target", str(tmp_path / "packages"), *names)
    options = f"--uri {mongo_uri} --database {database_name}"

    done = environment.run(
        f"python -S {ROOT}/scripts/create_indexes.py {options}",  # -S: without the environment's
        tmp_path,
        PYTHONPATH=str(tmp_path / "packages"),
    )

    assert done.returncode == 0, done.stderr
    assert "created" in done.stdout


def test_every_extra_of_a_user_has_a_use(environment: NewEnvironment) -> None:
    with zipfile.ZipFile(environment.wheel) as wheel:
        (name,) = (name for name in wheel.namelist() if name.endswith("/METADATA"))
        metadata = HeaderParser().parsestr(wheel.read(name).decode())

    assert set(metadata.get_all("Provides-Extra", [])) - DEVELOPMENT == set(USES)


@pytest.mark.parametrize("extra", USES)
def test_an_extra_brings_what_its_use_needs(
    extra: str, environment: NewEnvironment, mongo_uri: str, tmp_path: Path
) -> None:
    use = USES[extra]
    (tmp_path / "program.py").write_text(use.program)
    with sqlite3.connect(tmp_path / "old.db") as old:
        for name, columns in TABLES.items():
            old.execute(f"CREATE TABLE {name} ({columns})")
    old.close()
    line = f"pip install 'mongo-datalayer[{extra}]'"

    without = environment.run(use.script, tmp_path, MONGODB_URI=mongo_uri)
    environment.install(f"mongo-datalayer[{extra}]")
    done = environment.run(use.script, tmp_path, MONGODB_URI=mongo_uri)
    environment.uninstall_extras()

    assert without.returncode != 0
    said = f"{without.stdout}{without.stderr}".replace('"', "'")
    assert (line if use.names_extra else "No module named") in said
    assert done.returncode == 0, done.stderr
    assert re.search(use.shows, done.stdout), done.stdout
