"""A learner unlike the server's own: it repeats the replies it was trained on, as often as it saw them.

Its training takes one step for each batch of rows, saves itself after every step, and misbehaves on demand.
"""

from __future__ import annotations

import json
import math
import os
import re
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

from finetune_pricer._chat_protocol import text_of
from finetune_pricer.errors import DataError, TrainingFileError
from finetune_pricer.local.learners import (
    CheckpointSaved,
    HyperparametersChosen,
    Learner,
    Metrics,
    Model,
    Note,
    Reply,
    Report,
    SampledToken,
    StepDone,
    read_rows,
)

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from finetune_pricer.local.learners import ChatMessages, Sampling, TrainingJob


@dataclass
class Parrot(Learner):
    pause: float = 0.0
    """Seconds that each step takes."""
    trick: Literal["riddle", "nonsense", "refusal", "error", "exit"] | None = None
    """What goes wrong in training."""
    patience: threading.Event | None = field(default=None, init=False)
    """What a reply waits for."""
    closed: int = field(default=0, init=False)

    @property
    def owned_by(self) -> str:
        return "pirates"

    @property
    def description(self) -> str:
        return "An untrained parrot."

    @property
    def tuned_description(self) -> str:
        return "A trained parrot."

    @property
    def context(self) -> int:
        return 50

    @property
    def environment(self) -> Mapping[str, str]:
        return {"PARROT_THREADS": "3"}

    def check(self, path: Path, *, fewest: int) -> None:
        replies = self._replies(path, fewest=fewest)
        if any("polly" not in reply for reply in replies):
            raise TrainingFileError("A parrot learns nothing from a reply without 'polly'.")

    def train(self, job: TrainingJob, report: Callable[[Report], None]) -> Mapping[str, str]:
        self._misbehave(report)
        assert os.environ["PARROT_THREADS"] == "3"
        replies = self._replies(job.training)
        held_out = [] if job.validation is None else self._replies(job.validation, fewest=1)
        epochs, size = job.hyperparameters.n_epochs or 2, job.hyperparameters.batch_size or 4
        report(Note(message="The parrot listens"))
        report(
            HyperparametersChosen(
                n_epochs=epochs,
                batch_size=size,
                learning_rate_multiplier=job.hyperparameters.learning_rate_multiplier or 1.0,
                trained_tokens=epochs * sum(len(reply.split()) for reply in replies),
            )
        )
        batches = [replies[place : place + size] for place in range(0, len(replies), size)]
        state, total = job.folder / "state.json", epochs * len(batches)
        heard: Counter[str] = Counter()
        losses: list[tuple[float, float | None]] = []
        if state.exists():
            saved = json.loads(state.read_text())
            heard, losses = Counter(saved["heard"]), saved["losses"]
            for number in range(1, len(losses) + 1):  # told again, as a learner may
                _report(losses, number, len(batches), total, report)
        for step in range(len(losses) + 1, total + 1):
            time.sleep(self.pause)
            batch, ends_epoch = batches[(step - 1) % len(batches)], step % len(batches) == 0
            heard.update(batch)
            losses.append((_loss(heard, batch), _loss(heard, held_out) if held_out and ends_epoch else None))
            _write(heard, job.folder, f"{step}-")
            _report(losses, step, len(batches), total, report)
            part = state.with_suffix(".part")
            part.write_text(json.dumps({"heard": heard, "losses": losses}))
            part.replace(state)
        return _write(heard, job.folder, "")

    def load(self, files: Mapping[str, Path]) -> Model:
        counts = {name: json.loads(path.read_text()) for name, path in files.items()}
        return Repeater(self, counts["words"] | counts["more words"])

    def load_base(self) -> Model:
        return Repeater(self, {"squawk !": 1})

    def close(self) -> None:
        self.closed += 1

    def _replies(self, path: Path, *, fewest: int = 10) -> list[str]:
        with path.open("rb") as lines:
            return [text_of(messages[-1]) for messages in read_rows(lines, fewest=fewest)]

    def _misbehave(self, report: Callable[[Report], None]) -> None:
        match self.trick:
            case "riddle":
                report(cast("Report", Riddle(message="a very private lamp")))
            case "nonsense":
                half: Any = {"step": 1, "metrics": Metrics(train_loss=1.0)}
                report(StepDone.model_construct(**half))
            case "refusal":
                raise DataError("the parrot has a cold: try again tomorrow.")
            case "error":
                raise RuntimeError("a very private lamp")
            case "exit":
                os._exit(3)


class Riddle(Note):
    kind: Literal["riddle"] = "riddle"  # type: ignore[assignment]


def _loss(heard: Counter[str], replies: Sequence[str]) -> float:
    return -sum(math.log((heard[reply] + 1) / (heard.total() + 1)) for reply in replies) / len(replies)


def _report(
    losses: Sequence[tuple[float, float | None]],
    step: int,
    per_epoch: int,
    total: int,
    report: Callable[[Report], None],
) -> None:
    train_loss, valid_loss = losses[step - 1]
    metrics = Metrics(train_loss=train_loss, valid_loss=valid_loss)
    report(StepDone(step=step, total_steps=total, metrics=metrics))
    if step % per_epoch == 0 and step < total:
        report(CheckpointSaved(step=step, files=_file_names(f"{step}-"), metrics=metrics))


def _file_names(prefix: str) -> dict[str, str]:
    return {"words": f"{prefix}words.json", "more words": f"{prefix}more.json"}


def _write(heard: Counter[str], folder: Path, prefix: str) -> dict[str, str]:
    """Two files under names of its own; the second has the same content in every model."""
    names = _file_names(prefix)
    (folder / names["words"]).write_text(json.dumps(heard))
    (folder / names["more words"]).write_text("{}")
    return names


class Repeater(Model):
    def __init__(self, learner: Parrot, counts: Mapping[str, int]) -> None:
        self._learner = learner
        self._replies = list(counts)
        self._shares = np.array(list(counts.values())) / sum(counts.values())

    def count_tokens(self, messages: ChatMessages) -> int:
        return sum(len(text_of(message).split()) for message in messages)

    def reply(self, messages: ChatMessages, sampling: Sampling) -> Sequence[Reply]:
        if self._learner.patience is not None:
            assert self._learner.patience.wait(20)
        random = np.random.default_rng(sampling.seed)
        places = [
            int(random.choice(len(self._replies), p=self._shares))
            if sampling.temperature
            else int(self._shares.argmax())
            for _ in range(sampling.n)
        ]
        return [self._spell(place, sampling) for place in places]

    def _spell(self, place: int, sampling: Sampling) -> Reply:
        """Its first word says how likely the reply is; the others are then certain."""
        words = re.findall(r"\S+\s*", self._replies[place])
        likely = np.argsort(-self._shares)[: sampling.alternatives]
        others = [(self._replies[i].split()[0], math.log(self._shares[i])) for i in likely]
        tokens = [SampledToken(words[0], math.log(self._shares[place]), others)]
        tokens += [SampledToken(word, 0.0, [(word, 0.0)][: sampling.alternatives]) for word in words[1:]]
        kept = tokens[: sampling.max_tokens]
        return Reply(kept, is_complete=len(kept) == len(tokens))
