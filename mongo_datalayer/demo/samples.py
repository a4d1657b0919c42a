"""Files of every kind Chainlit shows, made on the spot."""

from __future__ import annotations

import io
import math
import struct
import wave
import zlib
from collections.abc import Sequence
from importlib.util import find_spec

import chainlit as cl

WIDTH, HEIGHT = 320, 120
SAMPLES_PER_SECOND = 16_000

PDF = b"""%PDF-1.4
1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj
2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj
3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 300 120]/Contents 4 0 R
/Resources<</Font<</F<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>>>>>>>endobj
4 0 obj<</Length 52>>stream
BT /F 18 Tf 30 55 Td (This page lies in MongoDB.) Tj ET
endstream endobj
trailer<</Root 1 0 R>>
"""


def sample_elements() -> list[cl.Element]:
    """One element of each kind; a table only where pandas is installed."""
    elements = [
        cl.Image(name="picture.png", content=picture(), display="inline"),
        cl.Text(name="note.txt", content="A text, kept in GridFS.", display="inline"),
        cl.Pdf(name="page.pdf", content=PDF, display="inline"),
        cl.Audio(name="tone.wav", content=tone(seconds=1), mime="audio/wav", display="inline"),
        cl.File(name="numbers.csv", content=b"step,count\n1,2\n", mime="text/csv"),
        cl.CustomElement(name="Counter", props={"label": "Clicks", "count": 0}, display="inline"),
    ]
    return [*elements, *_table()]


def picture() -> bytes:
    """A PNG: a play of two colours."""
    rows = b"".join(
        b"\0" + bytes(value for x in range(WIDTH) for value in _colour(x, y)) for y in range(HEIGHT)
    )
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def tone(seconds: int) -> bytes:
    """A WAV file: a note that fades."""
    total = SAMPLES_PER_SECOND * seconds
    heights = (9000 * (1 - n / total) * math.sin(n * 0.17) for n in range(total))
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setparams((1, 2, SAMPLES_PER_SECOND, 0, "NONE", "not compressed"))
        sound.writeframes(b"".join(struct.pack("<h", int(height)) for height in heights))
    return file.getvalue()


def _colour(x: int, y: int) -> tuple[int, int, int]:
    wave_height = (math.sin(x / 40) + math.cos(y / 25) + 2) / 4
    return (int(230 * wave_height), 60, int(200 * (1 - wave_height)))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _table() -> Sequence[cl.Element]:
    if find_spec("pandas") is None:
        return []
    import pandas as pd

    frame = pd.DataFrame({"collection": ["users", "threads"], "one document is": ["user", "chat"]})
    return [cl.Dataframe(name="table", data=frame, display="inline")]
