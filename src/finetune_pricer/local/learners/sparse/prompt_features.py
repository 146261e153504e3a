"""A prompt as a row of features: without what all prompts share, and with the prices that stand in it.

Prompts may hold products whose prices are known, a line for each that ends in its price, the most similar
product last. To a vocabulary such a price is a rare word, and the products' words mix with those of the one
that is asked about. So these lines are taken out, and their prices become features by their size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix, hstack

from ...._methods.features import EVERY_BLOCK, TextFeatures
from ..reply_format import ReplyForm

if TYPE_CHECKING:
    from collections.abc import Sequence

    Floats = npt.NDArray[np.floating[Any]]
    Ints = npt.NDArray[np.int64]

_STEPS = (0.6, 0.15)  # between the sizes of a price, in log(1 + price)
_LOWEST, _HIGHEST = 0.0, 18.0  # log(1 + price): up to some $60,000,000
_PRICES = 2  # of a prompt that become features: the last one, and the mean of all
_SIGNS = "0123456789.,' \u2019\u00a0\u202f"  # of a number
_LONGEST = 40  # characters of a price


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptTemplate:
    """What all training prompts begin and end with: an instruction, which says nothing of one product."""

    before: str = ""
    after: str = ""

    @classmethod
    def from_prompts(cls, prompts: Sequence[str]) -> PromptTemplate:
        """Return the template that these prompts share, cut at white space so that no word is torn."""
        before = _shared_start(prompts)
        after = _shared_start([prompt[::-1] for prompt in prompts])[::-1]
        shortest = min(map(len, prompts))
        return cls(before=before, after=after if len(before) + len(after) <= shortest else "")

    def remove_from(self, prompt: str) -> str:
        """Return the prompt without the template, or as it is where it has another one."""
        return prompt.removeprefix(self.before).removesuffix(self.after)


def _shared_start(texts: Sequence[str]) -> str:
    # What the first and the last in order share, all between them share too.
    pairs = enumerate(zip(min(texts), max(texts), strict=False))
    differs = next((place for place, (one, other) in pairs if one != other), len(min(texts)))
    shared = min(texts)[:differs]
    return shared[: max((place + 1 for place, letter in enumerate(shared) if letter.isspace()), default=0)]


@dataclass(frozen=True, kw_only=True)
class PriceLines:
    """Lines of a prompt that end in a price, written as the replies are."""

    before: str
    after: str
    groups_by_point: bool = False

    @classmethod
    def from_texts(cls, texts: Sequence[str], form: ReplyForm) -> PriceLines | None:
        """Return how the lines end; None where fewer than half of the texts have any, or prices no mark."""
        before, after = form.before.split(" ")[-1], form.after.split(" ")[-1]
        if not (before + after).strip():
            return None  # any number could be a price
        lines = cls(before=before, after=after, groups_by_point=form.groups_by_point)
        return lines if 2 * sum(bool(lines.split(text)[1]) for text in texts) >= len(texts) else None

    def split(self, text: str) -> tuple[str, list[float]]:
        """Return a text without these lines, and their prices from top to bottom.

        A text that has no other lines is all of one product, and stays as it is.
        """
        rest: list[str] = []
        prices: list[float] = []
        for line in text.splitlines(keepends=True):
            price = self._read_end(line.rstrip())
            if price is None:
                rest.append(line)
            else:
                prices.append(price)
        left = "".join(rest)
        return (left, prices) if left.strip() else (text, [])

    def _read_end(self, line: str) -> float | None:
        if not line.endswith(self.after):
            return None
        body = line.removesuffix(self.after).rstrip()[-_LONGEST:]
        number = body[len(body.rstrip(_SIGNS)) :]
        if not body.removesuffix(number).endswith(self.before):
            return None
        price = ReplyForm(groups_by_point=self.groups_by_point).read(number)
        return price if price is not None and math.isfinite(price) else None

    @property
    def width(self) -> int:
        """How many features the prices have."""
        return _PRICES * sum(map(_count_sizes, _STEPS))

    def rows(self, prices: Sequence[Sequence[float]]) -> csr_matrix:
        """Return one row for the prices of each prompt; each price lies between two sizes, nearer to one."""
        known = np.array([place for place, found in enumerate(prices) if found], dtype=np.int64)
        logs = [np.log1p(prices[place]) for place in known]
        values = np.array([(each[-1], each.mean()) for each in logs]).reshape(-1, _PRICES)
        rows, columns, shares = [], [], []
        start = 0
        for of_prompt in np.clip(values, _LOWEST, _HIGHEST).T:
            for step in _STEPS:
                size, share = np.divmod(of_prompt / step, 1.0)
                rows += [known, known]
                columns += [start + size.astype(np.int64), start + size.astype(np.int64) + 1]
                shares += [1 - share, share]
                start += _count_sizes(step)
        places = np.concatenate(rows), np.concatenate(columns)
        data = np.concatenate(shares).astype(np.float32)
        return csr_matrix((data, places), shape=(len(prices), self.width))


def _count_sizes(step: float) -> int:
    return int((_HIGHEST - _LOWEST) / step) + 2


@dataclass(frozen=True, kw_only=True)
class PromptFeatures:
    """Turns prompts into rows: the features of their text, then those of the prices that stand in them."""

    template: PromptTemplate
    text: TextFeatures
    lines: PriceLines | None

    @classmethod
    def fit(cls, prompts: Sequence[str], template: PromptTemplate, form: ReplyForm) -> PromptFeatures:
        """Choose what to look at in prompts that share a template, and whose replies have a form."""
        texts = [template.remove_from(prompt) for prompt in prompts]
        lines = PriceLines.from_texts(texts, form)
        if lines is not None:
            texts = [lines.split(text)[0] for text in texts]
        return cls(template=template, text=TextFeatures.fit(texts, blocks=EVERY_BLOCK), lines=lines)

    @property
    def width(self) -> int:
        """How many columns a row has."""
        return self.text.width + (self.lines.width if self.lines else 0)

    @property
    def words(self) -> int:
        """How many of the first columns are words and bigrams."""
        return self.text.words

    def row(self, prompt: str) -> tuple[Ints, Floats]:
        """Return the columns and values of one prompt, without the cost of a matrix."""
        if self.lines is None:
            return self.text.row(self.template.remove_from(prompt))
        row = self.transform([prompt])
        return row.indices, row.data

    def transform(self, prompts: Sequence[str]) -> csr_matrix:
        """Return one row for each prompt."""
        texts = [self.template.remove_from(prompt) for prompt in prompts]
        if self.lines is None:
            return self.text.transform(texts)
        split = [self.lines.split(text) for text in texts]
        rows = self.text.transform([text for text, _ in split])
        return hstack([rows, self.lines.rows([prices for _, prices in split])], format="csr")
