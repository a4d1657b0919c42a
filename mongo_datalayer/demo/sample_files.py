"""The content of files of several kinds, made on the spot."""

from __future__ import annotations

import io
import json
import math
import struct
import wave
import zlib

WIDTH, HEIGHT = 320, 120
SAMPLES_PER_SECOND = 16_000

NOTE = "A text, kept in GridFS."
NUMBERS = b"step,count\n1,2\n"

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

# As pandas writes a DataFrame with orient="split", which is what Chainlit's page reads.
TABLE = json.dumps(
    {
        "columns": ["collection", "one document is"],
        "index": [0, 1, 2],
        "data": [["users", "a person"], ["threads", "a chat"], ["fs.files", "a file"]],
    }
)


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
