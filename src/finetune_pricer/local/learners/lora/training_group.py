"""Training in several processes, which torchrun starts and the training process of the job waits for.

The processes of the group report to the job's own process, which tells the server as if it had trained alone.
Their input is a pipe that nothing is ever written into: it ends when the job's process does, however it ends,
and the group with it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from ....errors import ServiceUnavailable
from ...shortage import Shortage
from ..learner import Report, TrainingJob
from .answering_process import make_error

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from typing import IO

_PROGRAM = "finetune_pricer.local.learners.lora.training_member"
_ORDER = "processes.json"
_MEETING = "processes.meeting"


class _Frozen(BaseModel):
    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, strict=True, extra="forbid")


class GroupOrder(_Frozen):
    """What each process of a group is told: the learner's fields, and the job."""

    options: dict[str, Any]
    job: TrainingJob


class GroupDone(_Frozen):
    """The last message of a training that went well."""

    kind: Literal["done"] = "done"
    files: dict[str, str]


class GroupFailed(_Frozen):
    """The message of a process that cannot go on; the others are ended."""

    kind: Literal["failed"] = "failed"
    error: str
    """The name of the error's class."""
    message: str
    shortage: str | None = None
    """What the machine had too little of, where that was the cause."""


GroupMessage = Report | GroupDone | GroupFailed
"""What a process of a group says, one line of JSON each."""

_MESSAGES: TypeAdapter[GroupMessage] = TypeAdapter(Annotated[GroupMessage, Field(discriminator="kind")])


def train_in_group(
    options: Mapping[str, Any], job: TrainingJob, report: Callable[[Report], None], *, processes: int
) -> dict[str, str]:
    """Train a job in so many processes; return the files of its model.

    Raises:
        PricerError: One of the processes could not go on, or all of them died.
        Shortage: The machine has too little of something for the moment.
    """
    for path in (job.training, job.validation):
        if path is not None:
            path.stat()  # of one that was deleted meanwhile, the server hears by the error's own name
    order = GroupOrder(options=dict(options), job=job)
    (job.folder / _ORDER).write_bytes(order.model_dump_json().encode())
    # What an earlier group, which was killed, wrote there is not for this one.
    for left in job.folder.glob(f"{_MEETING}*"):
        left.unlink()
    group = subprocess.Popen(  # noqa: S603  our own program
        _write_command(job.folder, processes),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        # A traceback could hold a piece of a prompt; the name of an error comes as a message.
        stderr=subprocess.DEVNULL,
        env=os.environ | _choose_environment(processes),
    )
    try:
        return _listen(cast("IO[bytes]", group.stdout), report)
    finally:
        cast("IO[bytes]", group.stdin).close()  # its processes end by that
        group.kill()
        group.wait()


def _listen(lines: IO[bytes], report: Callable[[Report], None]) -> dict[str, str]:
    for line in lines:
        match _MESSAGES.validate_json(line):
            case GroupDone(files=files):
                return files
            case GroupFailed(shortage=str(shortage)):
                raise Shortage(shortage)
            case GroupFailed(error=name, message=message):
                raise make_error(name, message)
            case message:
                report(message)
    raise ServiceUnavailable("the processes that trained have died, perhaps for want of memory")


def _write_command(folder: Path, processes: int) -> list[str]:
    # They meet in a file of the job's own folder: torchrun's usual way is a port that is open to the network.
    meeting = ["--rdzv-backend=c10d", "--rdzv-conf=store_type=file"]
    return [
        *(sys.executable, "-P", "-m", "torch.distributed.run"),
        *("--nnodes=1", f"--nproc-per-node={processes}", "--max-restarts=0"),
        *meeting,
        f"--rdzv-endpoint={folder / _MEETING}",
        "--rdzv-id=finetune-pricer",
        *("-m", _PROGRAM, str(folder / _ORDER), f"{folder / _MEETING}.workers"),
    ]


def _choose_environment(processes: int) -> dict[str, str]:
    threads = int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1)
    chosen = {
        # The same search path as here, and nothing of the folder that the server was started in.
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "PYTHONSAFEPATH": "1",
        "OMP_NUM_THREADS": str(max(threads // processes, 1)),
        "MKL_NUM_THREADS": str(max(threads // processes, 1)),
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
    }
    if sys.platform == "linux":  # what they say to each other stays on this machine
        chosen |= {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}
    return chosen
