"""Signed links to files: a link lets its holder read one file until it expires."""

from __future__ import annotations

import hmac
import os
import time
from functools import cached_property
from urllib.parse import quote

import jwt

from mongo_datalayer.config import Settings
from mongo_datalayer.errors import ConfigurationError
from mongo_datalayer.files.stored_file import require_object_key

FILES_PATH = "/mongo/files"

_ALGORITHM = "HS256"
_AUDIENCE = "mongo_datalayer.files"
# A key of our own makes a login token useless here and a link useless as a login, though both come
# from one secret.
_KEY_PURPOSE = b"mongo_datalayer file links, version 1"

_NOT_SIGNABLE = (
    "Links to files cannot be signed: no secret is set. Set MONGO_DATALAYER_FILES_SECRET to a long "
    "random text, or CHAINLIT_AUTH_SECRET (`chainlit create-secret` makes one). All processes that "
    "serve one database need the same."
)


class FileLinks:
    """Makes and checks the links to stored files.

    What you leave out is read from the environment when the first link is made.

    Args:
        secret: Text the signing key is derived from; None for ``MONGO_DATALAYER_FILES_SECRET``,
            else Chainlit's ``CHAINLIT_AUTH_SECRET``.
        url: Public address of the app, as ``https://chat.example.org/root/path``, for apps embedded
            in other sites and routes mounted elsewhere. None for ``MONGO_DATALAYER_FILES_URL``,
            else links have no host and begin with Chainlit's root path.
        seconds: How long a link lives; None for ``MONGO_DATALAYER_FILES_LINK_SECONDS``, else 3600.

    Raises:
        ConfigurationError: ``secret`` is blank, ``url`` is no address, or ``seconds`` is not
            positive.
    """

    def __init__(
        self, secret: str | None = None, *, url: str | None = None, seconds: int | None = None
    ) -> None:
        if seconds is not None and seconds <= 0:
            raise ConfigurationError(f"A link must live for a positive time, not {seconds} s.")
        # Checked here: a mistake in the arguments shows at startup, not with the first link.
        self._key = None if secret is None else _signing_key(secret)
        self._prefix = None if url is None else _prefix(url)
        self._seconds = seconds

    def link(self, object_key: str) -> str:
        """A link to this file, whether it exists or not.

        Raises:
            ConfigurationError: no secret is set; the message says what to set.
            StorageError: the key cannot name a file.
        """
        address = f"{self.prefix}{path_of(object_key)}"
        return f"{address}?token={self.sign(object_key, _AUDIENCE)}"

    def require_secret(self) -> None:
        """Raise ConfigurationError where no secret is set; the message says what to set."""
        self._signing_key()

    def permits(self, object_key: str, token: str) -> bool:
        """Whether :meth:`link` made the token for this file and it has not expired."""
        return self.subject(token, _AUDIENCE) == object_key

    def sign(self, subject: str, audience: str) -> str:
        """A token that carries ``subject`` for one ``audience`` until it expires.

        Raises:
            ConfigurationError: no secret is set; the message says what to set.
        """
        claims = {"aud": audience, "sub": subject, "exp": int(time.time()) + self.seconds}
        return jwt.encode(claims, self._signing_key(), algorithm=_ALGORITHM)

    def subject(self, token: str, audience: str) -> str | None:
        """The subject of a valid token of :meth:`sign`; None for every other token."""
        # Without a secret there are no valid tokens: the answer is a refusal, not an error page.
        try:
            claims = jwt.decode(
                token,
                self._signing_key(),
                algorithms=[_ALGORITHM],
                audience=audience,
                options={"require": ["aud", "sub", "exp"]},
            )
        except (jwt.InvalidTokenError, ConfigurationError):
            return None
        return str(claims["sub"])

    @property
    def seconds(self) -> int:
        """How long a link lives, in seconds."""
        return self._environment.files_link_seconds if self._seconds is None else self._seconds

    @property
    def prefix(self) -> str:
        """The part of a link before ``/mongo/files``; empty for an app at the root."""
        if self._prefix is not None:
            return self._prefix
        if self._environment.files_url is not None:
            return _prefix(self._environment.files_url)
        # As Chainlit itself tells its frontend.
        parent = os.environ.get("CHAINLIT_PARENT_ROOT_PATH", "").rstrip("/")
        return parent + os.environ.get("CHAINLIT_ROOT_PATH", "").rstrip("/")

    @cached_property
    def _environment(self) -> Settings:
        return Settings.load()

    def _signing_key(self) -> bytes:
        if self._key is None:
            own = self._environment.files_secret
            chainlits = os.environ.get("CHAINLIT_AUTH_SECRET", "")
            self._key = _signing_key(chainlits if own is None else own.get_secret_value())
        return self._key


def path_of(object_key: str) -> str:
    """The path of a file below the app's root.

    Raises:
        StorageError: the key cannot name a file.
    """
    parts = require_object_key(object_key).split("/")
    # Many proxies refuse encoded slashes, and clients resolve `//`, `/./` and `/../`.
    ordinary = all(part not in {"", ".", ".."} for part in parts)
    return f"{FILES_PATH}/{quote(object_key, safe='/' if ordinary else '')}"


def _signing_key(secret: str) -> bytes:
    if not secret.strip():
        raise ConfigurationError(_NOT_SIGNABLE)
    # An environment variable may hold bytes that are no UTF-8.
    return hmac.digest(secret.encode(errors="surrogateescape"), _KEY_PURPOSE, "sha256")


def _prefix(url: str) -> str:
    if not url.startswith(("https://", "http://", "/")) or any(mark in url for mark in "?# "):
        raise ConfigurationError(
            f"{url!r} cannot be the address of the files. It should look like "
            "https://chat.example.org or https://chat.example.org/root/path."
        )
    return url.rstrip("/")
