"""What importing the public names costs, beside importing pydantic's BaseModel; CPU time of whole processes.

    python bench/imports.py

Turn by turn, the smallest of each: what else the machine does only adds. Compiled files are kept for the run,
as an installed package has them.
"""

import os
import subprocess
import sys
import tempfile

ROUNDS = 15
CODES = {
    "nothing": "pass",
    "from pydantic import BaseModel": "from pydantic import BaseModel",
    "import finetune_pricer": "import finetune_pricer",
    "from finetune_pricer import Item": "from finetune_pricer import Item",
    "from finetune_pricer import *": "from finetune_pricer import *",
}


def seconds(code: str, environment: dict[str, str]) -> float:
    process = subprocess.Popen([sys.executable, "-c", code], env=environment)
    used = os.wait4(process.pid, 0)[2]
    return used.ru_utime + used.ru_stime


def main() -> None:
    with tempfile.TemporaryDirectory() as compiled:
        environment = os.environ | {"PYTHONPYCACHEPREFIX": compiled, "PYTHONDONTWRITEBYTECODE": ""}
        for code in CODES.values():
            seconds(code, environment)  # compiles
        rounds = [[seconds(code, environment) for code in CODES.values()] for _ in range(ROUNDS)]
    bare, pydantic, *ours = (min(column) for column in zip(*rounds, strict=True))
    print(f"from pydantic import BaseModel: {1000 * (pydantic - bare):.0f} ms of CPU time")
    for name, own in zip(list(CODES)[2:], ours, strict=True):
        ratio = (own - bare) / (pydantic - bare)
        print(f"{name}: {1000 * (own - bare):.0f} ms, {ratio:.2f} times as long")


if __name__ == "__main__":
    main()
