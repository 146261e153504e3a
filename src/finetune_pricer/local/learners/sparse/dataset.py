"""What the learner makes of files: examples as rows and bins, and a model of a trained network.

It reads the prompts' text and the number in each reply, and nothing else. It is not a language model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ...._methods.features import TextFeatures
from ...._methods.network import Data, price_bins, soft_labels, softness
from .model import Frame, PriceModel
from .price_points import PricePoints
from .reply_format import ReplyForm

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...._methods.network import Floats, Network
    from .training_file import Example


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """What a training file holds for the learner, and a validation file beside it."""

    frame: Frame
    form: ReplyForm
    points: PricePoints
    edges: Floats
    features: TextFeatures
    data: Data
    checked: Data

    @classmethod
    def prepare(cls, examples: Sequence[Example], validation: Sequence[Example]) -> Lesson:
        """Read the examples whose replies hold a number; the same examples give the same lesson."""
        frame = Frame.around([example.prompt for example in examples])
        form = ReplyForm.seen_in([example.reply for example in examples])
        logs = _logs(examples)
        edges = price_bins(logs)
        width = softness(edges, logs)
        texts = [frame.inside(example.prompt) for example in examples if example.price is not None]
        features = TextFeatures.fit(texts)
        held_out = [example for example in validation if example.price is not None]
        held_out_texts = [frame.inside(example.prompt) for example in held_out]
        return cls(
            frame=frame,
            form=form,
            points=PricePoints.seen_in(np.expm1(logs), decimals=form.decimals),
            edges=edges,
            features=features,
            data=Data(features.transform(texts), *soft_labels(logs, edges, width)),
            checked=Data(features.transform(held_out_texts), *soft_labels(_logs(held_out), edges, width)),
        )

    def model(self, network: Network, spread: float) -> PriceModel:
        """Return the model that a network makes of this lesson."""
        return PriceModel(
            features=self.features,
            network=network,
            edges=self.edges,
            points=self.points,
            spread=spread,
            frame=self.frame,
            form=self.form,
        )


def _logs(examples: Sequence[Example]) -> Floats:
    return np.log1p([example.price for example in examples if example.price is not None])
