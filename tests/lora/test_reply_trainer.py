"""Training looks only at replies, and learns of them what a look at every token would."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tiny_language_model import NO_TORCH

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("torch", reason=NO_TORCH)
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


def make_rows(lengths: list[tuple[int, int]]) -> list[dict[str, list[int]]]:
    """Examples of random tokens: so many of a prompt, so many of a reply."""
    random = np.random.default_rng(0)
    rows = []
    for prompt, reply in lengths:
        tokens = random.integers(5, 200, prompt + reply).tolist()
        rows.append({"input_ids": tokens, "labels": [-100] * prompt + tokens[prompt:]})
    return rows


def load(base: Path) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)


def test_in_a_batch_a_reply_is_as_likely_as_alone_whatever_the_others_lengths(base: Path) -> None:
    import torch

    from finetune_pricer.local.learners.lora.reply_trainer import collate_replies

    model, rows = load(base).eval(), make_rows([(5, 3), (40, 2), (9, 6), (2, 1)])
    batch = collate_replies(rows)
    labels = batch.pop("labels")
    together = model(**batch, use_cache=False, logits_to_keep=labels.shape[1]).logits

    assert labels.shape == (4, 1 + 6)
    # A place that sees nothing, not even itself, can become NaN, as it did on a GPU.
    assert batch["attention_mask"][:, 0].all()
    for number, row in enumerate(rows):
        prompt, reply = row["labels"].count(-100), len(row["labels"]) - row["labels"].count(-100)
        alone = model(torch.tensor([row["input_ids"]])).logits[0, prompt - 1 : -1]
        assert labels[number, -reply:].tolist() == row["input_ids"][prompt:]
        torch.testing.assert_close(together[number, -reply - 1 : -1], alone, atol=1e-4, rtol=1e-4)


def test_an_example_that_teaches_nothing_fills_a_batch_up() -> None:
    from finetune_pricer.local.learners.lora.reply_trainer import collate_replies

    blank = {"input_ids": [7], "labels": [-100]}
    batch = collate_replies([*make_rows([(5, 3)]), blank])

    assert batch["labels"][1].tolist() == [-100] * 4
    assert batch["attention_mask"][1].tolist() == [0] * 7 + [1]


def test_the_trainer_scores_the_places_of_replies_alone_and_its_losses_are_those_of_trl(
    base: Path, tmp_path: Path
) -> None:
    import datasets
    import torch
    from peft import LoraConfig
    from transformers import AutoTokenizer, set_seed
    from trl import SFTConfig, SFTTrainer

    from finetune_pricer.local.learners.lora.reply_trainer import ReplyTrainer

    rows = make_rows([(20, 3), (30, 2), (12, 4), (25, 3), (9, 5), (18, 2), (22, 3), (14, 2)])
    held_out = make_rows([(11, 3), (16, 5)])
    scored: list[int] = []

    def train(kind: type[SFTTrainer]) -> list[dict[str, float]]:
        set_seed(0)
        model = load(base)
        trainer = kind(
            model=model,
            args=SFTConfig(
                output_dir=str(tmp_path),
                per_device_train_batch_size=2,
                gradient_accumulation_steps=2,
                per_device_eval_batch_size=2,
                num_train_epochs=2,
                learning_rate=0.01,
                logging_steps=1,
                eval_strategy="epoch",
                save_strategy="no",
                max_length=None,
                dataset_kwargs={"skip_prepare_dataset": True},
                report_to=[],
                disable_tqdm=True,
                use_cpu=True,
                bf16=False,
                gradient_checkpointing=False,
                dataloader_pin_memory=False,
            ),
            train_dataset=datasets.Dataset.from_list(rows),
            eval_dataset=datasets.Dataset.from_list(held_out),
            processing_class=AutoTokenizer.from_pretrained(base),
            peft_config=LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"),
        )
        head = trainer.model.get_base_model().get_output_embeddings()
        head.register_forward_hook(lambda _, inputs, __: scored.append(inputs[0].shape[1]))
        trainer.train()
        return [
            {name: entry[name] for name in ("loss", "eval_loss", "mean_token_accuracy") if name in entry}
            for entry in trainer.state.log_history
        ]

    theirs = train(SFTTrainer)
    scored.clear()
    ours = train(ReplyTrainer)

    assert scored
    assert max(scored) <= 1 + 5
    assert len(ours) == len(theirs) == 4 + 2 + 1
    for one, other in zip(ours, theirs, strict=True):
        assert one == pytest.approx(other, abs=1e-4)
    assert torch.isfinite(torch.tensor([entry["loss"] for entry in ours if "loss" in entry])).all()
