"""What is known of services, as data; `Provider` says what each field means.

Gathered on 2026-11-22 and 2026-11-26 from the vendors' documentation, from recorded answers and from public
code, and not tried against the live services. What could not be established stands in `doubts`. Anything here
can be overridden: `PROVIDERS["nebius"].model_copy(update={...})`.

`make release-check` fails where a fact is older than half a year. Look at its source again: where it still
says so, write the day into `confirmed_on`; else write the new fact, and the day into `as_of`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._display import NamedValues
from .provider import OPEN_MODELS, Provider

if TYPE_CHECKING:
    from collections.abc import Mapping

_READ = "2026-11-26"
_OPENAI_DATES = (
    "https://developers.openai.com/api/docs/deprecations (read through mirrors, and as litellm 1.110.2 "
    "quotes it)"
)
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
    # Data that must stay in a region has a prefix: eu, us, and others.
    "hosts": ["api.openai.com", "*.api.openai.com"],
    "learning_rate": "a factor on a rate that OpenAI chooses",
    "settings": {
        "epochs": {"name": "n_epochs", "low": 1, "high": 50},
        "batch_size": {"name": "batch_size", "low": 1, "high": 256},
        "learning_rate_multiplier": {"name": "learning_rate_multiplier"},  # above 0, says the specification
    },
    "min_examples": 10,
    "lists_bases": True,
    "reply_limit": "max_completion_tokens",
    "thinking": _OPENAI_THINKING,
    "no_new_jobs_after": "2027-01-05",
    "retirements": [
        {
            "models": [
                "babbage-002",
                "davinci-002",
                "gpt-3.5-turbo-1106",
                "gpt-3.5-turbo-instruct*",
            ],
            "training_ends": "2026-09-28",
            "serving_ends": "2026-09-28",
            "as_of": _READ,
            "source": _OPENAI_DATES,
        },
        {
            "models": [
                "gpt-4.1-nano",
                "gpt-4.1-nano-2025-04-14",
                "gpt-3.5-turbo*",
                "gpt-4",
                "gpt-4-*",
                "gpt-4o-2024-05-13",
                "o4-mini*",
            ],
            "training_ends": "2026-10-23",
            "serving_ends": "2026-10-23",
            "as_of": _READ,
            "source": _OPENAI_DATES,
        },
        {
            "models": ["gpt-4o", "gpt-4o-2*", "gpt-4o-mini*", "gpt-4.1", "gpt-4.1-2*", "gpt-4.1-mini*"],
            "training_ends": "2027-01-14",
            "serving_ends": "2027-01-14",
            "as_of": _READ,
            "source": _OPENAI_DATES,
        },
        # These cannot be tuned; they are asked as they are, beside a tuned one.
        {
            "models": ["gpt-5", "gpt-5-2*", "gpt-5-mini*", "gpt-5-nano*"],
            "serving_ends": "2026-12-11",
            "as_of": _READ,
            "source": _OPENAI_DATES,
        },
        {
            "models": ["gpt-5.1", "gpt-5.1-2*", "gpt-5.4-nano*"],
            "serving_ends": "2027-04-01",
            "as_of": _READ,
            "source": _OPENAI_DATES,
        },
    ],
    "doubts": [
        {
            "about": "Whether a job is still taken on 2027-01-06 itself: mirrors say both 'until January 6' "
            "and 'on January 6'. The day before is held here as the last safe one.",
            "as_of": _READ,
            "source": _OPENAI_DATES,
        },
    ],
}

_AZURE_DEPLOY = """\
Azure serves a tuned model once it is deployed, through its control plane and with an Entra token:
  1. az login   (the role "Azure AI Owner", or "Cognitive Services Contributor", on the resource)
  2. az cognitiveservices account deployment create \\
       --resource-group GROUP --name RESOURCE --deployment-name {name} \\
"""
_AZURE_ASK = """
  3. ask it by the deployment's name: Predictor(client, {name!r}, formatter=formatter)
  4. afterwards: az cognitiveservices account deployment delete \\
       --resource-group GROUP --name RESOURCE --deployment-name {name}"""
_AZURE_STEPS = f"""{_AZURE_DEPLOY}\
       --model-format OpenAI --model-name '{{model}}' --model-version 1 \\
       --sku-name developertier --sku-capacity 50
     (developertier has no hosting fee and is deleted after 24 hours; standard and globalstandard cost more)\
{_AZURE_ASK}"""
_AZURE_OPEN_STEPS = f"""{_AZURE_DEPLOY}\
       --model-format FORMAT --model-name '{{model}}' --model-version 1 \\
       --sku-name globalstandard --sku-capacity 50
     (an open model is hosted by the hour, without a free kind of deployment; which FORMAT it has says:
      az cognitiveservices account list-models --resource-group GROUP --name RESOURCE)\
{_AZURE_ASK}"""

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
        # Open models have no Developer tier.
        "steps_of_bases": dict.fromkeys(("gpt-oss*", "Ministral*", "Qwen*", "Llama*"), _AZURE_OPEN_STEPS),
        "idle_cost_per_hour": 1.70,
        "cost": "USD 1.70 an hour of hosting (standard), or, for OpenAI's own bases, none on developertier "
        "(24 h)",
        "as_of": _READ,
        "source": "https://learn.microsoft.com/azure/foundry/openai/how-to/fine-tuning",
    },
    "retirements": [
        {
            "models": ["gpt-4.1*"],
            "training_ends": "2027-04-14",
            "serving_ends": "2027-10-14",
            "is_earliest": True,
            "existing_customers_only": True,
            "as_of": _READ,
            "source": _AZURE_DATES,
        },
        {
            "models": ["gpt-4o", "gpt-4o-2024-08-06*", "gpt-4o-mini*"],
            "training_ends": "2027-04-01",
            "serving_ends": "2027-10-01",
            "is_earliest": True,
            "existing_customers_only": True,
            "as_of": _READ,
            "source": _AZURE_DATES,
        },
        {
            "models": ["o4-mini*"],
            "training_ends": "2027-04-16",
            "serving_ends": "2027-10-16",
            "is_earliest": True,
            "existing_customers_only": True,
            "as_of": _READ,
            "source": _AZURE_DATES,
        },
    ],
    "trains": ["gpt-oss-20b", "Ministral-3B", "Qwen-32B"],
    "doubts": [
        {
            "about": "Whether new customers may train OpenAI's bases, and until when. The table of "
            "2026-07-07 says existing customers only, 'otherwise, training retirement occurs at base model "
            "retirement', which litellm 1.110.2 (November 2026) gives as 2027-04-14; the table was dated "
            "anew on 2026-08-19 and not seen in full since.",
            "as_of": _READ,
            "source": _AZURE_DATES,
        },
        {
            "about": "How the API names Llama-3.3-70B, which the table of 2026-03-05 adds, and which "
            "--model-format an open model has.",
            "as_of": _READ,
            "source": "https://github.com/MicrosoftDocs/azure-ai-docs articles/foundry/includes/"
            "fine-tune-supported-models.md",
        },
    ],
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
    "recommended": {
        # A rate of 1e-4, the usual one of a LoRA; and one packed row of 8,192 tokens a step.
        "learning_rate_multiplier": 10,
        "batch_size": 1,
        "only_with": {"lora": True},
        "why": "by Nebius' own settings 2,000 examples of 200 tokens are packed into rows of 8,192, which "
        "are some six steps an epoch, at a tenth of the rate that a LoRA usually has",
        "as_of": _READ,
        "source": "https://github.com/nebius/token-factory-cookbook (the settings that its jobs show); rates "
        "of 1e-4 to 2e-4 are what LoRA recipes use",
    },
    "max_file_bytes": 5 * 10**9,
    # What a job has where no context length is sent, by the answer that its cookbook recorded.
    "max_example_tokens": 8_192,
    "context_length": {"name": "context_length", "choices": [8_192, 16_384, 32_768, 65_536, 131_072]},
    # Its events hold no numbers.
    "metrics_from": ["checkpoints", "events"],
    "checkpoint_model_fields": [],
    "gives_weights": True,
    "pause": False,
    "serving": {
        "how": "custom_models",
        "idle_cost_per_hour": 0.0,
        "cost": "nothing while idle; tokens at the base model's price",
        "as_of": _READ,
        "source": "https://docs.tokenfactory.nebius.com/api-reference/models/create-a-custom-model",
        "bases": {
            "meta-llama/Llama-3.1-8B-Instruct": "meta-llama/Meta-Llama-3.1-8B-Instruct",
            "meta-llama/Llama-3.3-70B-Instruct": "meta-llama/Llama-3.3-70B-Instruct",
        },
    },
    "trains": ["meta-llama/Llama-3.1-8B-Instruct"],
    "doubts": [
        {
            "about": "Which bases are served without a machine of one's own: a list of March 2026 has two "
            "Llamas, the cookbook of 2026 serves Qwen3-4B and Qwen3-30B-A3B-Instruct-2507, too.",
            "as_of": _READ,
            "source": "https://github.com/nebius/token-factory-cookbook; "
            "https://docs.tokenfactory.nebius.com/fine-tuning/models",
        },
        {
            "about": "Which context lengths between 8,192 and 131,072 are taken; the powers of two are held "
            "here. That examples are packed into rows where nothing is sent is by third parties.",
            "as_of": _READ,
            "source": "https://docs.tokenfactory.nebius.com/post-training/how-to-fine-tune",
        },
        {
            "about": "What training costs from 20 billion parameters on: USD 2.80 is by third parties.",
            "as_of": _READ,
            "source": "https://nebius.com/token-factory/prices",
        },
    ],
}

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
        "learning_rate_multiplier": {"name": "learning_rate_multiplier"},  # above 0, says its schema
    },
    # A cut example loses its price, which stands at the end: better no job than one that learns from that.
    "always": {"lora_variant": "lora", "overlong_row_behavior": "error"},
    "lora": {
        "rank": {"name": "lora_rank", "choices": [2, 4, 8, 16, 32, 64, 128, 256]},
        "alpha": {"name": "lora_alpha", "choices": [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]},
        "dropout": {"name": "lora_dropout", "low": 0, "high": 1},
    },
    "max_file_bytes": 3 * 10**9,
    "events_in_order": False,
    "metrics_from": ["events", "endpoint", "checkpoints"],
    "metrics_path": "fine_tuning/jobs/{job}/metrics",
    "checkpoint_model_fields": ["fine_tuned_model_id", "fine_tuned_model_checkpoint"],
    "pause": False,
    "names_models_by_id": True,
    "estimate_path": "fine_tuning/jobs/estimate_price",
    "batch_api": False,
    "serving": {
        # POST, GET and DELETE of .../loras, and where the models answer, as a public demo measured them on
        # 2026-09-27; the API's description has them, no guide does. What is loaded expires after a while.
        "how": "loras",
        "deploys_at": "https://api.crusoecloud.com/v1/projects/{project}/foundry",
        "project_variable": "CRUSOE_PROJECT_ID",
        "answers_at": "https://api.inference.crusoecloud.com/v1",
        "cost": "tokens when loaded as a LoRA, none known while idle; a machine of one's own is USD 5.50 "
        "(H100) or 6.00 (H200) an hour",
        "as_of": _READ,
        "source": "https://docs.crusoecloud.com/serverless-fine-tuning/how-it-works; prices: "
        "https://www.crusoe.ai/cloud/pricing as transcribed on 2026-09-20",
    },
    "trains": ["Qwen/Qwen3.5-9B"],
    "doubts": [
        {
            "about": "Whether a job may name a base by its public name: a demo of 2026-09-27 sends the id "
            "that GET /models gives for it. The id is looked up, and the name is sent where there is none.",
            "as_of": _READ,
            "source": "https://docs.crusoecloud.com/serverless-fine-tuning/available-models",
        },
        {
            "about": "How the field of estimate_price with the dollars is called: the first with 'price' or "
            "'cost' in its name is read.",
            "as_of": _READ,
            "source": "https://docs.crusoecloud.com/serverless-fine-tuning/fine-tune-a-model",
        },
        {
            "about": "By which request weights are downloaded; an example of July 2026 gets an adapter as a "
            "ZIP file.",
            "as_of": _READ,
            "source": "https://docs.crusoecloud.com/serverless-fine-tuning/how-it-works",
        },
        {
            "about": "Whether a LoRA that is loaded costs anything while nobody asks.",
            "as_of": _READ,
            "source": "https://www.crusoe.ai/cloud/pricing",
        },
    ],
}

_LOCAL: dict[str, Any] = {
    "name": "local",
    "as_of": _READ,
    "source": "finetune_pricer.local",
    "settings": _OPENAI["settings"],
    "learning_rate": "a factor on the local learner's own rate",
    "min_examples": 10,
    "lists_bases": True,
    "most_logprobs": 1_000,
    "gives_weights": True,
    "trains": ["pricer-base"],
}

PROTOCOL = Provider(
    name="protocol",
    source="https://developers.openai.com/api/docs/guides/supervised-fine-tuning",
    min_examples=10,
)
"""The protocol as OpenAI documents it: what a file is held against where no service is named."""

PROVIDERS: Mapping[str, Provider] = NamedValues(
    (profile["name"], Provider.model_validate(profile))
    for profile in (_OPENAI, _AZURE, _NEBIUS, _CRUSOE, _LOCAL)
)
"""The services that we know, by name."""
