"""The seam between the server and its learners: another learner goes through the whole server."""

from __future__ import annotations

import ast
import graphlib
import json
import math
import re
import threading
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import openai
import pytest

import finetune_pricer.local
from finetune_pricer.errors import DataError
from finetune_pricer.local import LocalServer
from finetune_pricer.local.jobs.trainer_process import (
    BadMessage,
    TrainerOrder,
    TrainerProcess,
    TrainerSlot,
    TrainingDone,
    TrainingFailed,
    decode_messages,
    encode_messages,
)
from finetune_pricer.local.learners import (
    CheckpointSaved,
    HyperparametersChosen,
    Metrics,
    Note,
    RequestedHyperparameters,
    StepDone,
    TrainingJob,
    describe_learner,
    load_bases,
    make_learner,
)
from local_helpers import ask, events, eventually, finished, line, upload
from parrot import Parrot

if TYPE_CHECKING:
    from collections.abc import Iterator

    from openai.types.fine_tuning import FineTuningJob

    from finetune_pricer.local.jobs.trainer_process import Message

REPLIES = ["polly wants 5 crackers"] * 6 + ["polly wants 9 dollars"] * 3 + ["polly sleeps"] * 3
CONTENT = "\n".join(line("how much?", reply) for reply in REPLIES).encode()
ASKED: Any = [{"role": "user", "content": "how much?"}]


def start(client: openai.OpenAI, *, content: bytes = CONTENT) -> FineTuningJob:
    return client.fine_tuning.jobs.create(
        model="parrot",
        training_file=upload(client, content).id,
        validation_file=upload(client, CONTENT).id,
        hyperparameters={"n_epochs": 5, "batch_size": 3},
        seed=1,
        suffix="grey",
    )


def training_job(folder: Path) -> TrainingJob:
    return TrainingJob(
        training=folder / "train.jsonl",
        validation=None,
        hyperparameters=RequestedHyperparameters(),
        seed=1,
        folder=folder,
    )


def steps(client: openai.OpenAI, job_id: str) -> list[int]:
    told = [event for event in events(client, job_id) if event.type == "metrics"]
    return [int(event.data["step"]) for event in told]  # type: ignore[index]


@pytest.fixture(scope="module")
def aviary() -> Iterator[LocalServer]:
    with LocalServer(bases={"parrot": Parrot()}, cores=1) as server:
        yield server


@pytest.fixture(scope="module")
def keeper(aviary: LocalServer) -> Iterator[openai.OpenAI]:
    with aviary.client(max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def trained(keeper: openai.OpenAI) -> FineTuningJob:
    return finished(keeper, start(keeper).id)


# A job from beginning to end


def test_its_base_model_is_offered_beside_those_that_come_with_the_server(keeper: openai.OpenAI) -> None:
    models = {model.id: model for model in keeper.models.list()}

    assert list(models)[:3] == ["pricer-base", "pricer-base-mini", "parrot"]
    assert models["parrot"].owned_by == "pirates"
    assert models["parrot"].to_dict()["description"] == "An untrained parrot."
    assert ask(keeper, "parrot", "hello") == "squawk !"


def test_its_file_check_decides_which_files_fail_a_job(keeper: openai.OpenAI) -> None:
    silent = finished(keeper, start(keeper, content=CONTENT.replace(b"polly", b"nobody")).id)
    short = finished(keeper, start(keeper, content=CONTENT[: CONTENT.index(b"\n")]).id)

    assert silent.error is not None
    assert short.error is not None
    assert (silent.error.code, silent.error.param) == ("invalid_training_file", "training_file")
    assert silent.error.message.endswith("A parrot learns nothing from a reply without 'polly'.")
    assert "at least 10" in short.error.message


def test_its_job_tells_hyperparameters_steps_losses_checkpoints_and_tokens(
    keeper: openai.OpenAI, trained: FineTuningJob
) -> None:
    told = events(keeper, trained.id)

    assert trained.status == "succeeded"
    assert (trained.hyperparameters.n_epochs, trained.hyperparameters.batch_size) == (5, 3)
    assert trained.hyperparameters.learning_rate_multiplier == 1.0
    assert trained.trained_tokens == 5 * sum(len(reply.split()) for reply in REPLIES)
    assert steps(keeper, trained.id) == list(range(1, 21))
    messages = [event.message for event in told if event.type == "message"]
    assert messages[3:-2] == [
        "Fine-tuning job started",
        "The parrot listens",
        *(f"Checkpoint created at step {step}" for step in (4, 8, 12, 16, 20)),
    ]
    kept = keeper.fine_tuning.jobs.checkpoints.list(trained.id).data
    assert [checkpoint.step_number for checkpoint in kept] == [20, 16, 12]
    assert all(checkpoint.metrics.valid_loss for checkpoint in kept)
    assert all(ask(keeper, each.fine_tuned_model_checkpoint, "?").startswith("polly") for each in kept)
    (file_id,) = trained.result_files
    assert len(keeper.files.content(file_id).text.splitlines()) == 21


def test_its_model_answers_with_token_probabilities(keeper: openai.OpenAI, trained: FineTuningJob) -> None:
    answer = keeper.chat.completions.create(
        model=trained.fine_tuned_model or "", messages=ASKED, temperature=0, logprobs=True, top_logprobs=2
    )

    (choice,) = answer.choices
    assert choice.message.content == "polly wants 5 crackers"
    assert choice.logprobs is not None
    first, *others = choice.logprobs.content or []
    assert first.token == "polly "
    assert first.logprob == pytest.approx(math.log(0.5))
    assert [top.logprob for top in first.top_logprobs] == pytest.approx([math.log(0.5), math.log(0.25)])
    assert [token.logprob for token in others] == [0, 0, 0]
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (2, 4)


def test_its_model_draws_several_replies_which_a_seed_repeats(
    keeper: openai.OpenAI, trained: FineTuningJob
) -> None:
    def draw(seed: int) -> Counter[str | None]:
        answer = keeper.chat.completions.create(
            model=trained.fine_tuned_model or "", messages=ASKED, n=60, seed=seed
        )
        return Counter(choice.message.content for choice in answer.choices)

    assert draw(1) == draw(1) != draw(2)
    assert set(draw(1)) == set(REPLIES)


@pytest.mark.parametrize(
    ("options", "text", "finish"),
    [
        ({"max_tokens": 2}, "polly wants ", "length"),
        ({"max_completion_tokens": 4}, "polly wants 5 crackers", "stop"),
        ({"stop": "ants"}, "polly w", "stop"),
    ],
)
def test_its_replies_end_at_a_limit_or_a_stop_sequence(
    keeper: openai.OpenAI, trained: FineTuningJob, options: dict[str, Any], text: str, finish: str
) -> None:
    answer = keeper.chat.completions.create(
        model=trained.fine_tuned_model or "", messages=ASKED, temperature=0, **options
    )

    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == (text, finish)


def test_its_context_bounds_a_prompt(keeper: openai.OpenAI, trained: FineTuningJob) -> None:
    with pytest.raises(openai.BadRequestError, match="maximum context length is 50") as refused:
        ask(keeper, trained.fine_tuned_model, "cracker " * 51)

    assert refused.value.code == "context_length_exceeded"


def test_its_model_answers_streams_and_batches(keeper: openai.OpenAI, trained: FineTuningJob) -> None:
    body = {"model": trained.fine_tuned_model, "messages": ASKED, "temperature": 0}
    request = {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": body}
    chunks = keeper.chat.completions.create(
        model=trained.fine_tuned_model or "", messages=ASKED, temperature=0, stream=True
    )
    file = keeper.files.create(file=("b.jsonl", json.dumps(request).encode()), purpose="batch")
    batch = keeper.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
    )

    assert "".join(c.choices[0].delta.content or "" for c in chunks) == "polly wants 5 crackers"
    eventually(lambda: keeper.batches.retrieve(batch.id).status == "completed")
    output = keeper.batches.retrieve(batch.id).output_file_id or ""
    assert "polly wants 5 crackers" in keeper.files.content(output).text


def test_its_model_can_be_deleted_and_files_that_models_share_stay(keeper: openai.OpenAI) -> None:
    one, other = (finished(keeper, start(keeper).id).fine_tuned_model or "" for _ in range(2))
    ask(keeper, one, "?")

    assert keeper.models.delete(one).deleted
    with pytest.raises(openai.NotFoundError):
        ask(keeper, one, "?")
    assert ask(keeper, other, "?") == "polly wants 5 crackers"


# Killed and paused


def test_a_job_killed_with_its_server_paused_and_resumed_ends_with_the_same_model(tmp_path: Path) -> None:
    def words(server: LocalServer, job: FineTuningJob) -> bytes:
        assert server._runtime is not None
        database = server._runtime.state.database
        model = database.find_model(job.fine_tuned_model or "")
        assert model is not None
        return database.blobs.path(model.files["words"]).read_bytes()

    bases = {"parrot": Parrot(pause=0.05)}
    with LocalServer(tmp_path, bases=bases, cores=1) as server, server.client() as client:
        straight = words(server, finished(client, start(client).id))
        job = start(client)
        eventually(lambda: len(steps(client, job.id)) > 5)
        server.stop()  # which kills the training
    with LocalServer(tmp_path, bases=bases, cores=1) as server, server.client() as client:
        eventually(lambda: len(steps(client, job.id)) > 12)
        client.fine_tuning.jobs.pause(job.id)
        rested = steps(client, job.id)
        client.fine_tuning.jobs.resume(job.id)
        done = finished(client, job.id)

        assert 12 < len(rested) < 20
        assert done.status == "succeeded"
        assert steps(client, job.id) == list(range(1, 21))
        assert words(server, done) == straight
        assert [event.message for event in events(client, job.id)].count("The parrot listens") == 1


def test_a_server_without_its_base_keeps_its_jobs_and_models_for_one_with_it(tmp_path: Path) -> None:
    bases = {"parrot": Parrot(pause=0.05)}
    with LocalServer(tmp_path, bases=bases, cores=1) as server, server.client() as client:
        model = finished(client, start(client).id).fine_tuned_model or ""
        job = start(client)
        eventually(lambda: len(steps(client, job.id)) > 5)
    with LocalServer(tmp_path, cores=1) as server, server.client() as client:
        eventually(lambda: str(client.fine_tuning.jobs.retrieve(job.id).status) == "paused")
        assert "does not offer the base model parrot" in events(client, job.id)[-1].message
        with pytest.raises(openai.NotFoundError, match="base model `parrot`, which this server does not"):
            ask(client, model, "?")
        assert "does not offer" in str(client.models.retrieve(model).to_dict()["description"])
        client.fine_tuning.jobs.resume(job.id)
        eventually(lambda: str(client.fine_tuning.jobs.retrieve(job.id).status) == "paused")
    with LocalServer(tmp_path, bases=bases, cores=1) as server, server.client() as client:
        client.fine_tuning.jobs.resume(job.id)

        assert finished(client, job.id).status == "succeeded"
        assert steps(client, job.id) == list(range(1, 21))
        assert ask(client, model, "?") == "polly wants 5 crackers"


# What goes wrong in a training process


@pytest.mark.parametrize(
    ("trick", "reason"),
    [
        ("riddle", "internal error: its training process sent .*'riddle' found using 'kind'"),
        ("nonsense", r"internal error: its training process sent step\.total_steps: Field required"),
        ("refusal", r"^The job failed: the parrot has a cold: try again tomorrow\.$"),
        ("error", r"^The job failed due to an internal error: RuntimeError\.$"),
        ("exit", "internal error: its training process died"),
    ],
)
def test_a_training_that_goes_wrong_fails_its_job_with_a_reason_and_no_prompt(
    trick: Any, reason: str
) -> None:
    bases = {"parrot": Parrot(trick=trick), "healthy": Parrot()}
    with LocalServer(bases=bases, cores=1) as server, server.client() as client:
        failed = finished(client, start(client).id)
        after = client.fine_tuning.jobs.create(model="healthy", training_file=failed.training_file)

        assert failed.status == "failed"
        assert failed.error is not None
        assert failed.error.code == "server_error"
        assert re.search(reason, failed.error.message), failed.error.message
        assert "private" not in failed.error.message
        assert finished(client, after.id).status == "succeeded"


def test_messages_come_out_of_the_pipe_as_they_went_in() -> None:
    metrics = Metrics(train_loss=0.5, valid_loss=0.25)
    messages: list[Message] = [
        Note(message="x\ny"),
        HyperparametersChosen(n_epochs=1, batch_size=2, learning_rate_multiplier=0.1, trained_tokens=3),
        StepDone(step=1, total_steps=2, metrics=metrics),
        CheckpointSaved(step=1, files={"a": "b"}, metrics=metrics),
        TrainingDone(files={}),
        TrainingFailed(error="ValueError"),
    ]

    line = encode_messages(messages)

    assert line.count(b"\n") == 1
    assert decode_messages(line) == messages


@pytest.mark.parametrize(
    "line",
    [
        b"[]\n",
        b"{}\n",
        b"Loading weights: 100%\n",
        b'[{"kind": "step"}]\n',
        b'[{"message": "no kind"}]\n',
        b'[{"kind": "note", "message": 5}]\n',
        b'[{"kind": "note", "message": "x", "more": 1}]\n',
        b'[{"kind": "step", "step": "1", "total_steps": 2, "metrics": {"train_loss": 1.0}}]\n',
        b'[{"kind": "step", "step": 1, "total_steps": 2, "metrics": {"train_loss": null}}]\n',
    ],
)
def test_what_is_no_message_is_refused(line: bytes) -> None:
    with pytest.raises(BadMessage):
        decode_messages(line)


# Two processes, one learner


def test_a_learner_is_made_again_from_its_description() -> None:
    spec = describe_learner(Parrot(pause=0.5))

    assert spec.path == "parrot:Parrot"
    assert make_learner(spec) == Parrot(pause=0.5)
    bases = load_bases({"parrot": Parrot()})
    assert make_learner(describe_learner(bases["pricer-base-mini"])) == bases["pricer-base-mini"]


def test_a_learner_that_a_training_process_could_not_make_is_refused_before_the_server_starts() -> None:
    @dataclass
    class Local(Parrot):
        pass

    with pytest.raises(DataError, match=r"Local' cannot be imported"):
        LocalServer(bases={"x": Local()})
    with pytest.raises(DataError, match="a field that JSON cannot hold"):
        LocalServer(bases={"x": Parrot(trick=object())})  # type: ignore[arg-type]


def test_a_training_process_is_kept_for_the_next_job_of_the_same_environment(
    tmp_path: Path,
) -> None:
    slot, job = TrainerSlot(), training_job(tmp_path)
    one, other = ({"PARROT_THREADS": number} for number in "12")

    def train(environment: dict[str, str]) -> TrainerProcess:
        order = TrainerOrder(learner=describe_learner(Parrot(trick="refusal")), job=job)
        assert len(list(slot.run("ftjob-1", order, environment, lambda: True))) == 1
        assert slot._process is not None
        return slot._process

    try:
        first = train(one)
        assert train(one) is first
        assert train(other) is not first
        assert not first.is_alive
    finally:
        slot.close()


def test_a_training_process_that_met_an_accident_trains_nothing_more(tmp_path: Path) -> None:
    """A GPU that was lost stays lost to it; the next try begins in a process of its own."""
    slot, job = TrainerSlot(), training_job(tmp_path)
    order = TrainerOrder(learner=describe_learner(Parrot(trick="error")), job=job)
    try:
        ((failed,),) = slot.run("ftjob-1", order, {"PARROT_THREADS": "1"}, lambda: True)

        assert isinstance(failed, TrainingFailed)
        assert failed.reason is None
        assert slot._process is not None
        assert not slot._process.is_alive
    finally:
        slot.close()


def test_learners_are_closed_when_the_server_stops() -> None:
    parrot = Parrot()
    with LocalServer(bases={"parrot": parrot}):
        assert parrot.closed == 0

    assert parrot.closed == 1


def test_a_model_that_thinks_long_holds_up_nobody_else(keeper: openai.OpenAI, aviary: LocalServer) -> None:
    assert aviary._runtime is not None
    parrot = aviary._runtime.state.bases["parrot"]
    assert isinstance(parrot, Parrot)
    ask(keeper, "parrot", "?")  # loads it
    parrot.patience = threading.Event()
    said: list[str] = []
    asking = threading.Thread(target=lambda: said.append(ask(keeper, "parrot", "?")))
    asking.start()
    try:
        assert httpx2.get(aviary.url.removesuffix("/v1") + "/health", timeout=5).status_code == 200
        assert "not been trained" in ask(keeper, "pricer-base", "?")
        assert said == []
    finally:
        parrot.patience.set()
        asking.join(20)
        parrot.patience = None
    assert said == ["squawk !"]


def test_the_room_s_files_import_each_other_in_one_direction() -> None:
    room = Path(finetune_pricer.local.__file__).parent
    imports = {path: set(imported_files(path, room)) for path in room.rglob("*.py")}

    order = list(graphlib.TopologicalSorter(imports).static_order())  # raises CycleError for a circle
    assert len(order) == len(imports) > 30
    layers = ["learners", "jobs", "api"]
    for path, others in imports.items():
        layer = path.relative_to(room).parts[0]
        below = [other for other in others if other.relative_to(room).parts[0] in layers]
        if layer in layers:
            assert all(layers.index(o.relative_to(room).parts[0]) <= layers.index(layer) for o in below), path


def imported_files(path: Path, room: Path) -> Iterator[Path]:
    """The files of the room that a file imports at run time, also inside its functions."""
    tree = ast.parse(path.read_text())
    typing_only = [
        node
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in ast.walk(block)
    ]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level and node not in typing_only:
            folder = path.parents[node.level - 1] / (node.module or "").replace(".", "/")
            names = [folder / f"{alias.name}.py" for alias in node.names]
            for file in (folder.with_suffix(".py"), folder / "__init__.py", *names):
                if file.is_relative_to(room) and file.exists():
                    yield file


def test_only_the_registry_knows_a_learner_by_name() -> None:
    room = Path(finetune_pricer.local.__file__).parent
    outside = [path for path in room.rglob("*.py") if "sparse" not in path.parts]
    importing = [
        path.name
        for path in outside
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom | ast.Import) and "sparse" in ast.unparse(node)
    ]
    naming = [path.name for path in outside if "learners.sparse" in path.read_text()]

    assert importing == []
    assert naming == ["registry.py"]
