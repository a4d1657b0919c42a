"""Stands for LiteLLM, which PraisonAI's chat asks for an answer: a model that needs no model."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

WORDS = ("This ", "is ", "an ", "answer.")


async def acompletion(*, messages: list[dict[str, Any]], **_options: Any) -> AsyncIterator[Any]:
    """Stream an answer that says how many messages the model would have seen."""

    async def stream() -> AsyncIterator[Any]:
        for word in (*WORDS, f" Seen: {len(messages)}."):
            yield {"choices": [{"delta": {"content": word}}]}

    return stream()
