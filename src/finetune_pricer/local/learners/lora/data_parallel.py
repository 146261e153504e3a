"""Training in several processes that share each batch, with the losses and gradients of one process.

Every step's examples are dealt out to the processes. Where they cannot be dealt out evenly, blanks are added
that teach nothing: the trainer's own way is to repeat some examples, and those would count twice. It stands
on torch, and so is imported in training processes only.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed
from torch.utils.data import Sampler

from ....errors import NotSupported
from .reply_trainer import ReplyTrainer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from datasets import Dataset


def check_processes(wanted: int) -> None:
    """Raise `NotSupported` where this is one of more, or of fewer, processes than were asked for.

    Some launchers start one process and say nothing, and a server may itself be one of many.
    """
    started = int(os.environ.get("WORLD_SIZE") or 1)
    if started != wanted:
        raise NotSupported(
            f"the base is declared with processes={wanted}, but WORLD_SIZE says that {started} were started; "
            "start the server without a launcher such as torchrun or mpirun: it starts the processes itself"
        )
    gpus = torch.cuda.device_count()
    if wanted > max(gpus, 1) and torch.cuda.is_available():
        raise NotSupported(
            f"the base is declared with processes={wanted}, but this machine shows {gpus} GPU(s); each "
            "process takes one, so declare no more"
        )


def find_rank() -> int:
    """Return which of the processes this is; the first, 0, is the one that writes."""
    return torch.distributed.get_rank() if torch.distributed.is_initialized() else 0


def wait_for_all() -> None:
    """Wait until every process is here."""
    if torch.distributed.is_initialized():
        torch.distributed.barrier()


def follow_first(decision: bool) -> bool:
    """Return what the first process decides, whose clock is not that of the others."""
    if not torch.distributed.is_initialized():
        return decision
    shared = torch.tensor(int(decision), device="cuda" if torch.cuda.is_available() else "cpu")
    torch.distributed.broadcast(shared, src=0)
    return bool(shared.item())


def add_blanks(examples: Mapping[str, Sequence[list[int]]], multiple: int) -> dict[str, list[list[int]]]:
    """Return examples, with as many blanks behind them as make their number a multiple."""
    missing = -len(examples["input_ids"]) % multiple
    # Every example begins with a token of its prompt, which is read and teaches nothing.
    return {name: [*rows, *[rows[0][:1]] * missing] for name, rows in examples.items()}


class EvenTrainer(ReplyTrainer):
    """The trainer of replies; in several processes it trains as it does in one.

    Args:
        count: How many of the training examples are none of the blanks behind them.
        options: As TRL's trainer takes them.
    """

    def __init__(self, *, count: int, **options: Any) -> None:
        self._count = count
        super().__init__(**options)

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Sampler[int]:  # noqa: ARG002
        return _BlanksLast(self._count, len(self.train_dataset), seed=self.args.data_seed)

    def evaluate(self, *arguments: Any, **options: Any) -> dict[str, float]:
        """Measure on the validation examples; each process on its share, and each example once."""
        if self.args.world_size == 1:
            measured: dict[str, float] = super().evaluate(*arguments, **options)
            return measured
        self.model.eval()
        logs = {"eval_loss": self._measure_loss()}
        self.log(logs)
        self.callback_handler.on_evaluate(self.args, self.state, self.control, logs)
        return logs

    def _measure_loss(self) -> float:
        """Return the mean loss of the validation examples, in the very batches that one process makes."""
        size, count = self.args.per_device_eval_batch_size, len(self.eval_dataset)
        total = torch.zeros(1, dtype=torch.float64, device=self.args.device)
        for together in range(0, count, size * self.args.world_size):
            start = together + size * self.args.process_index
            rows = [self.eval_dataset[place] for place in range(start, min(start + size, count))]
            # Who has none left measures a blank all the same: the others wait for all.
            blank = {name: tokens[:1] for name, tokens in self.eval_dataset[0].items()}
            batch = self._prepare_inputs(self.data_collator(rows or [blank]))
            with torch.no_grad(), self.compute_loss_context_manager():
                loss = self.compute_loss(self.model, batch)
            if rows:
                total += loss * len(rows)
        torch.distributed.all_reduce(total)
        return float(total.item()) / count


class _BlanksLast(Sampler[int]):  # type: ignore[misc]
    """An order of the examples for each epoch, the same for any number of processes, and then the blanks."""

    def __init__(self, count: int, length: int, *, seed: int) -> None:
        self._count = count
        self._length = length
        self._seed = seed
        self._epoch = 0

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self._seed + self._epoch)
        yield from torch.randperm(self._count, generator=generator).tolist()
        yield from range(self._count, self._length)
        self._epoch += 1

    def set_epoch(self, epoch: int) -> None:
        """Take the order of an epoch, which the trainer names before each."""
        self._epoch = epoch
