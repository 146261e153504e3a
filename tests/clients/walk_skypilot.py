"""SkyPilot reads the file that `launch --write` leaves for it, in an environment of its own: `make skypilot`.

What it reads is held against SkyPilot's schemas; nothing is started, and no cloud is asked.
"""

import os
import sys

import sky

# Both come from the environment of `sky launch`; SkyPilot refuses a task whose secrets are not given.
secrets = {"FINETUNE_PRICER_SERVER_KEY": "sk-example", "HF_TOKEN": "hf_example"}
os.environ.update(secrets)
task = sky.Task.from_yaml(sys.argv[1])
task.update_secrets(secrets)
(resources,) = task.resources
assert resources.accelerators == {"L4": 1}, resources
assert resources.autostop_config.down, resources
assert set(task.storage_mounts) == {"/pricer"}, task.storage_mounts
assert "serve --host 127.0.0.1" in task.run, task.run
print(f"SkyPilot {sky.__version__} reads {sys.argv[1]}: {resources}")
