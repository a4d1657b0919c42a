"""The page about the configuration says all there is to say."""

from __future__ import annotations

import inspect

from mongo_datalayer import MongoDataLayer
from mongo_datalayer.config import LEAST_SERVER, LEAST_SERVER_OF_VIEWS, Settings
from tests.docs.pages import DOCS, PAGES, table_rows

ROWS = {cells[0].strip("`"): cells[1:] for cells in table_rows(DOCS / "configuration.md")}


def test_every_environment_variable_is_described_with_its_default() -> None:
    for name, field in Settings.model_fields.items():
        variable = field.validation_alias or f"MONGO_DATALAYER_{name}".upper()
        default, description = ROWS[str(variable)]
        assert field.description is not None
        assert description.startswith(field.description.split(";")[0].rstrip("."))
        if field.default is not None:
            assert default == f"`{field.default}`"


def test_every_argument_is_described_with_its_default() -> None:
    parameters = dict(inspect.signature(MongoDataLayer.__init__).parameters)
    del parameters["self"]

    for name, parameter in parameters.items():
        default, description = ROWS[name]
        assert description
        if parameter.default is not None:
            quote = '"' if isinstance(parameter.default, str) else ""
            assert default == f"`{quote}{parameter.default}{quote}`"


def test_the_oldest_servers_are_named_on_one_page() -> None:
    least, least_of_views = (
        ".".join(map(str, version)) for version in (LEAST_SERVER, LEAST_SERVER_OF_VIEWS)
    )
    stated = f"MongoDB {least} is the oldest that works, and the views need {least_of_views}."

    assert stated in (DOCS / "which-mongodb.md").read_text(encoding="utf-8")
    others = [
        page.name for page in PAGES if f"{least} or newer" in page.read_text(encoding="utf-8")
    ]
    assert others == []
