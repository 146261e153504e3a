"""Clients that are not ours, unchanged, against `finetune-pricer serve` as a process of its own.

`make clients` installs them beside the tests and runs this.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import openai
import pytest

from local_helpers import eventually, finished, jsonl, products, upload

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.clients
HERE = Path(__file__).parent
INSTALLED = Path(os.environ.get("FINETUNE_PRICER_CLIENTS", HERE.parents[1] / "build" / "clients"))
KEY = "sk-clients"
MESSAGES: Any = [{"role": "user", "content": "A large desk of oak"}]
PRICE = re.compile(r"\$\d+\.\d\d")


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("served")
    log = folder / "log"
    program = "from finetune_pricer.cli import main; main()"
    arguments = ["serve", "--port", "0", "--dir", str(folder), "--key", KEY, "--strict"]
    with (
        log.open("wb") as file,
        subprocess.Popen([sys.executable, "-c", program, *arguments], stderr=file) as served,
    ):
        eventually(lambda: b"/v1" in log.read_bytes(), seconds=60)
        found = re.search(r"http://\S+/v1", log.read_text())
        assert found is not None
        yield found.group()
        served.terminate()


@pytest.fixture
def training(tmp_path: Path) -> Path:
    path = tmp_path / "train.jsonl"
    path.write_bytes(jsonl(products(100)))
    return path


def test_openai_for_python(url: str) -> None:
    with openai.OpenAI(base_url=url, api_key=KEY) as client:
        file = upload(client, jsonl(products(100)))
        job = client.fine_tuning.jobs.create(model="pricer-base", training_file=file.id)
        done = finished(client, job.id, seconds=60)
        answer = client.chat.completions.create(model=done.fine_tuned_model or "", messages=MESSAGES)

        assert PRICE.fullmatch(answer.choices[0].message.content or "")


def test_openai_for_python_async(url: str) -> None:
    async def walk() -> str:
        async with openai.AsyncOpenAI(base_url=url, api_key=KEY) as client:
            file = await client.files.create(file=("t.jsonl", jsonl(products(100))), purpose="fine-tune")
            job = await client.fine_tuning.jobs.create(model="pricer-base", training_file=file.id)
            while job.status not in ("succeeded", "failed"):
                await asyncio.sleep(0.05)
                job = await client.fine_tuning.jobs.retrieve(job.id)
            assert [event async for event in client.fine_tuning.jobs.list_events(job.id, limit=50)]
            stream = await client.chat.completions.create(
                model=job.fine_tuned_model or "", messages=MESSAGES, stream=True
            )
            return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    assert PRICE.fullmatch(asyncio.run(walk()))


def test_openai_for_node(url: str, training: Path, tmp_path: Path) -> None:
    if shutil.which("node") is None or not (INSTALLED / "node_modules" / "openai").is_dir():
        pytest.skip("node or its openai package is not installed; run `make clients`")
    body = {"model": "MODEL", "messages": MESSAGES, "temperature": 0}
    line = {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": body}
    batch = tmp_path / "batch.jsonl"
    batch.write_text("\n".join(json.dumps(line | {"custom_id": str(i)}) for i in range(3)))
    # Node looks for packages beside the program.
    program = shutil.copy(HERE / "walk.mjs", INSTALLED / "walk.mjs")

    done = subprocess.run(
        ["node", program, url, str(training), str(batch)], capture_output=True, text=True, timeout=120
    )

    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert PRICE.fullmatch(said["reply"])
    assert said["streamed"] == said["reply"]
    assert said["events"] > 65
    assert (said["status"], said["checkpoints"], said["batch"], said["output"]) == (
        "succeeded",
        3,
        "completed",
        3,
    )


def test_litellm(url: str, training: Path) -> None:
    python = INSTALLED / "venv" / "bin" / "python"
    if not python.exists():
        pytest.skip("litellm is not installed; run `make clients`")
    done = subprocess.run(
        [python, HERE / "walk_litellm.py", url, str(training)],
        capture_output=True,
        text=True,
        timeout=180,
        env=os.environ | {"LITELLM_LOCAL_MODEL_COST_MAP": "True"},
    )

    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert PRICE.fullmatch(said["reply"])
    assert (said["status"], said["listed"]) == ("succeeded", True)
