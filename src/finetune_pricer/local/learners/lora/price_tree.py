"""How likely a language model holds every price: an exact answer from one forward pass, whatever its tokens.

A tokenizer may cut `$1,199` into one token or into six, so a price is a path through a tree of tokens. Where
a node has one child, what comes next is certain, and the model is not asked. All other nodes, and those that
lead to them, stand behind the prompt as one sequence, in which each sees the prompt and its own ancestors
only. So one pass gives what a pass for each price would give, and the probability of a price is the product
of those on its path. At each node only the tokens that lead to a price count: the model says which price, not
whether it would rather talk.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ....errors import NotSupported

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    Floats = npt.NDArray[np.floating[Any]]
    Ints = npt.NDArray[np.int64]
    Path = tuple[tuple[int, ...], int]
    """The tokens of a reply, and which price it names."""

_ROOT = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceTree:
    """The nodes behind which more than one price lies, parents before their children; node 0 is the prompt.

    A node is known by the token that leads to it, an edge by the node where it begins, the token, and where
    it leads: to a node, or to a price.
    """

    tokens: Ints
    """Of each node; that of node 0 means nothing."""
    depths: Ints
    """How many tokens lead from the prompt to each node."""
    sight: npt.NDArray[np.bool_]
    """Whether a node (row) sees another (column): itself and those on the way to it."""
    vocabulary: Ints
    """All tokens that an edge has, in rising order."""
    asked: Ints
    """The nodes at which more than one token may come next: the model's logits are needed there."""
    starts: Ints
    """For each edge: where it begins, as a place in `asked`; -1 where its token is the only one."""
    words: Ints
    """For each edge: its token, as a place in `vocabulary`."""
    origins: Ints
    """For each edge: the node where it begins."""
    ends: Ints
    """For each edge: the node where it leads; -1 where it leads to a price."""
    prices: Ints
    """For each edge: the price to which it leads; -1 where it leads to a node."""
    count: int
    """How many prices there are."""

    @classmethod
    def from_replies(cls, replies: Sequence[Sequence[int]], prices: Sequence[int]) -> PriceTree:
        """Make the tree of replies in tokens, each with its end, and of the price that each of them names.

        Prices are numbered from 0; several replies may name one.

        Raises:
            NotSupported: Two prices are written with the same tokens.
        """
        paths = sorted(zip(map(tuple, replies), prices, strict=True))
        builder = _Builder()
        builder.add(paths, node=_ROOT, depth=0)
        return builder.finish(count=max(prices) + 1)

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def size(self) -> int:
        """How many tokens stand behind the prompt."""
        return len(self.tokens) - 1

    def log_probabilities(self, logits: Floats) -> Floats:
        """Return the log probability of each price, one row for each prompt.

        `logits` has one row for each prompt, one column for each of `asked`, and the logit of each token of
        `vocabulary` in the third place.
        """
        steps = self._steps(logits.astype(np.float64))
        heights = np.zeros((len(logits), len(self)))
        for depth in range(int(self.depths.max()) + 1):
            onward = (self.depths[self.origins] == depth) & (self.ends >= 0)
            heights[:, self.ends[onward]] = heights[:, self.origins[onward]] + steps[:, onward]
        last = self.ends < 0
        chances = np.zeros((self.count, len(logits)))
        np.add.at(chances, self.prices[last], np.exp(heights[:, self.origins[last]] + steps[:, last]).T)
        with np.errstate(divide="ignore"):  # so unlikely that no float holds it
            summed: Floats = np.log(chances.T)
        return summed

    def _steps(self, logits: Floats) -> Floats:
        """Return the log probability of each edge among those that begin where it begins."""
        chosen = self.starts >= 0
        heights = np.zeros((len(logits), len(self.starts)))
        heights[:, chosen] = logits[:, self.starts[chosen], self.words[chosen]]
        allowed = np.full((len(logits), len(self.asked), len(self.vocabulary)), -np.inf)
        allowed[:, self.starts[chosen], self.words[chosen]] = heights[:, chosen]
        highest = allowed.max(axis=2)
        totals = highest + np.log(np.exp(allowed - highest[:, :, None]).sum(axis=2))
        heights[:, chosen] -= totals[:, self.starts[chosen]]
        return heights


class _Builder:
    """Collects the nodes and edges of a tree."""

    def __init__(self) -> None:
        self._tokens, self._parents = [-1], [-1]
        self._asked: list[int] = []
        self._edges: list[tuple[int, int, int, int, int]] = []

    def add(self, paths: Sequence[Path], *, node: int, depth: int) -> None:
        """Add all below a node: `paths` are the replies that lead through it, sorted."""
        branches = [(token, list(group)) for token, group in groupby(paths, lambda path: _token(path, depth))]
        start = -1
        if len(branches) > 1:
            start = len(self._asked)
            self._asked.append(node)
        for token, branch in branches:
            named = {price for _, price in branch}
            if len(named) == 1:
                self._edges.append((start, token, node, -1, named.pop()))
                continue
            child = len(self._tokens)
            self._tokens.append(token)
            self._parents.append(node)
            self._edges.append((start, token, node, child, -1))
            self.add(branch, node=child, depth=depth + 1)

    def finish(self, *, count: int) -> PriceTree:
        """Return the tree."""
        sight = np.eye(len(self._tokens), dtype=bool)
        depths = np.zeros(len(self._tokens), dtype=np.int64)
        for node, parent in enumerate(self._parents[1:], 1):
            sight[node] |= sight[parent]
            depths[node] = depths[parent] + 1
        starts, tokens, origins, ends, prices = np.array(self._edges, dtype=np.int64).T
        vocabulary, words = np.unique(tokens, return_inverse=True)
        return PriceTree(
            tokens=np.array(self._tokens, dtype=np.int64),
            depths=depths,
            sight=sight,
            vocabulary=vocabulary,
            asked=np.array(self._asked, dtype=np.int64),
            starts=starts,
            words=words,
            origins=origins,
            ends=ends,
            prices=prices,
            count=count,
        )


def _token(path: Path, depth: int) -> int:
    tokens, _ = path
    if depth >= len(tokens):
        raise NotSupported(
            "the base model's tokenizer writes two prices with the same tokens, so that it cannot tell them "
            "apart; choose another base model"
        )
    return tokens[depth]


class TreeAsker:
    """Asks one language model about many prompts at once, by one tree."""

    def __init__(self, model: Any, tree: PriceTree) -> None:
        import torch

        self._model = model
        self._tree = tree
        self.size = tree.size
        """How many tokens stand behind a prompt."""
        self._head = self._cut_head(model.get_output_embeddings())
        self._tokens = torch.from_numpy(tree.tokens[1:])
        self._sight = torch.from_numpy(tree.sight[1:, 1:])
        self._depths = torch.from_numpy(tree.depths[1:])
        self._asked = torch.from_numpy(tree.asked)

    def _cut_head(self, head: Any) -> Any:
        """Return the output layer with the tree's tokens alone: 11 of 49,152 rows where digits are single."""
        import torch

        words = torch.from_numpy(self._tree.vocabulary).to(head.weight.device)
        cut = torch.nn.Linear(head.in_features, len(words), bias=head.bias is not None, device="meta")
        cut.weight = torch.nn.Parameter(head.weight.detach()[words], requires_grad=False)
        if head.bias is not None:
            cut.bias = torch.nn.Parameter(head.bias.detach()[words], requires_grad=False)
        return cut

    def ask(self, prompts: Sequence[Sequence[int]]) -> Floats:
        """Return the log probability of each price, one row for each prompt in tokens."""
        import torch

        inputs = self._lay_out(prompts)
        longest = inputs["input_ids"].shape[1] - self._tree.size
        # Whatever an architecture does with its logits, it does with these: the model runs as a whole.
        whole = self._model.get_output_embeddings()
        self._model.set_output_embeddings(self._head)
        try:
            with torch.inference_mode():
                answer = self._model(
                    **inputs,
                    use_cache=False,
                    logits_to_keep=(longest - 1 + self._asked).to(self._model.device),
                )
        finally:
            self._model.set_output_embeddings(whole)
        return self._tree.log_probabilities(answer.logits.float().cpu().numpy())

    def _lay_out(self, prompts: Sequence[Sequence[int]]) -> dict[str, torch.Tensor]:
        """Return the prompts, filled up on the left, with the tree behind each, and who sees whom."""
        import torch

        longest, size = max(map(len, prompts)), self._tree.size
        tokens = torch.zeros(len(prompts), longest + size, dtype=torch.int64)
        places = torch.zeros_like(tokens)
        sees = torch.zeros(len(prompts), 1, longest + size, longest + size, dtype=torch.bool)
        causal = torch.ones(longest, longest, dtype=torch.bool).tril()
        for row, prompt in enumerate(prompts):
            empty = longest - len(prompt)
            tokens[row, empty:longest] = torch.tensor(prompt)
            tokens[row, longest:] = self._tokens
            places[row, empty:longest] = torch.arange(len(prompt))
            places[row, longest:] = len(prompt) - 1 + self._depths
            sees[row, 0, :longest, :longest] = causal
            sees[row, 0, empty:, :empty] = False
            sees[row, 0, longest:, empty:longest] = True
            sees[row, 0, longest:, longest:] = self._sight
        # Added to the scores; a mask of booleans would be added as 0 and 1 by some ways to compute attention.
        blind = torch.finfo(self._model.dtype).min
        mask = torch.zeros(sees.shape, dtype=self._model.dtype).masked_fill_(~sees, blind)
        inputs = {"input_ids": tokens, "position_ids": places, "attention_mask": mask}
        return {name: tensor.to(self._model.device) for name, tensor in inputs.items()}
