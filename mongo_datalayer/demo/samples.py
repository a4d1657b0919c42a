"""Files of every kind Chainlit shows, as elements."""

from __future__ import annotations

from typing import ClassVar

import chainlit as cl
from chainlit.element import Element, ElementSize, ElementType
from pydantic.dataclasses import dataclass

from mongo_datalayer.demo.sample_files import NOTE, NUMBERS, PDF, TABLE, picture, tone


@dataclass
class Table(Element):
    """What ``cl.Dataframe`` sends, for an app without pandas; the content is JSON."""

    type: ClassVar[ElementType] = "dataframe"
    size: ElementSize = "large"


def sample_elements() -> list[Element]:
    """One element of each kind."""
    return [
        cl.Image(name="picture.png", content=picture(), display="inline"),
        cl.Text(name="note.txt", content=NOTE, display="inline"),
        cl.Pdf(name="page.pdf", content=PDF, display="inline"),
        cl.Audio(name="tone.wav", content=tone(seconds=1), mime="audio/wav", display="inline"),
        cl.File(name="numbers.csv", content=NUMBERS, mime="text/csv"),
        cl.CustomElement(name="Counter", props={"label": "Clicks", "count": 0}, display="inline"),
        Table(name="table", content=TABLE, display="inline"),
    ]
