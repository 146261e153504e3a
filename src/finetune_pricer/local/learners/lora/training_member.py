"""The program of each process of a training group: `python -m ... ORDER MEETING`, started by torchrun.

It stands on torch, and is run by those processes only. The first process reports, all of them fail aloud.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import IO, TYPE_CHECKING

import torch
import torch.distributed

from ....errors import PricerError
from ...shortage import describe_shortage
from ...signals import ENDING
from .adapter_trainer import AdapterTrainer
from .data_parallel import check_processes
from .lora_learner import LoraLearner
from .training_group import GroupDone, GroupFailed, GroupMessage, GroupOrder

if TYPE_CHECKING:
    from ..learner import Report


def main() -> None:
    """Train one job together with the other processes of the group."""
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)
    os.umask(0o077)
    threading.Thread(target=_end_with_input, daemon=True).start()
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a library that prints must not be taken for us
    order, meeting = sys.argv[1:]
    try:
        files = _train(GroupOrder.model_validate_json(Path(order).read_bytes()), meeting, out)
    except Exception as error:  # noqa: BLE001  whatever it is, the server must hear of it
        _send(out, _describe(error))
        os._exit(1)  # the others wait for this one: it must not wait for them
    if torch.distributed.get_rank() == 0:
        _send(out, GroupDone(files=files))
    torch.distributed.destroy_process_group()


def _train(order: GroupOrder, meeting: str, out: IO[bytes]) -> dict[str, str]:
    learner = LoraLearner(**order.options)
    processes = learner.recipe.processes
    check_processes(processes)
    rank = int(os.environ.get("RANK") or 0)
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(rank)
    torch.distributed.init_process_group(
        "nccl" if on_gpu else "gloo",
        store=torch.distributed.FileStore(meeting, processes),
        rank=rank,
        world_size=processes,
    )

    def report(message: Report) -> None:
        if rank == 0:
            _send(out, message)

    return AdapterTrainer(order.job, learner.weights, learner.recipe, report=report).run()


def _describe(error: Exception) -> GroupFailed:
    # Of a stranger's error only the name: its words might hold a piece of a prompt.
    name = type(error).__name__
    message = error.message if isinstance(error, PricerError) else f"a training process failed ({name})"
    return GroupFailed(error=name, message=message, shortage=describe_shortage(error))


def _send(out: IO[bytes], message: GroupMessage) -> None:
    out.write(message.model_dump_json().encode() + b"\n")
    out.flush()


def _end_with_input() -> None:
    while os.read(0, 1):
        pass
    os._exit(0)


if __name__ == "__main__":
    main()
