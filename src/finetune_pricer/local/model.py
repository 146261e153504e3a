"""The model: from a text to a distribution over prices, and from there to a price or to draws."""

from __future__ import annotations

import io
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .._features import TextFeatures
from .replies import ReplyForm

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scipy.sparse import csr_matrix

Floats = npt.NDArray[np.floating[Any]]


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


@dataclass(slots=True, kw_only=True)
class Network:
    """A sparse row, a hidden layer, and one score per price bin."""

    inputs: Floats
    hidden: Floats
    outputs: Floats
    biases: Floats

    def scores(self, rows: csr_matrix) -> Floats:
        """Return the scores of every bin for every row."""
        return self.rest(np.asarray(rows @ self.inputs))

    def rest(self, summed: Floats) -> Floats:
        """Return the scores from the first layer's weighted sums on."""
        scores: Floats = np.maximum(summed + self.hidden, 0) @ self.outputs + self.biases
        return scores


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceModel:
    """A trained model: reads nothing but the text of a prompt, and answers in the form that it has seen."""

    features: TextFeatures
    network: Network
    edges: Floats
    """The bins' edges, as log(1 + price); one more than there are bins."""
    frame: Frame
    form: ReplyForm

    def distribution(self, prompt: str) -> Floats:
        """Return the probability of every price bin."""
        columns, values = self.features.row(self.frame.inside(prompt))
        summed: Floats = values @ self.network.inputs[columns]
        return softmax(self.network.rest(summed))

    def median(self, prompt: str) -> float:
        """Return the price that half of the probability lies below."""
        return float(self.medians(self.distribution(prompt)[None])[0])

    def medians(self, probabilities: Floats) -> Floats:
        """Return the median of every row of bin probabilities, straight between the edges of its bin."""
        below = np.cumsum(probabilities, axis=1)
        places = np.minimum((below < 0.5).sum(axis=1), probabilities.shape[1] - 1)
        rows = np.arange(len(places))
        inside = probabilities[rows, places]
        share = np.clip((0.5 - (below[rows, places] - inside)) / np.maximum(inside, 1e-12), 0, 1)
        logs: Floats = self.edges[places] + share * np.diff(self.edges)[places]
        return np.expm1(logs)

    def draw(self, prompt: str, *, temperature: float, count: int, seed: int | None) -> list[float]:
        """Return prices drawn at random; a low temperature keeps them near the likeliest, 0 is the median."""
        probabilities = self.distribution(prompt)
        if temperature < 0.01:
            return [float(self.medians(probabilities[None])[0])] * count
        sharpened = softmax(np.log(np.maximum(probabilities, 1e-30)) / temperature)
        random = np.random.default_rng(seed)
        places = np.searchsorted(np.cumsum(sharpened), random.random(count) * sharpened.sum())
        places = np.minimum(places, len(sharpened) - 1)
        logs = self.edges[places] + random.random(count) * np.diff(self.edges)[places]
        return [float(price) for price in np.expm1(logs)]

    def save(self) -> tuple[bytes, bytes]:
        """Return the model as an npz archive and as JSON; neither can carry code."""
        arrays, terms = self.features.state()
        network = self.network
        stored = io.BytesIO()
        layers = {name: getattr(network, name) for name in Network.__slots__}
        prefixed: dict[str, Any] = {f"features_{name}": array for name, array in arrays.items()}
        np.savez(stored, edges=self.edges, **layers, **prefixed)
        rest = {"version": 1, "frame": asdict(self.frame), "form": asdict(self.form), "terms": terms}
        return stored.getvalue(), json.dumps(rest).encode()

    @classmethod
    def load(cls, arrays: bytes, rest: bytes) -> PriceModel:
        """Rebuild a model from what `save` returned; raise ValueError where it is something else."""
        state = json.loads(rest)
        with np.load(io.BytesIO(arrays), allow_pickle=False) as archive:
            stored = {name: archive[name] for name in archive.files}
        ours = {name[9:]: array for name, array in stored.items() if name.startswith("features_")}
        return cls(
            features=TextFeatures.from_state(ours, state["terms"]),
            network=Network(**{name: stored[name] for name in Network.__slots__}),
            edges=stored["edges"],
            frame=Frame(**state["frame"]),
            form=ReplyForm(**state["form"]),
        )


def softmax(scores: Floats) -> Floats:
    """Return scores as probabilities along the last axis."""
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))
