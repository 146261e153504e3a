"""A question by hand: a model is asked about one text in the words that it was trained with."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice, takewhile
from typing import TYPE_CHECKING, Any

from ..._chat_protocol import text_of
from ...errors import TrainingFileError
from ..learners.reply_format import find_number
from ..learners.training_file import read_rows
from .requests import ChatBody
from .responses import ApiError

if TYPE_CHECKING:
    from ..database import Database
    from .app import ServerState

MOST = 20_000
"""Characters of a text."""
_DRAWS = 40
_TOKENS = 24  # of a reply: a price is shorter, and an untuned model talks
_EXAMPLES = 20  # of the training file that are looked at
_TENTH = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Wording:
    """What stands around a text in a prompt."""

    first: tuple[dict[str, Any], ...] = ()
    """The messages before that of the user."""
    before: str = ""
    after: str = ""

    def messages(self, text: str) -> list[dict[str, Any]]:
        """Return the prompt about a text."""
        return [*self.first, {"role": "user", "content": f"{self.before}{text}{self.after}"}]


@dataclass(frozen=True, slots=True, kw_only=True)
class Opinion:
    """What a model says about a text. All are replies as the model wrote them."""

    reply: str
    """The likeliest one."""
    price: str | None = None
    """The middle one of many that were drawn; None where they hold no numbers."""
    low: str | None = None
    """A tenth of them name less."""
    high: str | None = None
    """A tenth of them name more."""
    draws: int = 0
    """How many of them named a number."""


def ask(state: ServerState, model: str, text: str) -> tuple[Wording, Opinion]:
    """Ask a model about a text; raise an `ApiError` where it cannot answer."""
    if not text.strip():
        raise ApiError(400, "There is no text to price; write what the product is.")
    if len(text) > MOST:
        raise ApiError(400, f"The text has {len(text):,} characters; at most {MOST:,} are taken.")
    wording = find_wording(state.database, model)
    messages = wording.messages(text)

    def answer(**options: Any) -> list[str]:
        body = ChatBody(model=model, messages=messages, max_completion_tokens=_TOKENS, **options)
        return [choice["message"]["content"] for choice in state.chat.answer(body).to_dict()["choices"]]

    [reply] = answer(temperature=0)
    drawn = answer(temperature=1, n=_DRAWS, seed=0)
    numbered = [(number, said) for said in drawn if (number := find_number(said)) is not None]
    if len(numbered) < _DRAWS / 2:
        return wording, Opinion(reply=reply)
    ordered = [said.strip() for _, said in sorted(numbered)]
    tenth, last = int(_TENTH * len(ordered)), len(ordered) - 1
    return wording, Opinion(
        reply=reply,
        price=ordered[len(ordered) // 2],
        low=ordered[tenth],
        high=ordered[last - tenth],
        draws=len(ordered),
    )


def find_wording(database: Database, model: str) -> Wording:
    """Return what the examples of a model's training file have in common around their texts.

    Nothing for a base model, and for one whose training file has gone or holds examples of several kinds.
    """
    stored = database.find_model(model)
    job = None if stored is None else database.find_job(stored.job)
    file = None if job is None else database.find_file(job.training_file)
    if file is None:
        return Wording()
    with database.lend_blob(file.sha256) as path:
        if path is None:
            return Wording()
        with path.open("rb") as lines:
            try:
                rows = list(read_rows(islice(lines, _EXAMPLES), fewest=1))
            except TrainingFileError:
                return Wording()
    return _find_common([row[:-1] for row in rows])


def _find_common(prompts: list[list[dict[str, Any]]]) -> Wording:
    if not all(prompts) or any(prompt[-1]["role"] != "user" for prompt in prompts):
        return Wording()
    firsts = [prompt[:-1] for prompt in prompts]
    if any(first != firsts[0] for first in firsts):
        return Wording()
    texts = [text_of(prompt[-1]) for prompt in prompts]
    if len(set(texts)) < 2:
        return Wording(first=tuple(firsts[0]))
    # Whole lines: what else texts begin with alike is part of the products.
    lines = [text.split("\n") for text in texts]
    before = _count_common(lines)
    after = _count_common([each[before:][::-1] for each in lines])
    around = lines[0]
    return Wording(
        first=tuple(firsts[0]),
        before="".join(f"{line}\n" for line in around[:before]),
        after="".join(f"\n{line}" for line in around[len(around) - after :]),
    )


def _count_common(rows: list[list[str]]) -> int:
    """Return how many values rows have in common at their beginning."""
    return sum(1 for _ in takewhile(lambda values: len(set(values)) == 1, zip(*rows, strict=False)))
