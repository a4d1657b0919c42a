"""What Windows does differently with the processes of the demo and of tests."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import Any

WINDOWS = sys.platform == "win32"


def out_of_reach(*, windows: bool = WINDOWS) -> dict[str, Any]:
    """Arguments for ``Popen``: Ctrl-C does not reach the process, the caller's cleanup stops it."""
    if windows:
        return {"creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0x200)}
    return {"start_new_session": True}


def stop_signals(*, windows: bool = WINDOWS) -> tuple[int, ...]:
    """Signals for ``send_signal`` that stop uvicorn, each more urgent than the one before.

    The second makes uvicorn give up on connections that stay open. The last one cannot be ignored.
    """
    if windows:
        # SIGINT cannot be sent there, and SIGTERM ends a process at once.
        pause: int = getattr(signal, "CTRL_BREAK_EVENT", 1)
        return (pause, pause, signal.SIGTERM)
    return (signal.SIGINT, signal.SIGINT, signal.SIGKILL)
