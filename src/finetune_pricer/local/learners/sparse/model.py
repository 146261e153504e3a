"""The model: from a text to a distribution over prices, and from there to replies."""

from __future__ import annotations

import io
import json
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ...._methods.features import TextFeatures
from ...._methods.network import Network, softmax
from .price_points import PricePoints
from .reply_format import ReplyForm, tokens_of
from .reply_trie import ReplyTree

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...._methods.network import Floats
    from .reply_trie import Talk

_VERSION = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """What all training prompts begin and end with: an instruction, which says nothing of one product."""

    before: str = ""
    after: str = ""

    @classmethod
    def around(cls, prompts: Sequence[str]) -> Frame:
        """Return the frame that these prompts share, cut at white space so that no word is torn."""
        before = _shared_start(prompts)
        after = _shared_start([prompt[::-1] for prompt in prompts])[::-1]
        shortest = min(map(len, prompts))
        return cls(before=before, after=after if len(before) + len(after) <= shortest else "")

    def inside(self, prompt: str) -> str:
        """Return the prompt without the frame, or as it is where it has another one."""
        return prompt.removeprefix(self.before).removesuffix(self.after)


def _shared_start(texts: Sequence[str]) -> str:
    # What the first and the last in order share, all between them share too.
    pairs = enumerate(zip(min(texts), max(texts), strict=False))
    differs = next((place for place, (one, other) in pairs if one != other), len(min(texts)))
    shared = min(texts)[:differs]
    return shared[: max((place + 1 for place, letter in enumerate(shared) if letter.isspace()), default=0)]


@dataclass(frozen=True, kw_only=True)
class PriceModel:
    """A trained model: reads nothing but the text of a prompt, and answers in the form that it has seen."""

    features: TextFeatures
    network: Network
    edges: Floats
    """The bins' edges, as log(1 + price); one more than there are bins."""
    points: PricePoints
    spread: float
    """How far a guess is widened, as its errors on held-out examples asked for; in log(1 + price)."""
    frame: Frame
    form: ReplyForm

    @cached_property
    def _kernel(self) -> Floats:
        return self.points.kernel(self.edges, self.spread)

    @cached_property
    def _tree(self) -> ReplyTree:
        return ReplyTree([tokens_of(self.form.write(float(price))) for price in self.points.prices])

    def warm(self) -> PriceModel:
        """Work out what every answer needs, so that the first one need not wait; returns the model."""
        self._kernel.sum()
        self._tree.talk(self.points.liking).say()
        return self

    def distribution(self, prompt: str) -> Floats:
        """Return the probability of every price of `points`."""
        columns, values = self.features.row(self.frame.inside(prompt))
        summed: Floats = values @ self.network.inputs[columns]
        probabilities: Floats = softmax(self.network.scores_of_sums(summed)) @ self._kernel
        return probabilities

    def median(self, prompt: str) -> float:
        """Return the price that half of the probability lies at or below."""
        heights = np.cumsum(self.distribution(prompt), dtype=np.float64)
        place = int(np.searchsorted(heights, heights[-1] / 2))
        return float(self.points.prices[min(place, len(heights) - 1)])

    def talk(self, prompt: str) -> Talk:
        """Return what the model can say to a prompt, token by token."""
        return self._tree.talk(self.distribution(prompt))

    def save(self) -> tuple[bytes, bytes]:
        """Return the model as an npz archive and as JSON; neither can carry code."""
        arrays, terms = self.features.state()
        stored = io.BytesIO()
        layers = {name: getattr(self.network, name) for name in Network.__slots__}
        points = {f"points_{name}": getattr(self.points, name) for name in PricePoints.__slots__}
        prefixed: dict[str, Any] = {f"features_{name}": array for name, array in arrays.items()}
        np.savez(stored, edges=self.edges, spread=np.array(self.spread), **layers, **points, **prefixed)
        rest = {"version": _VERSION, "frame": asdict(self.frame), "form": asdict(self.form), "terms": terms}
        return stored.getvalue(), json.dumps(rest).encode()

    @classmethod
    def load(cls, arrays: bytes, rest: bytes) -> PriceModel:
        """Rebuild a model from what `save` returned; raise ValueError where it is something else."""
        state = json.loads(rest)
        if state.get("version") != _VERSION:
            raise ValueError(f"a model of version {state.get('version')!r}, not {_VERSION}")
        with np.load(io.BytesIO(arrays), allow_pickle=False) as archive:
            stored = {name: archive[name] for name in archive.files}
        ours = {name[9:]: array for name, array in stored.items() if name.startswith("features_")}
        return cls(
            features=TextFeatures.from_state(ours, state["terms"]),
            network=Network(**{name: stored[name] for name in Network.__slots__}),
            edges=stored["edges"],
            points=PricePoints(**{name: stored[f"points_{name}"] for name in PricePoints.__slots__}),
            spread=float(stored["spread"]),
            frame=Frame(**state["frame"]),
            form=ReplyForm(**state["form"]),
        )
