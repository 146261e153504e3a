"""The program of the answering process: requests gathered for a moment, and answered in batches.

One thread reads orders and writes prompts in tokens, the main thread asks the model. It stands on torch, and
is imported by that process only.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections import deque
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import orjson
import peft
import torch

from ....errors import NotSupported, PricerError
from ...signals import ENDING
from .adapter_files import AdapterFacts
from .conversation import ConversationWriter
from .lora_learner import LoraLearner
from .price_tree import PriceTree, TreeAsker

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_GATHER = 0.005  # seconds for which more requests are waited for
_MOST = 16  # requests in a batch
_MOST_TOKENS = 16_384  # in a batch, which bounds its memory


class Answerer:
    """A loaded base model with any number of adapters, one of which answers at a time."""

    def __init__(self, learner: LoraLearner) -> None:
        self._weights = learner.weights
        self._tokenizer = self._weights.load_tokenizer()
        self.writer = ConversationWriter(
            self._tokenizer, template=learner.recipe.template, context=learner.context
        )
        self._model = self._weights.load_model(learner.recipe).eval()
        self._adapted: peft.PeftModel | None = None
        """The same model with the adapters in it, from the first of them on."""
        self._facts: dict[str | None, AdapterFacts] = {None: AdapterFacts.for_base()}
        self._askers: dict[str | None, TreeAsker] = {}

    def load(self, key: str, folder: Path) -> None:
        """Load an adapter under a name."""
        facts = AdapterFacts.load(folder)
        facts.check_base(self._weights, self.writer)
        # In the base's own dtype: peft's float32 is for training, and takes a quarter longer to answer with.
        options: dict[str, Any] = {"adapter_name": key, "autocast_adapter_dtype": False}
        if self._adapted is None:
            self._adapted = peft.PeftModel.from_pretrained(self._model, folder, **options).eval()
        else:
            self._adapted.load_adapter(folder, **options)
        self._facts[key] = facts
        self.find_asker(key)

    def drop(self, key: str) -> None:
        """Free an adapter."""
        if self._facts.pop(key, None) is not None:
            self._askers.pop(key, None)
            others = [other for other in self._facts if other is not None]
            if others and self._adapted is not None:
                self._adapted.set_adapter(others[0])
                self._adapted.delete_adapter(key)
            elif self._adapted is not None:
                self._model, self._adapted = self._adapted.unload(), None
                self._askers.clear()

    def write(self, key: str | None, messages: Any) -> list[int]:
        """Return a prompt in tokens, its item's text cut as in training."""
        return self.writer.write_prompt(messages, self._facts[key].limit)[0]

    def ask(self, key: str | None, prompts: Sequence[Sequence[int]]) -> list[list[float]]:
        """Return the probability of each of an adapter's prices, one row for each prompt."""
        asker = self.find_asker(key)
        points = self._facts[key].points
        with self._choose(key):
            rows = self._ask_in_halves(asker, list(prompts))
        return [points.spread(np.exp(row)).tolist() for row in rows]

    def _ask_in_halves(self, asker: TreeAsker, prompts: list[Sequence[int]]) -> list[Any]:
        longest = max(map(len, prompts)) + asker.size
        if len(prompts) == 1 or len(prompts) * longest <= _MOST_TOKENS:
            try:
                return list(asker.ask(prompts))
            except (RuntimeError, MemoryError) as error:
                if not _is_full(error):
                    raise
                if len(prompts) == 1:
                    raise NotSupported(
                        f"the memory is too small for a prompt of {longest:,} tokens; ask for less at once, "
                        "or use a smaller base model"
                    ) from error
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()
        half = len(prompts) // 2
        return self._ask_in_halves(asker, prompts[:half]) + self._ask_in_halves(asker, prompts[half:])

    def find_asker(self, key: str | None) -> TreeAsker:
        """Return what asks the model for an adapter's prices; its tree is made at the first time."""
        if key not in self._askers:
            facts = self._facts[key]
            replies = self.writer.write_replies(facts.replies)
            tree = PriceTree.from_replies(replies, facts.points.dollars.tolist())
            self._askers[key] = TreeAsker(self._model, tree)
        return self._askers[key]

    def _choose(self, key: str | None) -> contextlib.AbstractContextManager[Any]:
        """Return a block in which the model answers with an adapter, or as it was without any."""
        if self._adapted is None:
            return contextlib.nullcontext()
        if key is None:
            block: contextlib.AbstractContextManager[Any] = self._adapted.disable_adapter()
            return block
        self._adapted.set_adapter(key)
        return contextlib.nullcontext()


def _is_full(error: BaseException) -> bool:
    words = ("out of memory", "allocate memory")
    return isinstance(error, MemoryError) or any(word in str(error) for word in words)


class AnsweringLoop:
    """Carries out orders; those that ask the same model are put into one batch."""

    def __init__(self, answerer: Answerer, out: IO[bytes]) -> None:
        self._answerer = answerer
        self._out = out
        self._writing = threading.Lock()
        self._tokenizing = threading.Lock()
        """Held by whoever uses the tokenizer, which two threads must not use at once."""
        self._arrived = threading.Condition()
        self._orders: deque[dict[str, Any]] = deque()

    def read(self, lines: IO[bytes]) -> None:
        """Take orders until the input ends; count tokens, and write prompts, at once."""
        for line in lines:
            order = orjson.loads(line)
            if order["kind"] in ("count", "ask"):
                prepared = self._attempt(order, self._prepare)
                if order["kind"] == "count" and prepared is not None:
                    self._send(order, len(prepared))
                if order["kind"] == "count" or prepared is None:
                    continue
                order["tokens"] = prepared
            with self._arrived:
                self._orders.append(order)
                self._arrived.notify()

    def run(self) -> None:
        """Carry out orders for ever."""
        while True:
            orders = self._gather()
            first = orders[0]
            if first["kind"] == "ask":
                self._answer(orders)
            elif self._attempt(first, self._change) is not None:
                self._send(first, True)

    def _prepare(self, order: dict[str, Any]) -> list[int]:
        with self._tokenizing:
            return self._answerer.write(order["adapter"], order["messages"])

    def _change(self, order: dict[str, Any]) -> bool:
        with self._tokenizing:
            if order["kind"] == "load":
                self._answerer.load(order["adapter"], Path(order["folder"]))
            else:
                self._answerer.drop(order["adapter"])
        return True

    def _gather(self) -> list[dict[str, Any]]:
        """Wait for an order, and a moment longer for others that can be carried out with it."""
        with self._arrived:
            while not self._orders:
                self._arrived.wait()
            first = self._orders.popleft()
            if first["kind"] != "ask":
                return [first]
            deadline = time.monotonic() + _GATHER
            while len(self._orders) < _MOST and (left := deadline - time.monotonic()) > 0:
                self._arrived.wait(left)
            gathered, others = [first], deque[dict[str, Any]]()
            for order in self._orders:
                fits = order["kind"] == "ask" and order["adapter"] == first["adapter"]
                (gathered if fits and len(gathered) < _MOST else others).append(order)
            self._orders = others
        return gathered

    def _answer(self, orders: list[dict[str, Any]]) -> None:
        adapter = orders[0]["adapter"]
        try:
            with self._tokenizing:
                self._answerer.find_asker(adapter)
            rows = self._answerer.ask(adapter, [order["tokens"] for order in orders])
        except Exception as error:  # noqa: BLE001  whatever it is, the server must hear of it
            for order in orders:
                self._send_error(order, error)
            if isinstance(error, torch.AcceleratorError) or "CUDA error" in str(error):
                os._exit(1)  # a GPU that is lost stays lost to this process; the next request starts another
            return
        for order, row in zip(orders, rows, strict=True):
            self._send(order, row)

    def _attempt(self, order: dict[str, Any], do: Callable[[dict[str, Any]], Any]) -> Any:
        """Return what an order's work gives; where it goes wrong, tell the server and return None."""
        try:
            return do(order)
        except Exception as error:  # noqa: BLE001  whatever it is, the server must hear of it
            self._send_error(order, error)
            return None

    def _send_error(self, order: dict[str, Any], error: Exception) -> None:
        # Of a stranger's error only the name: its words might hold a piece of a prompt.
        name = type(error).__name__
        message = error.message if isinstance(error, PricerError) else f"the answer failed ({name})"
        self._write({"number": order["number"], "error": name, "message": message})

    def _send(self, order: dict[str, Any], result: Any) -> None:
        self._write({"number": order["number"], "result": result})

    def _write(self, result: dict[str, Any]) -> None:
        with self._writing:
            self._out.write(orjson.dumps(result) + b"\n")
            self._out.flush()


def main() -> None:
    """Load the base model that the first line describes, and answer until the input ends."""
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)
    os.umask(0o077)
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a library that prints must not be taken for us
    lines = sys.stdin.buffer
    options = orjson.loads(lines.readline())
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1))
    try:
        loop = AnsweringLoop(Answerer(LoraLearner(**options)), out)
    except Exception as error:  # noqa: BLE001  each order is told
        _refuse(lines, out, error)
        return
    threading.Thread(target=_read, args=(loop, lines), daemon=True).start()
    loop.run()


def _read(loop: AnsweringLoop, lines: IO[bytes]) -> None:
    loop.read(lines)
    os._exit(0)  # the server has gone


def _refuse(lines: IO[bytes], out: IO[bytes], error: Exception) -> None:
    """Answer every order with what kept the base model from being loaded."""
    name = type(error).__name__
    message = error.message if isinstance(error, PricerError) else f"the base model cannot be loaded ({name})"
    for line in lines:
        order = orjson.loads(line)
        out.write(orjson.dumps({"number": order["number"], "error": name, "message": message}) + b"\n")
        out.flush()
