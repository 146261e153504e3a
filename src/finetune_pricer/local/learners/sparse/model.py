"""The model: from a text to a distribution over prices, and from there to replies."""

from __future__ import annotations

import io
import json
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ...._chat_protocol import text_of
from ...._methods.features import TextFeatures
from ...._methods.network import Network, softmax
from ..learner import Model, Reply, SampledToken
from ..reply_format import ReplyForm, tokenize
from ..reply_trie import ReplyTrie
from .companions import Companions, SparseRows
from .pool import Pool
from .price_points import PricePoints
from .prompt_features import PriceLines, PromptFeatures, PromptTemplate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ...._methods.network import Floats
    from ..learner import ChatMessages, Sampling
    from ..reply_trie import ReplyDistribution

_VERSION = 4
_READABLE = (3, 4)  # models of version 3 know words only
_ARRAYS, _FACTS, _COMPANIONS = "model.npz", "model.json", "companions.npz"
_UNTRAINED = "I have not been trained to price anything."


def prompt_of(messages: ChatMessages) -> str:
    """Return the text of the user's messages, which is all that the model goes by."""
    return "\n".join(text_of(message) for message in messages if message["role"] == "user")


def _count_tokens(messages: ChatMessages) -> int:
    """Return how many tokens a prompt has; an estimate, but for prices and digits."""
    return 3 + sum(4 + len(tokenize(text_of(message))) for message in messages)


@dataclass(frozen=True, kw_only=True)
class PriceModel(Model):
    """A trained model: it reads the text of a prompt, and answers in the form that it was trained on."""

    features: PromptFeatures
    network: Network
    companions: Companions | None
    """What speaks beside the network; None where it speaks alone."""
    pool: Pool
    """How their guesses are put together; measured on held-out examples."""
    edges: Floats
    """The bins' edges, as log(1 + price); one more than there are bins."""
    points: PricePoints
    form: ReplyForm

    is_quick = True

    @cached_property
    def _kernel(self) -> Floats:
        if self.companions is None:
            return self.points.kernel(self.edges, self.pool.network_width)
        # What the pool says is as wide as it should be. But only points that a guess of its width can tell
        # apart get a share.
        named = np.flatnonzero(self.points.kernel(self.edges, self.pool.width).any(axis=0))
        chosen = PricePoints(prices=self.points.prices[named], weights=self.points.weights[named])
        shares = np.zeros((len(self.edges) - 1, len(self.points.prices)), dtype=np.float32)
        shares[:, named] = chosen.kernel(self.edges, 0.0)
        return shares

    @cached_property
    def _trie(self) -> ReplyTrie:
        return ReplyTrie([tokenize(self.form.write(float(price))) for price in self.points.prices])

    def warm_up(self) -> PriceModel:
        """Compute what every answer needs, so that the first one need not wait; return the model."""
        self._kernel.sum()
        self._trie.distribution(self.probabilities("")).sample()
        return self

    def probabilities(self, prompt: str) -> Floats:
        """Return the probability of every price of `points`."""
        columns, values = self.features.row(prompt)
        summed = values @ self.network.inputs.take(columns, axis=0)
        bins = softmax(self.network.scores_of_sums(summed[None]))
        if self.companions is not None:
            opinions = self.companions.ask(SparseRows(columns, values, np.array([0, len(columns)])))
            bins = self.pool.combine(bins, opinions, self.edges)
        probabilities: Floats = bins[0].astype(np.float32) @ self._kernel
        return probabilities

    def median(self, prompt: str) -> float:
        """Return the price that half of the probability lies at or below."""
        heights = np.cumsum(self.probabilities(prompt), dtype=np.float64)
        place = int(np.searchsorted(heights, heights[-1] / 2))
        return float(self.points.prices[min(place, len(heights) - 1)])

    def distribution(self, prompt: str) -> ReplyDistribution:
        """Return the distribution over replies to a prompt."""
        return self._trie.distribution(self.probabilities(prompt))

    def count_tokens(self, messages: ChatMessages) -> int:
        """Return how many tokens a prompt has."""
        return _count_tokens(messages)

    def reply(self, messages: ChatMessages, sampling: Sampling) -> Sequence[Reply]:
        """Return replies; each names a price in few tokens, so that none is cut here."""
        return self.distribution(prompt_of(messages)).reply(sampling)

    def save(self) -> dict[str, bytes]:
        """Return the model's files: npz archives and a JSON text, none of which can carry code."""
        arrays, terms = self.features.text.state()
        archive = io.BytesIO()
        layers = {name: getattr(self.network, name) for name in Network.__slots__}
        points = {f"points_{name}": getattr(self.points, name) for name in PricePoints.__slots__}
        features: dict[str, Any] = {f"features_{name}": array for name, array in arrays.items()}
        np.savez(archive, edges=self.edges, **layers, **points, **features)
        facts = {
            "version": _VERSION,
            "pool": self.pool._asdict(),
            "template": asdict(self.features.template),
            "lines": None if self.features.lines is None else asdict(self.features.lines),
            "form": asdict(self.form),
            "terms": terms,
        }
        files = {_ARRAYS: archive.getvalue(), _FACTS: json.dumps(facts).encode()}
        if self.companions is not None:
            # A file of its own: the same for all checkpoints of a job, it is kept once.
            archive = io.BytesIO()
            arrays = self.companions.state()
            np.savez(archive, allow_pickle=False, **arrays)
            files[_COMPANIONS] = archive.getvalue()
        return files

    @classmethod
    def load(cls, files: Mapping[str, bytes]) -> PriceModel:
        """Rebuild a model from the files of `save`; raise ValueError where their version is not known."""
        facts = json.loads(files[_FACTS])
        if facts.get("version") not in _READABLE:
            raise ValueError(f"a model of version {facts.get('version')!r}, not {_VERSION}")
        stored = _read_arrays(files[_ARRAYS])
        pool = Pool(**facts["pool"]) if "pool" in facts else Pool(network_width=float(stored["spread"]))
        companions = _read_arrays(files[_COMPANIONS]) if _COMPANIONS in files else None
        features = {name[9:]: array for name, array in stored.items() if name.startswith("features_")}
        return cls(
            features=PromptFeatures(
                template=PromptTemplate(**facts["template"]),
                text=TextFeatures.from_state(features, facts["terms"]),
                lines=PriceLines(**facts["lines"]) if facts.get("lines") else None,
            ),
            network=Network(**{name: stored[name] for name in Network.__slots__}),
            companions=None if companions is None else Companions.from_state(companions),
            pool=pool,
            edges=stored["edges"],
            points=PricePoints(**{name: stored[f"points_{name}"] for name in PricePoints.__slots__}),
            form=ReplyForm(**facts["form"]),
        )


def _read_arrays(content: bytes) -> dict[str, npt.NDArray[Any]]:
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


class UntrainedModel(Model):
    """The base model itself, which says that it was not trained."""

    is_quick = True

    def count_tokens(self, messages: ChatMessages) -> int:
        """Return how many tokens a prompt has."""
        return _count_tokens(messages)

    def reply(self, messages: ChatMessages, sampling: Sampling) -> Sequence[Reply]:  # noqa: ARG002
        """Return the same sentence, whatever is asked."""
        return [
            Reply([SampledToken(token, 0.0, [(token, 0.0)]) for token in tokenize(_UNTRAINED)])
        ] * sampling.n
