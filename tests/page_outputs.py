"""Runs the pages and writes what their Python blocks print into the blocks below them: `make outputs`.

    python tests/page_outputs.py [page ...]

A line of dots in an output stands for lines that are left out, and stays. Ids, dates, decimals and shares are
another's on another machine; `tests/test_docs.py` runs the same blocks and compares all else.
"""

from __future__ import annotations

import contextlib
import doctest
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import openai

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(
    r"^```python\n(?P<code>.*?)^```\n(?:\n```text\n(?P<output>.*?)^```$)?", re.DOTALL | re.MULTILINE
)
LEFT_OUT = "...\n"
_VARIES = re.compile(
    r"\b(?:ftjob|file|ftevent|ftckpt|batch|chatcmpl)-(?:[\w-]+|\.\.\.)"  # what a service names
    r"|(?<=:)[0-9A-Za-z]{8}\b"  # the end of a tuned model's name
    r"|\b\d{4}-\d\d-\d\d\b"
    r"|\b\d[\d,]*\.\d+|\b\d+ ?%|\b\d+(?:,\d{3})+\b"
)


def run_page(page: Path) -> Iterator[tuple[re.Match[str], str]]:
    """Yield each Python block of a page with what it prints, run one after the other in one namespace."""
    namespace: dict[str, object] = {"__name__": "__main__"}
    text = page.read_text(encoding="utf-8")
    try:
        for block in BLOCK.finditer(text):
            line = text[: block.start()].count("\n") + 2
            code = compile("\n" * (line - 1) + block["code"], str(page), "exec", dont_inherit=True)
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed), warnings.catch_warnings():
                warnings.simplefilter("error")
                exec(code, namespace)
            yield block, printed.getvalue()
    finally:
        # Pages leave their clients to the end of the process, which is far away in a run of tests.
        for client in [value for value in namespace.values() if isinstance(value, openai.OpenAI)]:
            client.close()


def is_same(stands: str, printed: str) -> bool:
    """Whether an output is that of the page, but for what is another's on another machine."""
    wanted, got = (_VARIES.sub("#", text) for text in (stands, printed))
    return doctest.OutputChecker().check_output(wanted, got, doctest.ELLIPSIS)


def merge(stands: str, printed: str) -> str:
    """Return the output as it is to stand on the page: without the lines that the page leaves out."""
    lines = [f"{line.rstrip()}\n" for line in printed.splitlines()]
    shown = stands.splitlines(keepends=True)
    if LEFT_OUT not in shown:
        return "".join(lines)
    before = shown.index(LEFT_OUT)
    after = len(shown) - before - 1
    if shown.count(LEFT_OUT) > 1 or len(lines) <= before + after:
        return stands
    return "".join([*lines[:before], LEFT_OUT, *lines[len(lines) - after :]])


def write_outputs(page: Path) -> bool:
    """Run a page in a process and a folder of its own and renew its outputs; say whether one has changed."""
    with tempfile.TemporaryDirectory() as folder:
        told = subprocess.run(
            [sys.executable, __file__, "--print", str(page)],
            cwd=folder,
            env=os.environ | {"FINETUNE_PRICER_HOME": f"{folder}/home", "HF_HUB_OFFLINE": "1"},
            stdout=subprocess.PIPE,
            check=True,
        ).stdout
    printed = iter(json.loads(told))
    text = page.read_text(encoding="utf-8")

    def renew(block: re.Match[str]) -> str:
        output = next(printed)
        if block["output"] is None:
            return block[0]
        first = block.start("output") - block.start()
        last = block.end("output") - block.start()
        return block[0][:first] + merge(block["output"], output) + block[0][last:]

    renewed = BLOCK.sub(renew, text)
    page.write_text(renewed, encoding="utf-8")
    return renewed != text


def main(words: list[str]) -> None:
    """Renew the pages that are named, or all."""
    if words[:1] == ["--print"]:
        outputs = [printed for _, printed in run_page(Path(words[1]))]
        print(json.dumps(outputs))
        return
    for page in [Path(word).resolve() for word in words] or PAGES:
        if BLOCK.search(page.read_text(encoding="utf-8")):
            changed = write_outputs(page)
            print(f"{page.relative_to(ROOT)}: {'renewed' if changed else 'as it was'}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
