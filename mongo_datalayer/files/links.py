"""Signed links to files: who has one may read that one file until it expires."""

from __future__ import annotations

import hmac
import os
import time
from urllib.parse import quote

import jwt

from mongo_datalayer.config import Settings
from mongo_datalayer.errors import ConfigurationError
from mongo_datalayer.files.documents import require_object_key

FILES_PATH = "/mongo/files"

_ALGORITHM = "HS256"
_AUDIENCE = "mongo_datalayer.files"
# Signing with a key of our own makes a login token useless here and a link useless as a login,
# though both come from one secret.
_KEY_PURPOSE = b"mongo_datalayer file links, version 1"

_NOT_SIGNABLE = (
    "Links to files cannot be signed: no secret is set. Set MONGO_DATALAYER_FILES_SECRET to a long "
    "random text, or CHAINLIT_AUTH_SECRET (`chainlit create-secret` makes one). All processes that "
    "serve one database need the same."
)


class FileLinks:
    """Makes and checks the links to stored files.

    What is left out is read from the environment when the first link is made.

    Args:
        secret: Text the signing key is derived from; None for ``MONGO_DATALAYER_FILES_SECRET``,
            else Chainlit's ``CHAINLIT_AUTH_SECRET``.
        url: Address under which the app is reached, its root path included, as
            ``https://chat.example.org/app``; for apps embedded in other sites, or a route that is
            mounted elsewhere. None for ``MONGO_DATALAYER_FILES_URL``, else links without a host,
            below Chainlit's root path.
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
        self._key = None if secret is None else _signing_key(secret)
        self._prefix = None if url is None else _prefix(url)
        self._seconds = seconds
        self._settings: Settings | None = None

    def link(self, object_key: str) -> str:
        """A link that reads this file until it expires. Nothing is asked of the database.

        Raises:
            ConfigurationError: no secret is set; the message says what to set.
            StorageError: the key cannot name a file.
        """
        address = f"{self.prefix}{path_of(object_key)}"
        return f"{address}?token={self.sign(object_key, _AUDIENCE)}"

    def permits(self, object_key: str, token: str) -> bool:
        """Whether the token was made by :meth:`link` for this file and has not expired.

        False, too, where no secret is set: then no such link exists.
        """
        return self.subject(token, _AUDIENCE) == object_key

    def sign(self, subject: str, audience: str) -> str:
        """A token that carries ``subject`` for one ``audience`` until it expires.

        Raises:
            ConfigurationError: no secret is set; the message says what to set.
        """
        claims = {"aud": audience, "sub": subject, "exp": int(time.time()) + self.seconds}
        return jwt.encode(claims, self._signing_key(), algorithm=_ALGORITHM)

    def subject(self, token: str, audience: str) -> str | None:
        """What :meth:`sign` was given; None where the token is not for ``audience``, or expired."""
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
        """What stands before ``/mongo/files`` in a link; empty for an app at the root."""
        if self._prefix is not None:
            return self._prefix
        if self._environment.files_url is not None:
            return _prefix(self._environment.files_url)
        return root_path()

    @property
    def _environment(self) -> Settings:
        if self._settings is None:
            self._settings = Settings.load()
        return self._settings

    def _signing_key(self) -> bytes:
        if self._key is None:
            self._key = _signing_key(self._secret_of_environment())
        return self._key

    def _secret_of_environment(self) -> str:
        own = self._environment.files_secret
        if own is not None:
            return own.get_secret_value()
        return os.environ.get("CHAINLIT_AUTH_SECRET", "")


def root_path() -> str:
    """The path under which browsers reach Chainlit, as Chainlit itself tells its frontend."""
    parent = os.environ.get("CHAINLIT_PARENT_ROOT_PATH", "").rstrip("/")
    return parent + os.environ.get("CHAINLIT_ROOT_PATH", "").rstrip("/")


def path_of(object_key: str) -> str:
    """The path of a file below the app's root.

    Slashes of the key stay where they can: many proxies refuse encoded ones.

    Raises:
        StorageError: the key cannot name a file.
    """
    parts = require_object_key(object_key).split("/")
    ordinary = all(part not in {"", ".", ".."} for part in parts)
    return f"{FILES_PATH}/{quote(object_key, safe='/' if ordinary else '')}"


def _signing_key(secret: str) -> bytes:
    if not secret.strip():
        raise ConfigurationError(_NOT_SIGNABLE)
    return hmac.digest(secret.encode(errors="surrogateescape"), _KEY_PURPOSE, "sha256")


def _prefix(url: str) -> str:
    if not url.startswith(("https://", "http://", "/")) or any(mark in url for mark in "?# "):
        raise ConfigurationError(
            f"{url!r} cannot be the address of the files. It should look like "
            "https://chat.example.org or https://chat.example.org/root/path."
        )
    return url.rstrip("/")
