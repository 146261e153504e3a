"""What is configured: the environment, the nearest `.env` file, and the folder for our state.

A `.env` may come with a repository that somebody else wrote. So it is said which values were taken from it,
it is never given values of the environment, and it does not choose where purchases are noted.
"""

from __future__ import annotations

import logging
import os
import sys
from contextlib import suppress
from pathlib import Path

from .errors import NotConfigured

_log = logging.getLogger("finetune_pricer")
_HOME = "FINETUNE_PRICER_HOME"


class Settings:
    """The environment together with a `.env`; values are looked up one by one, and none stands in the `repr`.

    An empty value counts as none, as `KEY=` in a copied template means "not filled in".

    Attributes:
        path: The `.env` that was read; None where there is none.
    """

    __slots__ = ("_file_wins", "_from_file", "_needs_environment", "_said", "path")

    def __init__(self, path: Path | None, *, file_wins: bool) -> None:
        self.path = path
        self._file_wins = file_wins
        self._said = set[str]()
        self._from_file, self._needs_environment = _read_dotenv(path) if path else ({}, {})

    def __contains__(self, name: str) -> bool:
        """Whether a variable has a value."""
        return bool(os.environ.get(name)) or name in self._from_file or name in self._needs_environment

    def get(self, name: str) -> str | None:
        """Return a variable's value, and log where it is from if that is the file; None where it has none.

        Raises:
            NotConfigured: The file takes the value from the environment.
        """
        path = self.file_of(name)
        if path is None:
            return os.environ.get(name) or None
        if name in self._needs_environment:
            needed = self._needs_environment[name]
            raise NotConfigured(
                f"{str(path)!r} takes {name} from {needed} of the environment, which a file is not given; "
                f"write the value out, or set {name} in the environment"
            )
        if name not in self._said:
            self._said.add(name)
            _log.info("%s is taken from %r", name, str(path))
        return self._from_file[name]

    def file_of(self, name: str) -> Path | None:
        """Return the `.env` that a variable's value is from; None where it is from the environment."""
        in_file = name in self._from_file or name in self._needs_environment
        return self.path if in_file and (self._file_wins or not os.environ.get(name)) else None

    def __repr__(self) -> str:
        return f"Settings of the environment and {f'of {str(self.path)!r}' if self.path else 'no .env'}"


def read_settings(*, dotenv_wins: bool = False) -> Settings:
    """Read the environment together with the `.env` nearest above the working directory.

    The search ends at the top folder of a repository and at the user's own folder. Nothing is written into
    `os.environ`: a library that did would change other code's behaviour.

    Raises:
        NotConfigured: The `.env` cannot be read, or is not UTF-8 text.
    """
    return Settings(_find_dotenv(), file_wins=dotenv_wins)


def find_state_folder() -> Path:
    """Return the folder for what must outlive a process: `FINETUNE_PRICER_HOME`, or the user's own.

    The variable counts in the environment alone: what was bought must not be forgotten because the script
    runs in another folder.
    """
    if chosen := os.environ.get(_HOME):
        return Path(chosen).expanduser()
    if (path := read_settings().file_of(_HOME)) is not None:
        _log.warning("%s in %r is ignored; set it in the environment", _HOME, str(path))
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "finetune-pricer"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "finetune-pricer"
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "finetune-pricer"


def _find_dotenv() -> Path | None:
    home = None
    with suppress(RuntimeError, OSError):  # nobody's folder is known
        home = Path.home().resolve()
    with suppress(OSError):  # a folder that was deleted, or may not be looked into
        for folder in (Path.cwd(), *Path.cwd().parents):
            path = folder / ".env"
            if path.is_file() or path.is_fifo():
                return path
            if folder == home or (folder / ".git").exists():
                return None
    return None


def _read_dotenv(path: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Return the values of a file, and for those that need the environment the variable that they need."""
    from dotenv import dotenv_values
    from dotenv.variables import Variable, parse_variables

    try:
        written = dotenv_values(path, interpolate=False, encoding="utf-8")
    except UnicodeDecodeError:
        raise NotConfigured(f"{str(path)!r} is not UTF-8 text; save it again as such") from None
    except OSError as error:
        raise NotConfigured(f"cannot read {str(path)!r}: {error.strerror or error}") from error
    known, needed = dict[str, str](), dict[str, str]()
    for name, text in written.items():
        parts = list(parse_variables(text or ""))
        unknown = [part.name for part in parts if isinstance(part, Variable) and part.name not in known]
        foreign = [needed.get(other, other) for other in unknown if other in needed or os.environ.get(other)]
        if foreign:
            needed[name] = foreign[0]
        else:
            known[name] = "".join(part.resolve(known) for part in parts)
    return {name: value for name, value in known.items() if value}, needed
