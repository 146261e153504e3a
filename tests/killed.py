"""A process that asks for a job and is killed on the way, for tests that start it again."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import httpx2
import openai

from finetune_pricer import FineTuneJob, JsonlWriter, MadeUpCatalogue
from finetune_pricer.errors import ServiceUnavailable

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerProcess

When = Literal["before send", "after send", "after answer", "no answer", "never"]
What = Literal["files", "fine_tuning/jobs"]

# A process that has all imports done and is forked: a child starts in milliseconds, and without threads.
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    [
        __name__,
        "dotenv",
        "filelock",
        "openai.resources.files",
        "openai.resources.fine_tuning",
        "openai.resources.models",
        "tenacity",
        "finetune_pricer.tune.job",
        "finetune_pricer.tune.purchase",
        "finetune_pricer.providers",
    ]
)


class Lethal(httpx2.BaseTransport):
    """Kills its process at one point of a POST to one place; else sends."""

    def __init__(self, when: When, what: What) -> None:
        self._when = when
        self._what = what
        self._inner = httpx2.HTTPTransport(verify=False)

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        if request.method != "POST" or not request.url.path.endswith(f"/v1/{self._what}"):
            return self._inner.handle_request(request)
        if self._when == "before send":
            die()
        if self._when == "after send":
            request.extensions = {**request.extensions, "trace": _die_when_sent}
        response = self._inner.handle_request(request)
        response.read()
        if self._when == "after answer":
            die()
        if self._when == "no answer":
            time.sleep(600)
        return response


def _die_when_sent(name: str, _: dict[str, Any]) -> None:
    if name.endswith("send_request_body.complete"):
        die()


def die() -> None:
    """End without a chance to tidy up."""
    os.kill(os.getpid(), signal.SIGKILL)


def ask_for_a_job(url: str, folder: str, number: int, when: When, what: What) -> None:
    """Write two files, create the job of that number, wait for it, and leave its id in `done`."""
    os.chdir(folder)
    os.environ["FINETUNE_PRICER_HOME"] = str(Path(folder) / "home")
    train, validation, _ = MadeUpCatalogue(seed=number).splits(train=20, validation=10, test=1)
    writer = JsonlWriter()
    training = writer.write(train, f"train-{number}.jsonl")
    held_out = writer.write(validation, f"validation-{number}.jsonl")
    with httpx2.Client(transport=Lethal(when, what)) as http_client:
        client = openai.OpenAI(base_url=url, api_key="none", max_retries=0, http_client=http_client)
        create = partial(
            FineTuneJob.create, client, training, validation=held_out, model="pricer-base", epochs=1, seed=1
        )
        try:
            job = create(sleep=_blink)
        except ServiceUnavailable:
            # Killed just before the request: nobody but the user, who sees the server's list, knows that.
            job = create(sleep=_blink, again=True)
        job.wait(sleep=_blink)
    Path(f"done-{number}").write_text(job.id)


def _blink(seconds: float) -> None:
    time.sleep(min(seconds, 0.02))


def started(
    url: str, folder: Path, number: int, when: When = "never", what: What = "files"
) -> ForkServerProcess:
    """Start such a process."""
    process = _CONTEXT.Process(target=ask_for_a_job, args=(url, str(folder), number, when, what))
    process.start()
    return process
