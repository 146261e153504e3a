"""The Hugging Face Hub: log in, load splits, and publish splits with a card that says what they are."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from .._arguments import require_flag, require_text
from .._environment import read_settings
from .._escape import escape_markdown, escape_paragraph, escape_text
from .._files import temporary_folder
from ..errors import AccessDenied, HubError, InvalidRows
from .decompression import LIMIT_VARIABLE, check_packed_files, find_limit, limit_rows
from .file_formats import read_file
from .foreign_rows import Roles, clean_table
from .ingest import IngestResult, OnError, Source, ingest, quote_names
from .tables import write_parquet

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import pyarrow as pa

    from .cell_rules import CellRules

_ROWS = 1000  # that are read together
_READABLE = {".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet"}
_FILE_ENDINGS = {*_READABLE, ".gz", ".xlsx", ".xls"}
_CARD_KEY = "finetune_pricer"  # of the card's head, under which stands what is known of the prices
_Read = Callable[[Source], "Iterator[pa.Table]"]
"""Reads the batches of a split, and notes the rows that cannot be read."""
_SPLITS = {"train": ("train",), "validation": ("validation", "val", "valid", "dev"), "test": ("test",)}


class HubSplit(NamedTuple):
    """One split as the Hub gets it."""

    table: pa.Table
    history: tuple[str, ...]
    """Where the rows come from and what was done to them, a sentence each."""
    description: str
    """A page of text about the rows."""
    notes: Mapping[bytes, bytes]
    """What the file says of its prices."""


def load_splits(
    name: str,
    *,
    split: str | None,
    token: str | None,
    revision: str | None,
    columns: Mapping[str, str] | None,
    on_error: OnError,
    streaming: bool,
    rules: CellRules,
) -> list[IngestResult]:
    """Load one split of a Hub repository or of a local folder, or training, validation and test."""
    loaded = _load(name, token or read_settings().get("HF_TOKEN"), revision, columns, streaming=streaming)
    limit = _find_limit(name)
    results = []
    for wanted in _SPLITS if split is None else (split,):
        names = (wanted, *next((names for names in _SPLITS.values() if wanted in names), ()))
        present = next((candidate for candidate in names if candidate in loaded), None)
        if present is None:
            raise HubError(_write_missing_split(name, wanted, loaded))
        title = f"split {wanted!r} of {name!r}"
        source = Source(name=title, batches=())
        source.batches = limit_rows(loaded[present](source), limit, title)
        try:
            results.append(ingest(source, columns=columns, on_error=on_error, rules=rules))
        except InvalidRows as error:
            if error.problems:
                raise
            raise HubError(str(error)) from error
    return results


def _write_missing_split(name: str, wanted: str, loaded: Mapping[str, Any]) -> str:
    first = next(iter(loaded), "train")
    hint = f"from_hub(..., split={first!r}) reads one split, and split() divides it"
    return f"{name!r} has no split {wanted!r}; it has {quote_names(loaded)}; {hint}"


def _find_limit(name: str) -> int | None:
    """Return how many bytes the rows of a folder may have; of a repository, what the variable says."""
    folder = Path(name).expanduser()
    if folder.is_dir():
        return find_limit(sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()))
    return find_limit(0) if os.environ.get(LIMIT_VARIABLE) else None


def _load(
    name: str,
    token: str | None,
    revision: str | None,
    columns: Mapping[str, str] | None,
    *,
    streaming: bool,
) -> Mapping[str, _Read]:
    """Return for each split what reads its batches."""
    import datasets
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    folder = _find_folder(name)
    try:
        if folder is not None and (files := _find_files(folder)):
            return {split: partial(_read_files, paths, columns) for split, paths in files.items()}
        # A folder is streamed past the cache of `datasets`. The cache takes two folders of one name, each
        # with a card that lists its files, for the same, and returns the rows of the first.
        loaded = datasets.load_dataset(
            str(folder or name), token=token, revision=revision, streaming=streaming or folder is not None
        )
        notes = {} if folder is not None else _read_card(name, token, revision)
    except (datasets.exceptions.DatasetNotFoundError, HfHubHTTPError) as error:
        raise HubError(
            f"cannot load {name!r} from the Hub: {_first_line(error)}; check the name, and for a private "
            "or gated one set HF_TOKEN or call login()"
        ) from error
    except (OSError, ValueError, HFValidationError, datasets.exceptions.DatasetsError) as error:
        raise HubError(f"cannot load {name!r}: {_first_line(error)}") from error
    if not isinstance(loaded, dict):
        raise HubError(f"{name!r} has no splits; split it first, or load files")
    return {str(split): partial(_read_split, name, data, notes, columns) for split, data in loaded.items()}


def _find_folder(name: str) -> Path | None:
    """Return the folder that a name means, or None for a repository of the Hub."""
    path = Path(name).expanduser()
    if path.is_dir():
        check_packed_files(path)
        return path
    if path.is_file() or path.suffix.lower() in _FILE_ENDINGS:
        raise HubError(f"{name!r} is a file, and no folder or repository; ItemDataset.from_file reads files")
    # A missing folder must not be looked up on the Hub.
    if path.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
        raise HubError(
            f"there is no folder {name!r}; give a folder that exists, or a Hub id such as 'owner/name'"
        )
    return None


def _find_files(folder: Path) -> dict[str, list[Path]]:
    """Return the files of each split of a folder, where all are of a kind that `from_file` reads.

    `datasets` says which file belongs to which split. Its reading is not used: it takes the zeros from ids
    such as `0012`, and turns columns of numbers and texts into JSON.
    """
    import datasets

    config = datasets.load_dataset_builder(str(folder)).config
    found = {str(split): [Path(path) for path in paths] for split, paths in (config.data_files or {}).items()}
    endings = {
        path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
        for each in found.values()
        for path in each
    }
    usual = "\t" if endings == {".tsv"} else ","
    plain = getattr(config, "sep", usual) == usual and endings <= _READABLE
    plain = plain and getattr(config, "field", None) is None  # a card may say under which key the rows stand
    return found if plain and all(path.is_file() for each in found.values() for path in each) else {}


def _read_files(paths: list[Path], columns: Mapping[str, str] | None, split: Source) -> Iterator[pa.Table]:
    before = 0
    for path in paths:
        part, seen = read_file(path, columns), 0
        for batch in part.batches:
            seen += batch.num_rows
            _take_names(part, split)
            if batch.num_columns:  # an empty JSONL has none, and is an empty part
                yield batch
        _take_names(part, split)
        split.unreadable += [replace(problem, row=problem.row + before) for problem in part.unreadable]
        before += seen + len(part.unreadable)


def _take_names(part: Source, split: Source) -> None:
    if part.names:
        split.names = (split.names or {}) | part.names


def _read_split(
    name: str,
    data: Any,
    notes: Mapping[bytes, bytes],
    columns: Mapping[str, str] | None,
    split: Source,
) -> Iterator[pa.Table]:
    import pyarrow as pa

    roles, first = Roles(columns), 1
    features = data.features or {}
    try:
        for batch in data.with_format("arrow").iter(batch_size=_ROWS):
            named = _name_classes(batch, features).replace_schema_metadata(notes)
            yield clean_table(named, first, roles, split.unreadable)
            first += batch.num_rows
        if first == 1:
            yield data.features.arrow_schema.empty_table() if data.features else pa.table({})
    except (OSError, ValueError) as error:
        if isinstance(error, InvalidRows):
            raise
        if "BatchSize must be greater than 0" in str(error):  # said of a Parquet file without rows
            return
        raise HubError(f"cannot load {name!r}: {_first_line(error)}") from error


def _name_classes(table: pa.Table, features: Mapping[str, Any]) -> pa.Table:
    """Return a table with the names of classes, of which the rows hold numbers."""
    import pyarrow as pa

    for at, name in enumerate(table.column_names):
        if to_name := getattr(features.get(name), "int2str", None):
            names = [None if each is None or each < 0 else to_name(each) for each in table[name].to_pylist()]
            table = table.set_column(at, name, pa.array(names, pa.string()))
    return table


def _read_card(name: str, token: str | None, revision: str | None) -> dict[bytes, bytes]:
    """Return what the card of a set that was pushed from here says of its prices."""
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError

    try:
        path = huggingface_hub.hf_hub_download(
            name, "README.md", repo_type="dataset", token=token, revision=revision
        )
        said = huggingface_hub.DatasetCard.load(path).data.to_dict().get(_CARD_KEY)
    except (HfHubHTTPError, OSError, ValueError):  # there is no card
        return {}
    return (
        {key.encode(): str(value).encode() for key, value in said.items()} if isinstance(said, dict) else {}
    )


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def login(token: str | None = None, *, add_to_git_credential: bool = False) -> None:
    """Log in to the Hugging Face Hub and save the login for the next time.

    Args:
        token: The Hub token; else `HF_TOKEN` of the environment or `.env`, else asked for.
        add_to_git_credential: Also save it where git looks for passwords.

    Raises:
        AccessDenied: The Hub does not accept the token.
        HubError: The Hub cannot be reached.
    """
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError

    require_text("token", token, or_none=True)
    require_flag("add_to_git_credential", add_to_git_credential)
    try:
        huggingface_hub.login(
            token or read_settings().get("HF_TOKEN"), add_to_git_credential=add_to_git_credential
        )
    except (ValueError, HfHubHTTPError) as error:
        raise AccessDenied(
            f"the Hub does not accept this token ({_first_line(error)}); make a new one there"
        ) from None
    except OSError as error:
        raise HubError(f"cannot reach the Hub: {_first_line(error)}; try again later") from error


def push(
    splits: Mapping[str, HubSplit],
    repo: str,
    *,
    private: bool,
    token: str | None,
    licence: str | None,
) -> str:
    """Upload splits and their card, and return the address of the data set."""
    with temporary_folder("push") as folder:
        write_folder(splits, folder, title=repo, licence=licence)
        return upload_folder(
            folder,
            repo,
            kind="dataset",
            private=private,
            token=token,
            message="Upload items with finetune_pricer",
            # What an earlier push left under `data/` must not be read together with this one.
            replaced=["data/*.parquet"],
        )


def upload_folder(
    folder: Path,
    repo: str,
    *,
    kind: Literal["dataset", "model"],
    private: bool,
    token: str | None,
    message: str,
    replaced: Sequence[str],
) -> str:
    """Upload a folder in place of files of an earlier one, and return the repository's address.

    Raises:
        HubError: The Hub refuses, or does not answer.
    """
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    api = huggingface_hub.HfApi(token=token or read_settings().get("HF_TOKEN"))
    try:
        where = api.create_repo(repo, repo_type=kind, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=where.repo_id,
            repo_type=kind,
            folder_path=folder,
            commit_message=message,
            delete_patterns=list(replaced),
        )
    except (HfHubHTTPError, OfflineModeIsEnabled, OSError, ValueError) as error:
        raise HubError(
            f"cannot push to {repo!r}: {_first_line(error)}; check the name, and that HF_TOKEN or "
            "login() gives a token that may write"
        ) from error
    return str(where)


def write_folder(splits: Mapping[str, HubSplit], folder: Path, *, title: str, licence: str | None) -> None:
    """Write splits in the Hub's layout, with a `README.md` that is the data set's card."""
    for name, split in splits.items():
        write_parquet(split.table, folder / "data" / f"{name}-00000-of-00001.parquet", split.notes)
    (folder / "README.md").write_text(_write_card(splits, title=title, licence=licence), encoding="utf-8")


def _write_card(splits: Mapping[str, HubSplit], *, title: str, licence: str | None) -> str:
    """Return a card that says where the rows came from, what was removed, and what the prices look like.

    Names of files and categories may hold anything: they are shown as text.
    """
    from huggingface_hub import DatasetCardData

    files = [{"split": name, "path": f"data/{name}-*.parquet"} for name in splits]
    notes = next((split.notes for split in splits.values()), {})
    told = {key.decode(): value.decode() for key, value in notes.items() if value}
    said: dict[str, Any] = {_CARD_KEY: told} if told else {}
    head = DatasetCardData(license=licence, configs=[{"config_name": "default", "data_files": files}], **said)
    body = [f"# {escape_markdown(title.partition('/')[2] or title)}", ""]
    body += [
        "Products and their prices, written with `finetune_pricer`.",
        "",
        "| split | items |",
        "|---|---|",
    ]
    body += [f"| {name} | {split.table.num_rows:,} |" for name, split in splits.items()]
    for name, split in splits.items():
        body += ["", f"## {name}", "", "Where its rows come from, and what was done to them:", ""]
        history = split.history or ("made in Python",)
        body += [f"{number}. {escape_paragraph(line)}" for number, line in enumerate(history, start=1)]
        # Only as many backticks as stand here would end the block.
        fence = "`" * (max(map(len, re.findall("`+", split.description)), default=0) + 3)
        body += ["", f"{fence}text", escape_text(split.description), fence]
    return "\n".join(["---", head.to_yaml(), "---", "", *body, ""])
