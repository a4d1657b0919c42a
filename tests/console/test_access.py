"""Who gets in, and what every answer carries."""

from __future__ import annotations

import re
import shutil
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import httpx
import pytest
from pymongo.asynchronous.database import AsyncDatabase
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Mount

from mongo_datalayer.console import console_app, static_files
from mongo_datalayer.console.access import POLICY, named_by_header
from mongo_datalayer.console.static_files import StaticFolder
from mongo_datalayer.errors import ConfigurationError
from tests.console import hostile
from tests.console.conftest import TOKEN, browser
from tests.console.served_page import ServedPage

Database = AsyncDatabase[dict[str, Any]]
PASSWORD = "a password of the tests"
PAGES = (
    "/",
    "/conversation?id=x",
    "/text?id=x",
    "/feedback",
    "/feedback/counts",
    "/usage",
    "/mongo/files/x",
    "/nothing",
)


def csrf(answer: httpx.Response) -> str:
    found = re.search(r'name="csrf" value="([^"]+)"', answer.text)
    assert found is not None
    return found[1]


@pytest.mark.parametrize("path", PAGES)
async def test_a_stranger_sees_nothing(database: Database, path: str) -> None:
    async with browser(console_app(database, token=TOKEN)) as http:
        answer = await http.get(path)

        assert answer.status_code == 403
        assert "a link that works once" in answer.text
        assert (await http.post("/feedback", data={"feedback": "x"})).status_code == 403


async def test_a_link_works_once(database: Database) -> None:
    app = console_app(database, token=TOKEN)
    async with browser(app) as http, browser(app) as other:
        assert (await http.get("/login?token=wrong")).status_code == 403
        assert (await http.get("/login", params={"token": TOKEN})).status_code == 200
        assert (await http.get("/")).status_code == 200
        again = await other.get("/login", params={"token": TOKEN})

        assert again.status_code == 403
        assert "used before" in again.text
        assert (await other.get("/")).status_code == 403


async def test_a_password_with_a_name(database: Database) -> None:
    async with browser(console_app(database, password=PASSWORD)) as http:
        form = {"csrf": csrf(await http.get("/")), "name": "zoe"}
        refused = await http.post("/login", data={**form, "password": "no"})
        assert (refused.status_code, 'value="zoe"' in refused.text) == (403, True)
        bare = {"name": "zoe", "password": PASSWORD}
        assert (await http.post("/login", data=bare)).status_code == 403
        assert (await http.get("/usage")).url.path == "/login"
        entered = await http.post("/login", data={**form, "password": PASSWORD})
        assert (entered.status_code, entered.url.path) == (200, "/")
        assert "zoe" in entered.text
        # Each login has its own token: one from before is worth nothing.
        await http.post("/logout", data=form)
        assert (await http.get("/")).url.path == "/"

        await http.post("/logout", data={"csrf": csrf(entered)})
        assert (await http.get("/")).url.path == "/login"


async def test_passwords_cannot_be_tried_without_end(database: Database) -> None:
    async with browser(console_app(database, password=PASSWORD)) as http:
        form = {"csrf": csrf(await http.get("/")), "name": "zoe"}
        for _ in range(10):
            await http.post("/login", data={**form, "password": "no"})
        answer = await http.post("/login", data={**form, "password": PASSWORD})

    assert "too many" in answer.text
    assert answer.status_code == 403


async def test_in_an_app_of_ones_own(database: Database) -> None:
    await hostile.store(database)

    async def user(request: Request) -> str | None:
        return request.headers.get("x-person")

    app = Starlette(routes=[Mount("/team/console", console_app(database, user=user))])
    async with browser(app) as http:
        assert (await http.get("/team/console/")).status_code == 403
        http.headers["x-person"] = "zoe"
        listed = await http.get("/team/console/")
        opened = await http.get("/team/console/conversation?id=thread 1")
        charts = ServedPage((await http.get("/team/console/usage")).text)
        style = await http.get(charts.styles[0])
        scripts = [await http.get(script["src"] or "") for script in charts.scripts]

    assert 'href="/team/console/conversation?id=thread%201"' in listed.text
    assert (opened.status_code, style.status_code) == (200, 200)
    assert [script.status_code for script in scripts] == [200, 200]
    assert all("javascript" in script.headers["content-type"] for script in scripts)
    assert "Log out" not in listed.text
    assert [entry["who"] async for entry in database.console_audit.find()] == ["zoe"]


async def test_an_app_that_names_nobody_by_a_text_is_told(database: Database) -> None:
    app = console_app(database, user=lambda _request: True)  # type: ignore[arg-type, return-value]
    async with browser(app) as http:
        with pytest.raises(ConfigurationError, match="the name of the person or None, not bool"):
            await http.get("/")
    with pytest.raises(ConfigurationError, match="takes a function of the request, not 'zoe'"):
        console_app(database, user="zoe")  # type: ignore[arg-type]


async def test_a_proxy_names_the_person_in_one_header(database: Database) -> None:
    await hostile.store(database)
    app = console_app(database, user=named_by_header("X-Forwarded-User"))
    name = ("X-Forwarded-User", "zoe")
    async with browser(app) as http:
        refused: list[list[tuple[str, str]]] = [
            [],
            [("X-Forwarded-User", " ")],
            [("X-User", "zoe")],
            # The proxy added its own to the one that somebody sent.
            [("x-forwarded-user", "admin"), name],
        ]
        for headers in refused:
            answer = await http.get("/", headers=headers)
            assert (answer.status_code, "logged in" in answer.text) == (403, True), headers
        opened = await http.get("/conversation?id=thread 1", headers=[name])

    assert opened.status_code == 200
    assert [entry["who"] async for entry in database.console_audit.find()] == ["zoe"]


@pytest.mark.parametrize("header", ["", "X User", "X-User:", "Benutzer\n", "Ä"])
def test_a_name_that_no_header_has(header: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot be the name of a header"):
        named_by_header(header)


@pytest.mark.parametrize("secure", [True, False])
async def test_the_cookie_stays_on_https_where_it_should(database: Database, secure: bool) -> None:
    async with browser(console_app(database, token=TOKEN, secure_cookie=secure)) as http:
        answer = await http.get("/login", params={"token": TOKEN}, follow_redirects=False)

    assert ("; secure" in answer.headers["set-cookie"].lower()) == secure


CHARTS = ("/usage", "/usage?show=tools", "/usage?show=models", "/feedback/counts")


@pytest.mark.parametrize(
    "path",
    [
        *("/", "/feedback", "/usage?show=storage", "/no", "/conversation?id=thread 1"),
        *("/conversation?id=none", "/text?id=thread 1&step=step 0", "/feedback/counts?since=x"),
        *("/feedback/counts?tool=none", "/usage?days=7&show=storage"),
        *("/static/console.css", "/static/0000/charts.js"),
        *CHARTS,
    ],
)
async def test_every_answer_is_protected(
    http: httpx.AsyncClient, database: Database, path: str
) -> None:
    await database.threads.insert_one(hostile.hostile_usage(datetime.now(timezone.utc)))
    headers = (await http.get(path)).headers

    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert ("script-src" in policy) is (path in CHARTS)
    # Whole texts have the policy of files, whose styles may be in the text.
    assert "unsafe" not in policy.replace("style-src 'unsafe-inline'", "")
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-store"


@pytest.mark.parametrize("path", CHARTS)
async def test_only_the_scripts_of_charts_run(
    http: httpx.AsyncClient, database: Database, path: str
) -> None:
    await database.threads.insert_one(hostile.hostile_usage(datetime.now(timezone.utc)))
    answers = [await http.get(path) for _ in range(2)]
    nonces = [answer.headers["content-security-policy"].split("'nonce-")[1] for answer in answers]

    assert len(set(nonces)) == 2
    for answer, nonce in zip(answers, nonces, strict=True):
        policy = f"{POLICY}; script-src 'nonce-{nonce}"
        assert answer.headers["content-security-policy"] == policy
        value = nonce.removesuffix("'")
        page = ServedPage(answer.text)
        assert page.scripts == [
            {"defer": None, "nonce": value, "src": f"{StaticFolder().path}/{name}"}
            for name in ("chart.umd.min.js", "charts.js")
        ]
        assert answer.text.count(value) == 2
        assert page.harmful == []
        assert page.charts
        assert set(page.tables) <= set(page.ids)
    if path.endswith("tools"):
        assert page.charts[0]["labels"] == [hostile.CHART]


@pytest.mark.parametrize("name", ["console.css", "icon.svg", "charts.js", "chart.umd.min.js"])
async def test_a_browser_may_keep_what_its_address_names(
    http: httpx.AsyncClient, name: str
) -> None:
    page = ServedPage((await http.get("/usage")).text)
    scripts = [script["src"] or "" for script in page.scripts]
    (address,) = (a for a in [*page.styles, *scripts] if a.endswith(f"/{name}"))
    answer = await http.get(address)
    again = await http.get(address, headers={"if-none-match": answer.headers["etag"]})

    assert (answer.status_code, again.status_code) == (200, 304)
    for found in (answer, again):
        # Private: it carries the cookie of the session.
        assert found.headers["cache-control"] == "private, max-age=31536000, immutable"
        assert found.headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in found.headers["content-security-policy"]


def test_other_files_have_another_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = StaticFolder().path
    folder = shutil.copytree(static_files.FOLDER, tmp_path / "static")
    monkeypatch.setattr(static_files, "FOLDER", folder)
    assert StaticFolder().path == before

    (folder / "console.css").write_text("body {}")

    assert StaticFolder().path != before


async def test_the_cookie_is_signed_and_kept_from_scripts(database: Database) -> None:
    async with browser(console_app(database, token=TOKEN)) as http:
        answer = await http.get("/login", params={"token": TOKEN}, follow_redirects=False)
        cookie = answer.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=lax" in cookie
        value = http.cookies["mongo_datalayer_console"]
        http.cookies.clear()
        http.cookies.set("mongo_datalayer_console", "x" + value)
        assert (await http.get("/")).status_code == 403


async def test_a_large_form_is_not_read(http: httpx.AsyncClient) -> None:
    assert (await http.post("/feedback", data={"here": "x" * 100_000})).status_code == 413


@pytest.mark.parametrize(
    "arguments",
    [{}, {"token": TOKEN, "password": PASSWORD}, {"password": "short"}, {"token": "short"}],
)
async def test_a_console_without_a_safe_login_is_refused(
    database: Database, arguments: dict[str, Any]
) -> None:
    with pytest.raises(ConfigurationError):
        console_app(database, **arguments)
