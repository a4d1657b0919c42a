"""Settings read from the environment."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from mongo_datalayer.errors import ConfigurationError

DEFAULT_DATABASE = "chainlit"
MAX_DATABASE_BYTES = 63
"""How long the name of a database may be: MongoDB's bound."""

MAX_BUCKET_BYTES = 180
"""How long the name of a bucket may be: MongoDB's bound is on the database, dot and collection."""

DEFAULT_TIMEOUT_MS = 20_000
DEFAULT_LINK_SECONDS = 3600

LEAST_SERVER = (5, 0)
"""The oldest MongoDB that works: the first whose ``$lookup`` takes a field and a pipeline."""

LEAST_SERVER_OF_VIEWS = (5, 2)
"""The first MongoDB that knows ``$sortArray``, which the views need."""

BUCKET = "fs"
"""The GridFS bucket of large values, and of files unless the app names another one."""

TOMBSTONE_SECONDS = 24 * 3600
"""How long a tombstone keeps late writes from bringing back what was deleted."""

DELETED_ITEMS_KEPT = 1000
"""How many deleted steps or items a thread remembers."""

WAITING_FEEDBACK = 100
"""How much feedback may wait in a thread for steps that are not stored yet."""

WAITING_FEEDBACK_BYTES = 64 * 1024
"""How large each of it may be, and all that a thread's document holds of it."""

FULL_BYTES = 4 * 1024 * 1024
"""Items of a document that has grown to this size, by updates, wait until it has room."""

SEARCH_SECONDS = 5.0
"""How long one search may keep the server busy: a person waits for it, and may search again."""

RUN_DOCTOR = "Run `mongo-datalayer doctor`."
"""What a log line adds where the doctor tells more."""

CLOSE_SECONDS = 10.0
"""How long close() waits for writes that are on their way."""

UPLOAD_BYTES_PER_SECOND = 8 * 1024
"""An upload to ChatKit's route that is slower is cut off, after :data:`UPLOAD_GRACE_SECONDS`."""

UPLOAD_GRACE_SECONDS = 30.0
"""How much longer an upload may take than its size at the slowest rate."""


class Settings(BaseSettings):
    """What the environment says; every field is one variable.

    ``MONGODB_URI`` and ``MONGODB_DATABASE`` carry the names other MongoDB software uses; all other
    variables begin with ``MONGO_DATALAYER_``. A blank variable counts as not set.
    """

    # Docker Compose makes an empty variable of ${NAME:-}.
    model_config = SettingsConfigDict(
        env_prefix="MONGO_DATALAYER_", env_ignore_empty=True, extra="ignore"
    )

    uri: str | None = Field(
        default=None,
        validation_alias="MONGODB_URI",
        description="Where MongoDB is: a `mongodb://` or `mongodb+srv://` URI.",
    )
    database: str | None = Field(
        default=None,
        validation_alias="MONGODB_DATABASE",
        description="Name of the database.",
    )
    timeout_ms: int = Field(
        default=DEFAULT_TIMEOUT_MS,
        gt=0,
        description="How long one operation may take, retries included, in milliseconds.",
    )
    server_api: Literal["1", "1-strict"] | None = Field(
        default=None,
        description="MongoDB's Stable API: `1`, or `1-strict` to refuse all that is not in it.",
    )
    mongod: str | None = Field(
        default=None,
        description="Path of the `mongod` program that the demo and the tests start.",
    )
    files_secret: SecretStr | None = Field(
        default=None,
        description="Secret that signs the links to files; else `CHAINLIT_AUTH_SECRET` does.",
    )
    files_url: str | None = Field(
        default=None,
        description=(
            "Public address of the app, root path included, for links to files that are followed "
            "from other sites; else links carry no host."
        ),
    )
    files_link_seconds: int = Field(
        default=DEFAULT_LINK_SECONDS,
        gt=0,
        description="How long a link to a file lives, in seconds.",
    )

    @model_validator(mode="before")
    @classmethod
    def _without_blanks(cls, values: dict[str, Any]) -> dict[str, Any]:
        return {
            name: value
            for name, value in values.items()
            if not isinstance(value, str) or value.strip()
        }

    @classmethod
    def load(cls, env_file: str | None = None) -> Settings:
        """Read the environment.

        Args:
            env_file: A file with more variables, if it exists. The environment wins.

        Raises:
            ConfigurationError: a variable has a value that cannot be used; the message names it.
        """
        try:
            return cls(_env_file=env_file)  # type: ignore[call-arg]  # pydantic-settings' own
        except ValidationError as exc:
            raise ConfigurationError(_explain(exc)) from exc
        except (OSError, UnicodeError) as exc:
            raise ConfigurationError(f"{env_file} cannot be read: {exc}") from exc

    def require_uri(self, front: str = "MongoDataLayer") -> str:
        """The URI.

        Args:
            front: Name of the class that connects, for the message.

        Raises:
            ConfigurationError: ``MONGODB_URI`` is not set.
        """
        if self.uri is None:
            raise ConfigurationError(
                "MONGODB_URI is not set. Set it to the address of your MongoDB, for example "
                f"MONGODB_URI=mongodb://localhost:27017, or pass the URI to {front}(...)."
            )
        return self.uri.strip()

    def database_name(self) -> str | None:
        """The name of the database; None where the environment names none.

        Raises:
            ConfigurationError: MongoDB does not accept the name.
        """
        if self.database is not None:
            check_database_name(self.database, "MONGODB_DATABASE")
        return self.database


def check_database_name(name: object, source: str) -> None:
    """Raise ConfigurationError unless MongoDB accepts ``name``; ``source`` is where it is from."""
    if problem := _problem_of_name(name, ' ./\\"$\0', MAX_DATABASE_BYTES):
        raise ConfigurationError(f"{source}={name!r} cannot be the name of a database: {problem}.")


def check_bucket_name(name: object, source: str) -> None:
    """The same for the name of a GridFS bucket."""
    problem = _problem_of_name(name, "$\0", MAX_BUCKET_BYTES)
    text = str(name)
    if not problem and (text.startswith((".", "system.")) or text.endswith(".") or ".." in text):
        problem = "its collections would have no valid names"
    if problem:
        raise ConfigurationError(f"{source}={name!r} cannot be a GridFS bucket: {problem}.")


def _problem_of_name(name: object, forbidden: str, most_bytes: int) -> str:
    """Why MongoDB does not accept a name; empty if it does."""
    if not isinstance(name, str):
        return f"it is text, not {type(name).__name__}"
    if not name:
        return "it is empty"
    if found := [character for character in name if character in forbidden]:
        return f"{found[0]!r} is not allowed in it"
    too_long = len(name.encode(errors="replace")) > most_bytes
    return f"it is longer than {most_bytes} bytes" if too_long else ""


def _explain(exc: ValidationError) -> str:
    problems = []
    for error in exc.errors():
        field = str(error["loc"][0])
        variable = field if field.isupper() else f"MONGO_DATALAYER_{field.upper()}"
        problems.append(f"{variable}={error['input']!r}: {error['msg']}")
    return "; ".join(problems)
