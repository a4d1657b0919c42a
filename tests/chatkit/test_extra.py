from __future__ import annotations

import subprocess
import sys

CODE = """
import sys
sys.modules["chatkit"] = None
try:
    from mongo_datalayer.chatkit import {name}
except ModuleNotFoundError as exc:
    print(exc)
"""


def test_the_missing_extra_is_named() -> None:
    for name in ("MongoChatKitStore", "AlreadyExistsError", "mount_chatkit"):
        done = subprocess.run(
            [sys.executable, "-c", CODE.format(name=name)],
            capture_output=True,
            text=True,
            check=True,
        )
        assert "pip install 'mongo-datalayer[chatkit]'" in done.stdout, (name, done)
