"""What a check of the doctor found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

State: TypeAlias = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class CheckResult:
    """What a check found.

    Attributes:
        check: Name of the check; the doctor fills it in.
        state: ``ok``; ``warning``, works but worth knowing; ``problem``, needs a person.
        finding: What was found.
        advice: What to do about it; "" when there is nothing to do.
    """

    check: str = field(default="", kw_only=True)
    state: State
    finding: str
    advice: str = ""
