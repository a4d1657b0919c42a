"""The console's styles, scripts and icon, at addresses that name their contents."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from starlette.responses import Response
from starlette.staticfiles import StaticFiles

FOLDER = Path(__file__).parent / "static"

# An address never gets other contents, so a browser need not ask again for a year. Private: the
# answer renews the session's cookie, which a cache of several people must not hand out.
_CACHED = "private, max-age=31536000, immutable"


class StaticFolder(StaticFiles):
    """Serves the folder ``static`` of the package; browsers may keep what they got.

    Attributes:
        path: Where to mount it. It changes with any of the files: after an upgrade browsers fetch
            the new ones, and a process of another version answers 404 instead of its own.
    """

    def __init__(self) -> None:
        super().__init__(directory=FOLDER)
        digest = hashlib.sha256()
        for file in sorted(FOLDER.iterdir()):
            digest.update(f"{file.name}\n".encode())
            digest.update(file.read_bytes())
        self.path = f"/static/{digest.hexdigest()[:16]}"

    def file_response(self, *args: Any, **options: Any) -> Response:
        """The answer with a file, or that the browser has it already."""
        response = super().file_response(*args, **options)
        response.headers["cache-control"] = _CACHED
        return response
