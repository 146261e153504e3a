"""The words of services for the state of a job or a batch, and the protocol's word for each."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from .._lazy import compile_late

if TYPE_CHECKING:
    from collections.abc import Mapping

_SPELLINGS = {
    "canceled": "cancelled",
    "canceling": "cancelling",
    "cancellation_requested": "cancelling",
}
# Words of services for batches. A job's other words are left alone: what nobody knows goes on.
_SYNONYMS = {
    "success": "succeeded",
    "successful": "succeeded",
    "completed": "succeeded",
    "complete": "succeeded",
    "done": "succeeded",
    "finished": "succeeded",
    "ended": "succeeded",
    "failure": "failed",
    "error": "failed",
    "errored": "failed",
    "rejected": "failed",
    "crashed": "failed",
    "invalid": "failed",
    "timeout": "expired",
    "timed_out": "expired",
    "timeout_exceeded": "expired",
    "aborted": "cancelled",
    "stopped": "cancelled",
    "terminated": "cancelled",
    "deleted": "cancelled",
}
ENDS = ("succeeded", "expired", "cancelled", "failed")
"""Words after which nothing happens any more."""
_PREFIX = compile_late(r"^(?:(?:job|batch)_?(?:state|status)?[._])")
_CAMEL = compile_late(r"(?<=[a-z])(?=[A-Z])")


def read_status(raw: Any, known: Mapping[str, str]) -> str:
    """Return a service's word as the protocol spells it, such as `cancelled` for `JOB_STATE_CANCELED`.

    Args:
        raw: The service's word.
        known: What the provider's profile says of the service's words.
    """
    profile = {_normalize(theirs): ours for theirs, ours in known.items()}
    word = _normalize(raw)
    return _normalize(profile.get(word, word))


def read_end(word: str) -> str | None:
    """Return how a batch has ended by another word or a compound, such as `partially_completed`.

    None where the word says nothing of an end.
    """
    parts = [word] if word in _SYNONYMS else word.split("_")
    if "not" in parts:
        return None
    means = {_SYNONYMS.get(part, part) for part in parts}
    return next((end for end in ENDS if end in means), None)


def _normalize(word: Any) -> str:
    apart = _CAMEL.sub("_", str(word or "").strip())
    plain = _PREFIX.sub("", re.sub(r"[\s-]+", "_", apart).lower())
    return _SPELLINGS.get(plain, plain)
