"""An update of one document: a filter that holds the guard, and what to do where it matches."""

from __future__ import annotations

from typing import NamedTuple

from mongo_datalayer.model.documents import Document


class Update(NamedTuple):
    """A filter and what to do to the document it finds."""

    filter: Document
    update: Document
