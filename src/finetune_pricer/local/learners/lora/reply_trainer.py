"""`ReplyTrainer`: TRL's trainer, which looks only where a reply stands.

A vocabulary has 50,000 tokens or more, and a prompt a hundred: to score each of them at each place takes
longer than all layers of a small model, though nothing is learned there. Without a GPU, TRL does that. Here
all replies of a batch end at the same place, and only the last places are scored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import cross_entropy
from trl import SFTTrainer

from .example_set import UNTRAINED

if TYPE_CHECKING:
    from collections.abc import Sequence


class ReplyTrainer(SFTTrainer):  # type: ignore[misc]
    """Trains on batches of `collate_replies`, with the loss of each of the replies' tokens."""

    def __init__(self, **options: Any) -> None:
        super().__init__(data_collator=collate_replies, **options)
        self._hits: dict[bool, list[float]] = {True: [], False: []}
        """The share of tokens that were the likeliest, in training and in measuring."""

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Return the mean loss of the replies' tokens; `num_items_in_batch` counts those of a whole step."""
        labels = inputs["labels"]
        prompt = {name: tensor for name, tensor in inputs.items() if name != "labels"}
        length = inputs["input_ids"].shape[1]
        # As places, not as a number: of a slice, torch would multiply a copy of the vocabulary for each row.
        kept = torch.arange(length - labels.shape[1], length, device=labels.device)
        outputs = model(**prompt, use_cache=False, logits_to_keep=kept)
        # What stands at a place says what comes next.
        logits, wanted = outputs.logits[:, :-1].float(), labels[:, 1:].to(outputs.logits.device)
        teaches = wanted != UNTRAINED
        count = teaches.sum() if num_items_in_batch is None else num_items_in_batch
        loss = cross_entropy(logits[teaches], wanted[teaches], reduction="sum") / count
        if self.args.average_tokens_across_devices and num_items_in_batch is not None:
            loss = loss * self.accelerator.num_processes  # whose gradients are averaged
        hits = (logits.argmax(dim=-1) == wanted)[teaches].float().mean()
        self._hits[model.training].append(self.accelerator.gather_for_metrics(hits).nanmean().item())
        return (loss, outputs) if return_outputs else loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log what was measured since the last time, and how many tokens were the likeliest."""
        trains = self.model.training
        if hits := self._hits[trains]:
            logs["mean_token_accuracy" if trains else "eval_mean_token_accuracy"] = sum(hits) / len(hits)
            hits.clear()
        super().log(logs, start_time)


def collate_replies(rows: Sequence[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
    """Return examples as one batch, in which all replies, and the token before each, end at the last place.

    What fills a row up stands inside its prompt, hidden from all. On the left it would see nothing at all
    itself, and some ways to compute attention make no number of that. The labels are those of the last places
    alone, one more than the longest reply has.
    """
    longest = max(len(row["input_ids"]) for row in rows)
    replies = [sum(label != UNTRAINED for label in row["labels"]) for row in rows]
    kept = 1 + max(replies)
    tokens = torch.zeros(len(rows), longest, dtype=torch.int64)
    seen, places = torch.ones_like(tokens), torch.zeros_like(tokens)
    labels = torch.full((len(rows), kept), UNTRAINED)
    for number, (row, reply) in enumerate(zip(rows, replies, strict=True)):
        written, end = torch.tensor(row["input_ids"]), reply + 1
        begin = len(written) - end
        for filled, values in ((tokens, written), (places, torch.arange(len(written)))):
            filled[number, :begin] = values[:begin]
            filled[number, longest - end :] = values[begin:]
        seen[number, begin : longest - end] = 0
        labels[number, kept - reply :] = torch.tensor(row["labels"][len(written) - reply :])
    return {"input_ids": tokens, "attention_mask": seen, "position_ids": places, "labels": labels}
