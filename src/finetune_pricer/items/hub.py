"""The Hugging Face Hub: log in, load splits, and publish splits with a card that says what they are."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from .._arguments import require_flag, require_text
from .._environment import read_settings
from .._escape import escape_markdown, escape_paragraph, escape_text
from .._files import temporary_folder
from ..errors import AccessDenied, HubError, InvalidRows
from .decompression import LIMIT_VARIABLE, check_packed_files, find_limit, limit_rows
from .ingest import IngestResult, OnError, Source, ingest, quote_names
from .tables import write_parquet

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import pyarrow as pa

_ROWS = 1000  # that are read together
_SPLITS = {"train": ("train",), "validation": ("validation", "val", "valid", "dev"), "test": ("test",)}


class HubSplit(NamedTuple):
    """One split as the Hub gets it."""

    table: pa.Table
    history: tuple[str, ...]
    """Where the rows come from and what was done to them, a sentence each."""
    description: str
    """A page of text about the rows."""


def load_splits(
    name: str,
    *,
    token: str | None,
    revision: str | None,
    columns: Mapping[str, str] | None,
    on_error: OnError,
    streaming: bool,
) -> list[IngestResult]:
    """Load the three splits of a Hub repository or of a local folder: training, validation and test."""
    loaded = _load(name, token or read_settings().get("HF_TOKEN"), revision, streaming=streaming)
    limit = _find_limit(name)
    results = []
    for split, names in _SPLITS.items():
        present = next((candidate for candidate in names if candidate in loaded), None)
        if present is None:
            raise HubError(
                f"{name!r} has no split {split!r}; it has {quote_names(loaded)}; "
                "split it first, or load files"
            )
        title = f"split {split!r} of {name!r}"
        batches = limit_rows(_batches(name, loaded[present]), limit, title)
        source = Source(name=title, batches=batches)
        try:
            results.append(ingest(source, columns=columns, on_error=on_error))
        except InvalidRows as error:
            if error.problems:
                raise
            raise HubError(str(error)) from error
    return results


def _find_limit(name: str) -> int | None:
    """Return how many bytes the rows of a folder may have; of a repository, what the variable says."""
    folder = Path(name).expanduser()
    if folder.is_dir():
        return find_limit(sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()))
    return find_limit(0) if os.environ.get(LIMIT_VARIABLE) else None


def _batches(name: str, data: Any) -> Iterator[pa.Table]:
    import pyarrow as pa

    try:
        any_rows = False
        for batch in data.with_format("arrow").iter(batch_size=_ROWS):
            any_rows = True
            yield batch
        if not any_rows:
            yield data.features.arrow_schema.empty_table() if data.features else pa.table({})
    except (OSError, ValueError) as error:
        if isinstance(error, InvalidRows):
            raise
        raise HubError(f"cannot load {name!r}: {_first_line(error)}") from error


def _load(name: str, token: str | None, revision: str | None, *, streaming: bool) -> Mapping[str, Any]:
    import datasets
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    # A missing folder must not be looked up on the Hub.
    path = Path(name).expanduser()
    looks_local = path.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1
    if looks_local and not path.is_dir():
        raise HubError(
            f"there is no folder {name!r}; give a folder that exists, or a Hub id such as 'owner/name'"
        )
    here = path.is_dir()
    if here:
        check_packed_files(path)
    try:
        # A folder is streamed past the cache of `datasets`. The cache takes two folders of one name, each
        # with a card that lists its files, for the same, and returns the rows of the first.
        loaded = datasets.load_dataset(
            str(path) if here else name, token=token, revision=revision, streaming=streaming or here
        )
    except (datasets.exceptions.DatasetNotFoundError, HfHubHTTPError) as error:
        raise HubError(
            f"cannot load {name!r} from the Hub: {_first_line(error)}; check the name, and for a private "
            "or gated one set HF_TOKEN or call login()"
        ) from error
    except (OSError, ValueError, HFValidationError, datasets.exceptions.DatasetsError) as error:
        raise HubError(f"cannot load {name!r}: {_first_line(error)}") from error
    if not isinstance(loaded, dict):
        raise HubError(f"{name!r} has no splits; split it first, or load files")
    return dict(loaded)


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
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    api = huggingface_hub.HfApi(token=token or read_settings().get("HF_TOKEN"))
    with temporary_folder("push") as folder:
        write_folder(splits, folder, title=repo, licence=licence)
        try:
            where = api.create_repo(repo, repo_type="dataset", private=private, exist_ok=True)
            api.upload_folder(
                repo_id=where.repo_id,
                repo_type="dataset",
                folder_path=folder,
                commit_message="Upload items with finetune_pricer",
                # What an earlier push left under `data/` must not be read together with this one.
                delete_patterns="data/*.parquet",
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
        write_parquet(split.table, folder / "data" / f"{name}-00000-of-00001.parquet")
    (folder / "README.md").write_text(_write_card(splits, title=title, licence=licence), encoding="utf-8")


def _write_card(splits: Mapping[str, HubSplit], *, title: str, licence: str | None) -> str:
    """Return a card that says where the rows came from, what was removed, and what the prices look like.

    Names of files and categories may hold anything: they are shown as text.
    """
    from huggingface_hub import DatasetCardData

    files = [{"split": name, "path": f"data/{name}-*.parquet"} for name in splits]
    head = DatasetCardData(license=licence, configs=[{"config_name": "default", "data_files": files}])
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
