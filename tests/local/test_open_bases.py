"""Open base models as they are declared and checked, before any of their weights is loaded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from click.testing import CliRunner

from finetune_pricer.cli import cli
from finetune_pricer.errors import (
    DataError,
    MissingExtra,
    MissingFile,
    NotSupported,
    PricerError,
    ServiceUnavailable,
)
from finetune_pricer.local import LocalServer, LoraLearner
from finetune_pricer.local.learners import describe_learner, make_learner
from finetune_pricer.local.learners.lora import base_weights
from finetune_pricer.local.learners.lora.adapter_folder import AdapterFolder
from finetune_pricer.local.learners.lora.dollar_points import DollarPoints
from finetune_pricer.local.learners.lora.recipe import RECIPES, Recipe, make_recipe, split_batch
from local_helpers import jsonl, products

if TYPE_CHECKING:
    from pathlib import Path

LLAMA = {"architectures": ["LlamaForCausalLM"], "max_position_embeddings": 512}


def write_base(folder: Path, config: dict[str, Any] = LLAMA, **files: str) -> Path:
    """Write what a server looks at before it loads anything."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(b"\0" * 8)
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    for name, content in files.items():
        path = folder / name.replace("__", ".")
        path.unlink() if content == "none" else path.write_text(content)
    return folder


@pytest.fixture
def _with_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the extra were installed: nothing of it is needed before a job trains or a model answers."""
    monkeypatch.setattr(base_weights, "_NEEDED", ())


# Declared


@pytest.mark.usefixtures("_with_extra")
def test_a_base_is_declared_as_an_object_or_as_text(tmp_path: Path) -> None:
    base = str(write_base(tmp_path / "smol"))
    learner = LoraLearner(base, rank=8, learning_rate=1e-4, targets="q_proj+v_proj")

    assert LoraLearner.from_text(f"{base},rank=8,learning_rate=1e-4,targets=q_proj+v_proj") == learner
    assert make_learner(describe_learner(learner)) == learner
    assert learner.recipe.layers == ["q_proj", "v_proj"]
    with LocalServer(bases={"one": learner, "two": f"{base},rank=8"}) as server, server.client() as client:
        models = {model.id: model.to_dict() for model in client.models.list()}
    assert list(models)[2:] == ["one", "two"]
    assert (
        models["one"]["description"] == f"The open language model {base}; untrained, its prices are guesses."
    )


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"preset": "weekly"}, "no preset 'weekly'; choose one of usual, course, course-full"),
        ({"rank": 0}, "rank must be a whole number of at least 1, not 0"),
        ({"dropout": 1.0}, "dropout must be from 0 to below 1"),
        ({"learning_rate": -1.0}, "learning_rate must be between 0 and 1"),
        ({"quantize": "int8"}, "quantize must be one of none, nf4, not 'int8'"),
        ({"dtype": "float8"}, "dtype must be one of auto"),
        ({"template": "alpaca"}, "template must be one of chat, plain"),
        ({"text_tokens": 0}, "text_tokens must be a whole number of at least 1"),
        ({"processes": 0}, "processes must be a whole number of at least 1"),
    ],
)
def test_an_option_that_cannot_be_trained_with_is_refused(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        LoraLearner("models/smol", **options)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("models/smol,size=3", "no option 'size' of a base; choose from preset, rank"),
        ("models/smol,rank=many", "the option rank must be a number, not 'many'"),
    ],
)
def test_an_option_in_words_that_is_none_is_refused(text: str, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        LoraLearner.from_text(text)


def test_the_command_refuses_a_base_without_a_name_and_one_that_is_not_there() -> None:
    nameless = CliRunner().invoke(cli, ["serve", "--base", "models/smol"])
    missing = CliRunner().invoke(cli, ["serve", "--port", "0", "--base", "smol=/no/such/base"])

    assert nameless.exit_code == 2
    assert "names no model; write NAME=MODEL" in nameless.output
    assert missing.exit_code != 0
    assert "there is no base model at /no/such/base" in missing.output + str(missing.exception)


# Recipes


def test_the_preset_of_the_course_is_its_recipe_and_what_is_given_stands_in_its_place() -> None:
    course = LoraLearner("models/llama", preset="course", template="chat", quantize="none").recipe

    assert (course.rank, course.scale, course.dropout, course.batch_size) == (32, 64, 0.1, 32)
    assert course.layers == ["q_proj", "k_proj", "v_proj", "o_proj"]
    assert (course.learning_rate, course.schedule, course.clip, course.weight_decay) == (
        1e-4,
        "cosine",
        0.3,
        0.001,
    )
    assert course.count_warmup(625) == 7
    assert (course.template, course.quantize, course.text_tokens) == ("chat", "none", 110)
    assert RECIPES["course"].quantize == "nf4"
    assert (RECIPES["course-full"].rank, RECIPES["course-full"].choose_epochs(None, 800_000)) == (256, 3)
    assert make_recipe("course", {"rank": 8}).scale == 16  # the weight of an adapter stays


def test_what_a_job_leaves_open_goes_by_the_size_of_the_data_and_of_the_model() -> None:
    usual = Recipe()

    assert [usual.choose_epochs(None, count) for count in (999, 1_000, 4_999, 5_000)] == [3, 2, 2, 1]
    assert usual.choose_epochs(7, 5_000) == 7
    assert [usual.choose_batch(None, count) for count in (10, 64, 5_000)] == [1, 8, 16]
    assert [usual.choose_rate(None, int(size))[0] for size in (135e6, 3e9, 70e9)] == [1e-3, 2e-4, 1e-4]
    assert usual.choose_rate(0.5, int(3e9)) == (1e-4, 0.5)
    assert usual.choose_rate(3.0, int(135e6)) == (2e-3, 2)  # three times the rate undoes the weights


def test_a_batch_is_cut_into_even_pieces_that_fit_into_memory() -> None:
    pieces = [split_batch(size, longest=128) for size in (1, 8, 16, 32, 12, 7)]
    assert pieces == [(1, 1), (8, 1), (8, 2), (8, 4), (6, 2), (7, 1)]
    assert split_batch(16, longest=60) == (16, 1)
    assert split_batch(16, longest=5_000) == (1, 16)
    assert split_batch(64, longest=256, on_gpu=True) == (64, 1)


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="only Linux says which cores are ours")
def test_the_processes_take_the_cores_that_this_one_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5, 6})

    assert LoraLearner("base").environment["OMP_NUM_THREADS"] == "3"


# Checked


@pytest.mark.parametrize(
    ("config", "files", "kind", "reason"),
    [
        (
            {"architectures": ["BertForMaskedLM"]},
            {},
            NotSupported,
            "no causal language model but BertForMaskedLM",
        ),
        (LLAMA, {"model__safetensors": "none"}, NotSupported, "no weights in safetensors; pickled ones"),
        (LLAMA, {"chat_template__jinja": "none"}, NotSupported, "no chat template.*template=plain"),
        (LLAMA, {"config__json": "none"}, MissingFile, "holds no config.json"),
    ],
    ids=["no causal model", "no safetensors", "no chat template", "no model"],
)
def test_a_folder_that_is_no_base_keeps_the_server_from_starting(
    tmp_path: Path, config: dict[str, Any], files: dict[str, str], kind: type[PricerError], reason: str
) -> None:
    base = write_base(tmp_path / "base", config, **files)

    with pytest.raises(kind, match=reason):
        LocalServer(bases={"base": str(base)}).start()


@pytest.mark.usefixtures("_with_extra")
def test_a_base_without_a_chat_template_is_taken_where_it_gets_the_texts_alone(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base", chat_template__jinja="none")

    LoraLearner(str(base), template="plain").prepare()
    (base / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{{ messages }}"}))
    LoraLearner(str(base)).prepare()


def test_a_server_without_the_extra_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base_weights, "_NEEDED", ("json", "no_such_library"))

    with pytest.raises(MissingExtra, match=r"need no_such_library.*pip install 'finetune-pricer\[lora\]'"):
        LocalServer(bases={"base": str(write_base(tmp_path / "base"))}).start()


def test_a_file_that_only_ends_like_one_of_weights_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"<html>")

    with pytest.raises(DataError, match="is not a GGUF file"):
        LoraLearner(str(tmp_path / "model.gguf")).prepare()
    with pytest.raises(DataError, match="is not a GGUF file"):
        LoraLearner(str(tmp_path)).prepare()


def test_nothing_is_fetched_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base_weights, "_NEEDED", ("no_such_library",))

    with pytest.raises(MissingExtra, match=r"pip install 'finetune-pricer\[lora\]'"):
        LoraLearner("nobody/nothing@v1").prepare()


def test_the_demo_with_own_weights_says_what_to_install_before_it_fetches_anything(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(base_weights, "_NEEDED", ("no_such_library",))

    done = CliRunner().invoke(cli, ["demo", "--own-weights", "--base", "nobody/nothing@v1"])

    assert done.exit_code == 6
    assert "pip install 'finetune-pricer[lora]'" in done.output


@pytest.mark.usefixtures("_with_extra")
def test_a_model_of_the_hub_that_cannot_be_had_is_refused_with_what_to_do() -> None:
    with pytest.raises(ServiceUnavailable, match=r"nobody/nothing@v1 is not here.*or name a folder"):
        LoraLearner("nobody/nothing@v1").prepare()


@pytest.mark.usefixtures("_with_extra")
def test_a_model_of_the_hub_that_is_here_already_needs_no_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    commit = "1" * 40
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    write_base(tmp_path / "models--nobody--something" / "snapshots" / commit)

    learner = LoraLearner(f"nobody/something@{commit}")
    learner.prepare()

    assert learner.context == 512 - 32


# What killed servers have left


def test_adapters_of_killed_servers_are_removed_and_those_of_living_ones_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    weights = tmp_path / "weights"
    weights.write_bytes(b"weights")
    program = """
import os, pathlib, signal, sys, tempfile
from finetune_pricer.local.learners.lora.adapter_folder import AdapterFolder
tempfile.tempdir = sys.argv[1]
folder = AdapterFolder({"a": pathlib.Path(sys.argv[1], "weights")})
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False)
    (left,) = tmp_path.glob("finetune-pricer-adapter-*")
    living, young = AdapterFolder({"a": weights}), AdapterFolder({"a": weights})
    for folder in (left, living.path):
        os.utime(folder, (0, 0))
    young._lock.release()  # as in the moment before it is taken

    with pytest.raises(MissingFile):
        LoraLearner("/no/such/base").prepare()

    assert not left.exists()
    assert (living.path / "a").read_bytes() == b"weights"
    assert young.path.exists()
    living.remove()
    assert not living.path.exists()


def test_what_a_killed_conversion_has_left_is_removed_and_one_that_runs_stays(tmp_path: Path) -> None:
    left, running = tmp_path / ".part-a", tmp_path / ".part-b"
    for folder in (left, running):
        (folder / "weights").mkdir(parents=True)
    os.utime(left, (0, 0))

    base_weights._remove_unfinished(tmp_path)

    assert [path.name for path in tmp_path.iterdir()] == [".part-b"]


@pytest.mark.parametrize(
    ("config", "context"),
    [
        ({}, 512 - 32),
        ({"max_position_embeddings": 131_072}, 4_096 - 32),
        ({"sliding_window": 128}, 128 - 32),
        ({"sliding_window": 128, "use_sliding_window": False}, 512 - 32),
        ({"sliding_window": 128, "layer_types": ["full_attention"]}, 512 - 32),
        ({"sliding_window": 128, "layer_types": ["full_attention", "sliding_attention"]}, 128 - 32),
    ],
)
def test_the_context_is_what_all_layers_see(tmp_path: Path, config: dict[str, Any], context: int) -> None:
    assert LoraLearner(str(write_base(tmp_path / "base", LLAMA | config))).context == context


def test_a_file_without_prices_fails_before_it_waits(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_bytes(jsonl(products(12), "no price for {:.0f}".replace("{:.0f}", "").format))

    with pytest.raises(DataError, match="No reply holds a number"):
        LoraLearner("models/smol").check(path, fewest=10)


# The prices that are asked


def test_all_whole_dollars_to_a_thousand_are_asked_and_above_what_was_seen_and_round_prices() -> None:
    points = DollarPoints.from_prices([20, 1_199, 1_850], decimals=0)
    prices = points.prices.tolist()

    assert prices[:999] == list(range(1, 1_000))
    assert {1_000, 1_100, 1_199, 1_850, 2_300} <= set(prices)
    assert max(prices) == 2_300
    assert points.shares.tolist() == [1] * len(prices)
    assert DollarPoints.from_prices([], decimals=0).prices.max() == 10_000


def test_cents_are_shared_out_as_they_were_seen_with_the_same_dollars() -> None:
    points = DollarPoints.from_prices([19.99] * 8 + [19.5] * 2 + [5.0] * 2, decimals=2)
    chances = np.zeros(points.dollars.max() + 1)
    chances[points.dollars[points.prices.tolist().index(19.99)]] = 1.0
    row = dict(zip(points.prices.tolist(), points.spread(chances).tolist(), strict=True))

    assert sum(row.values()) == pytest.approx(1)
    assert row[19.99] == pytest.approx((8 + 8 / 12) / 11)
    assert row[19.5] == pytest.approx((2 + 2 / 12) / 11)
    assert row[5.0] == 0
    unseen = points.prices[points.dollars == points.dollars[points.prices.tolist().index(7.99)]].tolist()
    assert unseen == [7.0, 7.5, 7.99]
    again = DollarPoints.from_dict(json.loads(json.dumps(points.to_dict())))
    assert again.prices.tolist() == points.prices.tolist()
