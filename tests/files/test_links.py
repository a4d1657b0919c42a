from __future__ import annotations

import time
from urllib.parse import parse_qs, unquote, urlsplit

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mongo_datalayer.errors import ConfigurationError, StorageError
from mongo_datalayer.files import FileLinks
from tests.files.conftest import SECRET


def token_of(link: str) -> str:
    return parse_qs(urlsplit(link).query)["token"][0]


def test_a_link_permits_its_own_file_only(links: FileLinks) -> None:
    token = token_of(links.link("a/b c.png"))
    assert links.permits("a/b c.png", token)
    assert not links.permits("a/b c.pn", token)
    assert not links.permits("", token)
    assert not links.permits("a/b c.png", "")


def test_an_altered_token_is_worth_nothing(links: FileLinks) -> None:
    token = token_of(links.link("key"))
    for position in range(len(token)):
        changed = "A" if token[position] != "A" else "B"
        altered = token[:position] + changed + token[position + 1 :]
        # The last character of each part holds bits that base64 does not use.
        if not altered[position + 1 : position + 2].strip("."):
            continue
        assert not links.permits("key", altered)


def test_another_secret_and_no_secret_permit_nothing(links: FileLinks) -> None:
    token = token_of(links.link("key"))
    assert not FileLinks("another secret").permits("key", token)
    assert not FileLinks().permits("key", token)


def test_a_link_expires(links: FileLinks, monkeypatch: pytest.MonkeyPatch) -> None:
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() - 3590)
    alive = token_of(links.link("key"))
    monkeypatch.setattr(time, "time", lambda: real() - 3610)
    dead = token_of(links.link("key"))
    monkeypatch.setattr(time, "time", real)
    assert links.permits("key", alive)
    assert not links.permits("key", dead)


def test_login_tokens_and_links_cannot_stand_in_for_each_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from chainlit.auth.jwt import create_jwt, decode_jwt
    from chainlit.user import User

    monkeypatch.setenv("CHAINLIT_AUTH_SECRET", SECRET)
    links = FileLinks()
    assert not links.permits("key", create_jwt(User(identifier="key")))
    forged = {"aud": "mongo_datalayer.files", "sub": "key", "exp": time.time() + 60}
    assert not links.permits("key", jwt.encode(forged, SECRET, algorithm="HS256"))
    with pytest.raises(jwt.InvalidSignatureError):
        decode_jwt(token_of(links.link("key")))


@pytest.mark.parametrize("missing", ["aud", "sub", "exp"])
def test_tokens_that_say_less_are_refused(links: FileLinks, missing: str) -> None:
    claims = {"aud": "mongo_datalayer.files", "sub": "key", "exp": time.time() + 60}
    assert links.permits("key", jwt.encode(claims, links._signing_key(), algorithm="HS256"))
    del claims[missing]
    assert not links.permits("key", jwt.encode(claims, links._signing_key(), algorithm="HS256"))


def test_unsigned_tokens_are_refused(links: FileLinks) -> None:
    claims = {"aud": "mongo_datalayer.files", "sub": "key", "exp": time.time() + 60}
    assert not links.permits("key", jwt.encode(claims, "", algorithm="none"))


@given(st.text(), st.text())
def test_no_text_is_a_token(object_key: str, token: str) -> None:
    assert not FileLinks(SECRET).permits(object_key, token)


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_the_key_comes_back_from_the_path(object_key: str) -> None:
    if object_key in {".", ".."}:
        return
    link = FileLinks(SECRET).link(object_key)
    parts = urlsplit(link)
    assert parts.path.startswith("/mongo/files/")
    assert unquote(parts.path.removeprefix("/mongo/files/")) == object_key
    assert link.isascii()
    # Nothing in the path that an HTTP client would take away.
    assert not {"", ".", ".."} & set(parts.path.split("/")[1:])


@pytest.mark.parametrize("object_key", ["", ".", "..", "\ud800"])
def test_keys_that_cannot_be_linked(links: FileLinks, object_key: str) -> None:
    with pytest.raises(StorageError):
        links.link(object_key)


class TestEnvironment:
    def test_without_a_secret_the_error_says_what_to_set(self) -> None:
        links = FileLinks()
        with pytest.raises(ConfigurationError, match="MONGO_DATALAYER_FILES_SECRET") as caught:
            links.link("key")
        assert "CHAINLIT_AUTH_SECRET" in str(caught.value)

    def test_our_secret_goes_before_chainlits(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CHAINLIT_AUTH_SECRET", "chainlit")
        assert FileLinks("chainlit").permits("key", token_of(FileLinks().link("key")))
        monkeypatch.setenv("MONGO_DATALAYER_FILES_SECRET", "ours")
        assert FileLinks("ours").permits("key", token_of(FileLinks().link("key")))

    @pytest.mark.parametrize("blank", ["", "  "])
    def test_a_blank_secret_is_no_secret(self, monkeypatch: pytest.MonkeyPatch, blank: str) -> None:
        monkeypatch.setenv("MONGO_DATALAYER_FILES_SECRET", blank)
        with pytest.raises(ConfigurationError):
            FileLinks().link("key")
        with pytest.raises(ConfigurationError):
            FileLinks(blank)

    def test_the_lifetime(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert FileLinks(SECRET).seconds == 3600
        monkeypatch.setenv("MONGO_DATALAYER_FILES_LINK_SECONDS", "60")
        links = FileLinks(SECRET)
        claims = jwt.decode(token_of(links.link("key")), options={"verify_signature": False})
        assert 55 <= claims["exp"] - time.time() <= 60
        assert FileLinks(SECRET, seconds=5).seconds == 5

    def test_wrong_settings_are_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(ConfigurationError, match="-1"):
            FileLinks(SECRET, seconds=-1)
        for url in ("chat.example.org", "https://chat.example.org/?a=b", "ftp://x"):
            with pytest.raises(ConfigurationError, match=r"https://chat\.example\.org"):
                FileLinks(SECRET, url=url)
        monkeypatch.setenv("MONGO_DATALAYER_FILES_LINK_SECONDS", "soon")
        with pytest.raises(ConfigurationError, match="MONGO_DATALAYER_FILES_LINK_SECONDS"):
            FileLinks(SECRET).link("key")

    def test_the_root_path_of_chainlit(self, monkeypatch: pytest.MonkeyPatch) -> None:
        links = FileLinks(SECRET)
        assert links.link("key").startswith("/mongo/files/key?token=")
        monkeypatch.setenv("CHAINLIT_ROOT_PATH", "/")
        assert links.link("key").startswith("/mongo/files/key?token=")
        monkeypatch.setenv("CHAINLIT_ROOT_PATH", "/chat")
        assert links.link("key").startswith("/chat/mongo/files/key?token=")
        monkeypatch.setenv("CHAINLIT_PARENT_ROOT_PATH", "/site")
        assert links.link("key").startswith("/site/chat/mongo/files/key?token=")

    def test_a_public_address(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CHAINLIT_ROOT_PATH", "/chat")
        monkeypatch.setenv("MONGO_DATALAYER_FILES_URL", "https://example.org/chat/")
        assert FileLinks(SECRET).link("key").startswith("https://example.org/chat/mongo/files/key?")
        assert FileLinks(SECRET, url="/x").link("key").startswith("/x/mongo/files/key?token=")
