"""Settings read from the environment."""

from __future__ import annotations

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from mongo_datalayer.errors import ConfigurationError

DEFAULT_DATABASE = "chainlit"
DEFAULT_TIMEOUT_MS = 20_000
DEFAULT_LINK_SECONDS = 3600


class Settings(BaseSettings):
    """What the environment says; every field is one variable.

    ``MONGODB_URI`` and ``MONGODB_DATABASE`` carry the names other MongoDB software uses; all other
    variables begin with ``MONGO_DATALAYER_``.
    """

    model_config = SettingsConfigDict(env_prefix="MONGO_DATALAYER_", extra="ignore")

    uri: str | None = Field(
        default=None,
        validation_alias="MONGODB_URI",
        description="Where MongoDB is: a `mongodb://` or `mongodb+srv://` URI.",
    )
    database: str = Field(
        default=DEFAULT_DATABASE,
        validation_alias="MONGODB_DATABASE",
        description="Name of the database.",
    )
    timeout_ms: int = Field(
        default=DEFAULT_TIMEOUT_MS,
        gt=0,
        description="How long one operation may take, retries included, in milliseconds.",
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

    @classmethod
    def load(cls) -> Settings:
        """Read the environment.

        Raises:
            ConfigurationError: a variable has a value that cannot be used; the message names it.
        """
        try:
            return cls()
        except ValidationError as exc:
            raise ConfigurationError(_explain(exc)) from exc

    def require_uri(self) -> str:
        """The URI.

        Raises:
            ConfigurationError: ``MONGODB_URI`` is not set.
        """
        if self.uri is None or not self.uri.strip():
            raise ConfigurationError(
                "MONGODB_URI is not set. Set it to the address of your MongoDB, for example "
                "MONGODB_URI=mongodb://localhost:27017, or pass the URI to MongoDataLayer(...)."
            )
        return self.uri.strip()


def _explain(exc: ValidationError) -> str:
    problems = []
    for error in exc.errors():
        field = str(error["loc"][0])
        variable = field if field.isupper() else f"MONGO_DATALAYER_{field.upper()}"
        problems.append(f"{variable}={error['input']!r}: {error['msg']}")
    return "; ".join(problems)
