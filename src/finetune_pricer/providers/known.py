"""What is known of services, as data; `Provider` says what each field means.

Gathered on 2026-11-22 from the vendors' documentation and from public code, and not tried against the live
services. Anything here can be overridden: `PROVIDERS["nebius"].model_copy(update={...})`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .provider import OPEN_MODELS, Provider

if TYPE_CHECKING:
    from collections.abc import Mapping

_READ = "2026-11-22"
_OPENAI_DATES = "https://developers.openai.com/api/docs/deprecations (read through mirrors)"
_AZURE_DATES = (
    "https://github.com/MicrosoftDocs/azure-ai-docs/blob/main/articles/foundry/openai/includes/"
    "concepts-model-retirement-schedule-content.md"
)

# Models before gpt-5.1 know no effort "none"; gpt-5-pro thinks always. Without thinking they take a
# temperature and logprobs (https://github.com/vercel/ai/issues/10932). Read 2026-11-26.
_OPENAI_THINKING = [
    {"models": ["gpt-*-pro*", "gpt-*codex*"], "always": True},
    {
        "models": ["gpt-5.[1-9]*", "gpt-[6-9]*"],
        "off": {"reasoning_effort": "none"},
        "source": "https://learn.microsoft.com/en-us/javascript/api/@azure/ai-projects/reasoningeffort",
    },
]

_OPENAI: dict[str, Any] = {
    "name": "openai",
    "as_of": _READ,
    "source": "https://developers.openai.com/api/reference",
    "key_variable": "OPENAI_API_KEY",
    "base_url": "https://api.openai.com/v1/",
    "base_url_variable": "OPENAI_BASE_URL",
    "hosts": ["api.openai.com", "eu.api.openai.com", "us.api.openai.com"],
    "learning_rate": "a factor on a rate that OpenAI chooses",
    "settings": {
        "epochs": {"name": "n_epochs", "low": 1, "high": 50},
        "batch_size": {"name": "batch_size", "low": 1, "high": 256},
        "learning_rate_multiplier": {"name": "learning_rate_multiplier", "low": 0.0001, "high": 100},
    },
    "min_examples": 10,
    "lists_bases": True,
    "reply_limit": "max_completion_tokens",
    "thinking": _OPENAI_THINKING,
    "no_new_jobs_after": "2027-01-06",
    "retirements": [
        {
            "models": [
                "gpt-4.1-nano",
                "gpt-4.1-nano-2025-04-14",
                "gpt-3.5-turbo*",
                "gpt-4-*",
                "o4-mini*",
                "babbage-002",
                "davinci-002",
            ],
            "training_ends": "2026-10-23",
            "serving_ends": "2026-10-23",
            "source": _OPENAI_DATES,
        },
        {
            "models": ["gpt-4o", "gpt-4o-2*", "gpt-4o-mini*", "gpt-4.1", "gpt-4.1-2*", "gpt-4.1-mini*"],
            "training_ends": "2027-01-14",
            "serving_ends": "2027-01-14",
            "source": _OPENAI_DATES,
        },
    ],
}

_AZURE_STEPS = """\
Azure serves a tuned model once it is deployed, through its control plane and with an Entra token:
  1. az login   (the role "Azure AI Owner", or "Cognitive Services Contributor", on the resource)
  2. az cognitiveservices account deployment create \\
       --resource-group GROUP --name RESOURCE --deployment-name {name} \\
       --model-format OpenAI --model-name '{model}' --model-version 1 \\
       --sku-name developertier --sku-capacity 50
     (developertier has no hosting fee and is deleted after 24 hours; standard and globalstandard cost more)
  3. ask it by the deployment's name: Predictor(client, {name!r}, formatter=formatter)
  4. afterwards: az cognitiveservices account deployment delete \\
       --resource-group GROUP --name RESOURCE --deployment-name {name}"""

_AZURE: dict[str, Any] = {
    "name": "azure",
    "as_of": _READ,
    "source": "https://learn.microsoft.com/azure/foundry/openai/how-to/fine-tuning",
    "key_variable": "AZURE_OPENAI_API_KEY",
    "base_url_variable": "AZURE_OPENAI_ENDPOINT",
    "base_url_path": "/openai/v1/",
    "hosts": ["*.openai.azure.com", "*.services.ai.azure.com", "*.cognitiveservices.azure.com"],
    "learning_rate": "a factor on a rate that Azure chooses; 0.02 to 0.2 is its advice",
    "settings": _OPENAI["settings"],
    # Standard keeps the data in the resource's region; GlobalStandard and Developer are cheaper and do not.
    "extra_body": {"trainingType": "Standard"},
    "file_encoding": "utf-8-sig",
    "thinking": [*_OPENAI_THINKING, *OPEN_MODELS],
    "min_examples": 10,
    "max_example_tokens": 64_536,
    "suffix_max": 18,
    "suffix_pattern": r"[^.]+",
    "suffix_rule": "without dots",
    "serving": {
        "how": "by_hand",
        "steps": _AZURE_STEPS,
        "idle_cost_per_hour": 1.70,
        "cost": "USD 1.70 an hour of hosting (standard), or none on developertier (24 h)",
        "source": "https://learn.microsoft.com/azure/foundry/openai/how-to/fine-tuning",
    },
    "retirements": [
        {
            "models": ["gpt-4.1*"],
            "training_ends": "2027-04-14",
            "serving_ends": "2027-10-14",
            "existing_customers_only": True,
            "source": _AZURE_DATES,
        },
        {
            "models": ["gpt-4o*"],
            "training_ends": "2027-04-01",
            "serving_ends": "2027-10-01",
            "existing_customers_only": True,
            "source": _AZURE_DATES,
        },
        {
            "models": ["o4-mini*"],
            "training_ends": "2026-10-16",
            "serving_ends": "2026-10-16",
            "source": _AZURE_DATES,
        },
    ],
    "trains": ["gpt-oss-20b", "Ministral-3B", "Qwen-32B"],
}

_NEBIUS: dict[str, Any] = {
    "name": "nebius",
    "as_of": _READ,
    "source": "https://docs.tokenfactory.nebius.com/post-training/how-to-fine-tune",
    "key_variable": "NEBIUS_API_KEY",
    "base_url": "https://api.tokenfactory.nebius.com/v1/",
    "hosts": ["*.tokenfactory.nebius.com", "*.tokenfactory.*.nebius.com"],
    "hyperparameters": "top_level",
    "learning_rate": "absolute; our factor is taken on Nebius' own default of 1e-05",
    "settings": {
        "epochs": {"name": "n_epochs", "low": 1, "high": 20, "auto": False},
        "batch_size": {"name": "batch_size", "low": 1, "high": 32, "auto": False},
        "learning_rate_multiplier": {
            "name": "learning_rate",
            "low": 0.01,
            "high": 1000,
            "auto": False,
            "scale": 1e-5,
        },
    },
    # Without it Nebius trains all weights, and such a model cannot be served without a machine of its own.
    "always": {"lora": True},
    "lora": {
        "rank": {"name": "lora_r", "low": 8, "high": 128},
        "alpha": {"name": "lora_alpha", "low": 8},
        "dropout": {"name": "lora_dropout", "low": 0, "high": 1},
    },
    "max_file_bytes": 5 * 10**9,
    "max_example_tokens": 131_072,
    "metrics_from": ["events", "checkpoints"],
    "checkpoint_model_fields": [],
    "pause": False,
    "serving": {
        "how": "custom_models",
        "idle_cost_per_hour": 0.0,
        "cost": "nothing while idle; tokens at the base model's price",
        "source": "https://docs.tokenfactory.nebius.com/api-reference/models/create-a-custom-model",
        "bases": {
            "meta-llama/Llama-3.1-8B-Instruct": "meta-llama/Meta-Llama-3.1-8B-Instruct",
            "meta-llama/Llama-3.3-70B-Instruct": "meta-llama/Llama-3.3-70B-Instruct",
        },
    },
    "trains": ["meta-llama/Llama-3.1-8B-Instruct"],
}

_CRUSOE_STEPS = """\
Crusoe serves a tuned model once it is loaded, through an endpoint of its own:
  1. curl -X POST https://api.intelligence.crusoecloud.com/foundry/loras \\
       -H "Authorization: Bearer $CRUSOE_API_KEY" -H "Content-Type: application/json" \\
       -d '{{"model_id": "{model}"}}'
  2. ask it at Crusoe's inference address:
       client = OpenAI(api_key=..., base_url="https://api.inference.crusoecloud.com/v1")
       Predictor(client, {model!r}, formatter=formatter)
It is unloaded after a while; a deployment on a machine of your own is billed by the hour."""

_CRUSOE: dict[str, Any] = {
    "name": "crusoe",
    "as_of": _READ,
    "source": "https://docs.crusoecloud.com/serverless-fine-tuning/fine-tune-a-model",
    "key_variable": "CRUSOE_API_KEY",
    "base_url": "https://api.intelligence.crusoecloud.com/v1",
    "hosts": ["api.intelligence.crusoecloud.com"],
    "learning_rate": "a factor on a rate that Crusoe chooses",
    "settings": {
        "epochs": {"name": "n_epochs", "low": 1, "high": 50},
        "batch_size": {"name": "batch_size", "choices": [16, 32, 64, 128, 256, 512, 1024]},
        "learning_rate_multiplier": {"name": "learning_rate_multiplier", "low": 0.0001, "high": 100},
    },
    # A cut example loses its price, which stands at the end: better no job than one that learns from that.
    "always": {"lora_variant": "lora", "overlong_row_behavior": "error"},
    "lora": {
        "rank": {"name": "lora_rank", "low": 2, "high": 256},
        "alpha": {"name": "lora_alpha", "low": 1},
        "dropout": {"name": "lora_dropout", "low": 0, "high": 1},
    },
    "max_file_bytes": 3 * 10**9,
    "events_in_order": False,
    "metrics_from": ["events", "endpoint", "checkpoints"],
    "metrics_path": "fine_tuning/jobs/{job}/metrics",
    "checkpoint_model_fields": ["fine_tuned_model_id", "fine_tuned_model_checkpoint"],
    "pause": False,
    "batch_api": False,
    "serving": {
        "how": "by_hand",
        "steps": _CRUSOE_STEPS,
        "cost": "see Crusoe's prices: tokens when loaded as a LoRA, machine hours in a deployment",
        "source": "https://docs.crusoecloud.com/serverless-fine-tuning/how-it-works",
    },
    "trains": ["Qwen/Qwen3.5-9B"],
}

_LOCAL: dict[str, Any] = {
    "name": "local",
    "as_of": _READ,
    "source": "finetune_pricer.local",
    "settings": _OPENAI["settings"],
    "learning_rate": "a factor on the local learner's own rate",
    "min_examples": 10,
    "lists_bases": True,
    "trains": ["pricer-base"],
}

PROTOCOL = Provider(
    name="protocol",
    source="https://developers.openai.com/api/docs/guides/supervised-fine-tuning",
    min_examples=10,
)
"""The protocol as OpenAI documents it: what a file is held against where no service is named."""

PROVIDERS: Mapping[str, Provider] = {
    profile["name"]: Provider.model_validate(profile)
    for profile in (_OPENAI, _AZURE, _NEBIUS, _CRUSOE, _LOCAL)
}
"""The services that we know, by name."""
