"""Facts of the chat protocol that the pipeline and the local server share.

Only facts stand here. Each side has its own checker of training files, so that each can find the other's
errors.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
"""Who may have written a message."""
MESSAGE_KEYS = frozenset(
    {"role", "content", "name", "weight", "tool_calls", "tool_call_id", "function_call", "refusal", "audio"}
)
"""What a message may have; `weight` only in a training file."""
LINE_KEYS = frozenset({"messages", "tools", "functions", "parallel_tool_calls"})
"""What a line of a training file may have."""
CALLS = ("tool_calls", "function_call")
"""What an assistant's message may hold in the place of a text."""
SPECIAL_TOKEN = re.compile(r"<\|[a-zA-Z0-9_]{1,40}\|>")
"""As the tokenizers of gpt, gpt-oss, Qwen and Llama write them: `<|endoftext|>`, `<|im_start|>`."""
NEIGHBORS_HEAD = "Prices of similar products, the most similar last:"
"""What stands above items like the one that is asked about, each on a line that ends in its price."""


def text_of(message: Mapping[str, Any]) -> str:
    """Return a message's text: its content, or its text parts joined without anything between, or nothing.

    Chat templates write the parts one after the other, so this is the text that is trained on and billed.
    """
    content = message.get("content")
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    texts = (part.get("text") for part in parts if isinstance(part, dict))
    return "".join(text for text in texts if isinstance(text, str))
