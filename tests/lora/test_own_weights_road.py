"""The example and the tutorial on own weights run as a user runs them, with a tiny model for a real one."""

from __future__ import annotations

import contextlib
import doctest
import io
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tiny_language_model import NO_TORCH

pytest.importorskip("torch", reason=NO_TORCH)
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")
PAGE = Path(__file__).parents[2] / "docs" / "tutorials" / "your-own-weights.md"
BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```$)?", re.DOTALL | re.MULTILINE)


DEMO = """
import sys
from finetune_pricer.cli import cli

cli(["demo", "--own-weights", *sys.argv[1:]], standalone_mode=False)
print("loaded:", *sorted({name.partition(".")[0] for name in sys.modules}))
"""


def test_the_demo_trains_asks_weighs_and_keeps_a_model_and_its_server_never_loads_torch(base: Path) -> None:
    command = [sys.executable, "-c", DEMO, "--base", str(base)]
    small = ["--train", "40", "--test", "10", "--text-tokens", "16"]
    done = subprocess.run([*command, *small], capture_output=True, text=True, timeout=600)

    assert done.returncode == 0, done.stderr
    assert re.search(r"offers it as tiny$", done.stdout, re.MULTILINE)
    assert len(re.findall(r"^  untrained: \$[\d,.]+ \(median", done.stdout, re.MULTILINE)) == 2
    assert len(re.findall(r"^  tuned: \$[\d,.]+ \(median", done.stdout, re.MULTILINE)) == 2
    ranked = re.findall(r"^ *\d+ =? +(\S.*?)  +\$", done.stdout, re.MULTILINE)
    assert {"tuned", "untrained", "always the training median"} <= set(ranked)
    assert len(ranked) > 4
    assert f"finetune-pricer serve --dir own-weights --base tiny={base},text_tokens=16" in done.stdout
    assert Path("own-weights/server.sqlite3").exists()
    loaded = set(done.stdout.rpartition("loaded: ")[2].split())
    assert {"starlette", "sklearn"} <= loaded
    assert not {"torch", "transformers", "peft", "trl", "datasets"} & loaded


def test_the_tutorial_runs_and_prints_what_stands_below_its_blocks(base: Path) -> None:
    Path("models").mkdir()
    Path("models/SmolLM2-135M-Instruct").symlink_to(base)
    namespace: dict[str, object] = {"__name__": "__main__"}
    blocks = BLOCK.findall(PAGE.read_text(encoding="utf-8"))

    assert len(blocks) == 6
    for code, expected in blocks:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(code, namespace)
        same = doctest.OutputChecker().check_output(expected, printed.getvalue(), doctest.ELLIPSIS)
        assert same, printed.getvalue()
