"""What is configured: the environment, the nearest `.env` file, and the folder for our state."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import NotConfigured

if TYPE_CHECKING:
    from collections.abc import Mapping


def read_settings(*, dotenv_wins: bool = False) -> Mapping[str, str]:
    """Read the environment together with the `.env` nearest above the working directory.

    Nothing is written into `os.environ`: a library that did would change other code's behaviour. An empty
    value counts as none, as `KEY=` in a copied template means "not filled in".
    """
    from dotenv import dotenv_values, find_dotenv

    path = find_dotenv(usecwd=True)
    try:
        values = dotenv_values(path) if path else {}
    except UnicodeDecodeError as error:
        raise NotConfigured(f"{path!r} is not UTF-8 text; save it again as such") from error
    from_file = {name: value for name, value in values.items() if value}
    from_environment = {name: value for name, value in os.environ.items() if value}
    return from_environment | from_file if dotenv_wins else from_file | from_environment


def find_state_folder() -> Path:
    """Return the folder for what must outlive a process: `FINETUNE_PRICER_HOME`, or the user's own."""
    if chosen := read_settings().get("FINETUNE_PRICER_HOME"):
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "finetune-pricer"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "finetune-pricer"
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "finetune-pricer"
