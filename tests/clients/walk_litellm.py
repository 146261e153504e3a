"""litellm, unchanged, on the whole road. Arguments: base URL, training file."""

import json
import sys
import time
from pathlib import Path

import litellm

url, training = sys.argv[1:]
place = {"custom_llm_provider": "openai", "api_base": url, "api_key": "sk-clients"}

with Path(training).open("rb") as content:
    file = litellm.create_file(file=content, purpose="fine-tune", **place)
job = litellm.create_fine_tuning_job(
    model="pricer-base",
    training_file=file.id,
    hyperparameters={"n_epochs": 5},
    suffix="litellm",
    seed=1,
    **place,
)
while job.status not in ("succeeded", "failed", "cancelled"):
    time.sleep(0.05)
    job = litellm.retrieve_fine_tuning_job(fine_tuning_job_id=job.id, **place)
listed = litellm.list_fine_tuning_jobs(limit=5, **place)
answer = litellm.completion(
    model=f"openai/{job.fine_tuned_model}",
    messages=[{"role": "user", "content": "A large desk of oak"}],
    temperature=0,
    api_base=url,
    api_key="sk-clients",
)
print(
    json.dumps(
        {
            "status": job.status,
            "listed": job.id in [each.id for each in listed.data],
            "reply": answer.choices[0].message.content,
        }
    )
)
