"""`BaseWeights`: an open model on the disk or the Hub: found, checked without loading it, and loaded."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
import time
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from ....errors import DataError, MissingExtra, MissingFile, NotSupported, ServiceUnavailable

if TYPE_CHECKING:
    from .recipe import Recipe

_NEEDED = ("torch", "transformers", "peft", "trl", "accelerate", "gguf")
_GGUF = ".gguf"
# Neither code nor pickles: what a repository may hold beside these is not even fetched.
_PATTERNS = ("*.json", "*.safetensors", "*.jinja", "*.model", "*.txt", "*.gguf")
_LONGEST = 4_096
"""Tokens that a prompt may have, whatever a model can read: the mask of a batch grows with their square."""
_REPLY = 32  # tokens kept free for a price
_UNKNOWN_CONTEXT = 2_048  # tokens, until a GGUF file has been converted
_SAMPLE = 2**20  # bytes from either end of a file of weights that tell it from others
_MEMORY = "memory"
_PART = ".part-"
_LONGEST_CONVERSION = 86_400.0  # seconds
_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class BaseWeights:
    """A base model: a folder, a GGUF file, or `ORGANISATION/NAME@REVISION` of the Hub."""

    name: str

    def fetch(self) -> None:
        """Find the base, from the Hub if need be.

        Raises:
            MissingExtra: What it takes to load it is not installed; then nothing is fetched.
            MissingFile: There is nothing at the path.
            ServiceUnavailable: The Hub cannot be reached, or does not give it.
        """
        if not self._is_local:
            require_extra()
            self._download(local_files_only=False)

    def check(self, *, template: str) -> None:
        """Raise `DataError` or `NotSupported` where this is no base to train; nothing is loaded.

        Whether a GGUF file has a chat template is known once it is converted.
        """
        place = self._place
        if place.suffix == _GGUF:
            with place.open("rb") as file:
                if file.read(4) != b"GGUF":
                    raise DataError(f"{self.name} is not a GGUF file; name one, or a folder with safetensors")
            return
        kinds = self._config.get("architectures") or ["none"]
        if not any(kind.endswith(("ForCausalLM", "LMHeadModel")) for kind in kinds):
            raise NotSupported(
                f"{self.name} is no causal language model but {kinds[0]}; choose one that writes text, "
                "such as a LlamaForCausalLM"
            )
        if not any(place.glob("*.safetensors")):
            raise NotSupported(
                f"{self.name} has no weights in safetensors; pickled ones (.bin, .pt) can carry code and are "
                "not loaded. Choose another revision, or convert them"
            )
        if template == "chat" and not _has_template(place):
            raise NotSupported(
                f"{self.name} has no chat template, so nobody knows how it wants to be asked; choose its "
                "instruct version, or declare it with template=plain, which hands it the texts alone"
            )

    @property
    def context(self) -> int:
        """How many tokens a prompt may have."""
        place = self._place
        folder = _cache_folder(place) if place.suffix == _GGUF else place
        if not (folder / "config.json").exists():
            return _UNKNOWN_CONTEXT
        config = orjson.loads((folder / "config.json").read_bytes())
        longest = int(config.get("max_position_embeddings") or config.get("n_positions") or _LONGEST)
        # Beyond its window a layer sees less than the mask of a price tree shows it.
        window = config.get("sliding_window") if _slides(config) else None
        return max(min(longest, window or longest, _LONGEST) - _REPLY, 1)

    @cached_property
    def fingerprint(self) -> str:
        """What tells these weights from others: a hash of the configuration and of samples of the weights."""
        found = hashlib.sha256()
        for path in sorted(self.folder.glob("*.safetensors")):
            size = path.stat().st_size
            with path.open("rb") as file:
                found.update(f"{size}".encode() + file.read(_SAMPLE))
                file.seek(max(size - _SAMPLE, 0))
                found.update(file.read(_SAMPLE))
        config = {name: value for name, value in self._config.items() if name != "transformers_version"}
        found.update(orjson.dumps(config, option=orjson.OPT_SORT_KEYS))
        return found.hexdigest()

    @property
    def folder(self) -> Path:
        """The folder with the weights in safetensors; a GGUF file is converted into one at the first time."""
        place = self._place
        return _convert(place) if place.suffix == _GGUF else place

    def load_tokenizer(self) -> Any:
        """Load the tokenizer."""
        require_extra()
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(self.folder, trust_remote_code=False)

    def load_model(self, recipe: Recipe) -> Any:
        """Load the model, onto the GPU where there is one.

        Raises:
            NotSupported: It is too large for the memory, or needs what this machine lacks.
        """
        require_extra()
        import torch
        from transformers import AutoModelForCausalLM

        dtype = self._choose_dtype(recipe)
        options: dict[str, Any] = {"dtype": getattr(torch, dtype)}
        if recipe.quantize == "nf4":
            options["quantization_config"] = _quantize(dtype)
        self._weigh(4 if recipe.quantize == "nf4" else 8 * _BYTES[dtype])
        if torch.distributed.is_initialized():
            torch.distributed.barrier()  # all have weighed it before the first of them loads it
        if torch.cuda.is_available():
            options["device_map"] = {"": torch.cuda.current_device()}
        model = AutoModelForCausalLM.from_pretrained(
            self.folder, trust_remote_code=False, use_safetensors=True, **options
        )
        model.config.use_cache = False
        return model

    def _choose_dtype(self, recipe: Recipe) -> str:
        import torch

        if recipe.dtype != "auto":
            return recipe.dtype
        own = str(self._config.get("dtype") or self._config.get("torch_dtype") or "float32")
        is_fast = torch.cuda.is_available() or torch.ops.mkldnn._is_mkldnn_bf16_supported()  # noqa: SLF001
        return "bfloat16" if own in ("bfloat16", "float16") and is_fast else "float32"

    def _weigh(self, bits: int) -> None:
        """Refuse weights that the memory has no room for, before they are loaded."""
        own = str(self._config.get("dtype") or self._config.get("torch_dtype") or "float32")
        stored = sum(path.stat().st_size for path in self.folder.glob("*.safetensors"))
        free, kind = _free_memory()
        # Processes that train together share a machine's memory, and have a GPU each.
        copies = int(os.environ.get("WORLD_SIZE") or 1) if kind == _MEMORY else 1
        needed = copies * stored * bits / (8 * _BYTES.get(own, 4))
        if needed > free:
            raise NotSupported(
                f"the base model {self.name} takes {needed / 1e9:,.1f} GB of {kind}, of which "
                f"{free / 1e9:,.1f} GB are free; choose a smaller one or a larger machine, or on a GPU nf4"
            )

    @property
    def _is_local(self) -> bool:
        return Path(self.name).exists() or self.name.count("/") != 1 or self.name.startswith((".", "/", "~"))

    @property
    def _place(self) -> Path:
        """The folder, or the GGUF file."""
        if not self._is_local:
            return self._download(local_files_only=True)
        place = Path(self.name).expanduser()
        files = sorted(place.glob(f"*{_GGUF}")) if place.is_dir() else []
        if place.is_dir() and not (place / "config.json").exists() and len(files) == 1:
            place = files[0]
        if place.is_dir() and not (place / "config.json").exists():
            raise MissingFile(f"{self.name} holds no config.json; name a folder that a model was saved into")
        if not place.exists():
            raise MissingFile(
                f"there is no base model at {self.name}; name a folder, a GGUF file or a Hub id"
            )
        return place

    @property
    def _config(self) -> dict[str, Any]:
        found: dict[str, Any] = orjson.loads((self.folder / "config.json").read_bytes())
        return found

    def _download(self, *, local_files_only: bool) -> Path:
        from huggingface_hub import snapshot_download

        repository, _, revision = self.name.partition("@")
        try:
            folder = snapshot_download(
                repository,
                revision=revision or None,
                allow_patterns=list(_PATTERNS),
                local_files_only=local_files_only,
            )
        except Exception as error:  # of three libraries, none of which names its errors
            raise ServiceUnavailable(
                f"the base model {self.name} is not here, and the Hugging Face Hub does not "
                f"give it ({type(error).__name__}); check its name, licence and network, or name a folder"
            ) from error
        return Path(folder)


def require_extra() -> None:
    """Raise `MissingExtra` where what this stands on is not installed; nothing of it is loaded."""
    for name in _NEEDED:
        if find_spec(name) is None:
            raise MissingExtra(
                f"open base models need {name}, which is not installed; pip install 'finetune-pricer[lora]'"
            )


def _has_template(folder: Path) -> bool:
    if (folder / "chat_template.jinja").exists() or (folder / "chat_template.json").exists():
        return True
    settings = folder / "tokenizer_config.json"
    return settings.exists() and bool(orjson.loads(settings.read_bytes()).get("chat_template"))


def _slides(config: dict[str, Any]) -> bool:
    layers = config.get("layer_types")
    return config.get("use_sliding_window", True) if layers is None else "sliding_attention" in layers


def _quantize(dtype: str) -> Any:
    import torch
    from transformers import BitsAndBytesConfig

    if not torch.cuda.is_available():
        raise NotSupported(
            "quantize=nf4 needs a GPU, which this machine does not show; declare quantize=none"
        )
    if find_spec("bitsandbytes") is None:
        raise MissingExtra("quantize=nf4 needs bitsandbytes; pip install bitsandbytes")
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=getattr(torch, dtype),
    )


def _free_memory() -> tuple[float, str]:
    """Return how many bytes may still be taken, and of what."""
    import torch

    if torch.cuda.is_available():
        return float(torch.cuda.mem_get_info()[0]), "the GPU's memory"
    free = [float("inf")]
    with contextlib.suppress(OSError, ValueError, IndexError):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free += [int(line.split()[1]) * 1_024.0 for line in lines if line.startswith("MemAvailable")]
    with contextlib.suppress(OSError, ValueError):  # what a container may take, where it has a limit
        group = Path("/sys/fs/cgroup")
        limit, used = (
            (group / name).read_text(encoding="ascii") for name in ("memory.max", "memory.current")
        )
        free.append(float(limit) - float(used))
    return min(free), _MEMORY


def _cache_folder(file: Path) -> Path:
    """Return where the unpacked weights of a GGUF file are kept, in the user's cache."""
    state = file.stat()
    key = hashlib.sha256(f"{file.resolve()}|{state.st_size}|{state.st_mtime_ns}".encode()).hexdigest()[:20]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "finetune-pricer" / "bases" / key


def _remove_unfinished(cache: Path) -> None:
    """Remove what conversions that were killed have left: as much as the weights, each time."""
    for part in cache.glob(f"{_PART}*"):
        if time.time() - part.stat().st_mtime > _LONGEST_CONVERSION:
            shutil.rmtree(part, ignore_errors=True)


def _convert(file: Path) -> Path:
    """Return a folder with the weights of a GGUF file, unpacked at the first time."""
    folder = _cache_folder(file)
    if (folder / "config.json").exists():
        return folder
    require_extra()
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    folder.parent.mkdir(parents=True, exist_ok=True)
    _remove_unfinished(folder.parent)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=_PART) as part:
        tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
        model = AutoModelForCausalLM.from_pretrained(
            file.parent,
            gguf_file=file.name,
            # Without it, the unpacked weights could not be saved.
            quantization_config=GgufConfig(dequantize=True),
            dtype=torch.bfloat16,
        )
        tokenizer.save_pretrained(part)
        model.save_pretrained(part)
        with contextlib.suppress(OSError):  # another process was faster
            Path(part).rename(folder)
            Path(part).mkdir()
    if not (folder / "config.json").exists():
        shutil.rmtree(folder, ignore_errors=True)
        raise NotSupported(f"{file.name} could not be converted; name a folder with safetensors instead")
    return folder
