"""Reading a training file once and finding everything that is wrong with it."""

from __future__ import annotations

import codecs
import hashlib
from array import array
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from .._chat_protocol import text_of
from ..errors import FileAccessError
from ..providers.known import PROTOCOL, get_provider
from .faults import FAULTS, SHOWN, JsonlProblem, JsonlReport
from .rules import Flaw, Messages, look_at

if TYPE_CHECKING:
    import os

    from ..providers.provider import Provider


def check_jsonl(
    path: str | os.PathLike[str], provider: str | Provider | None = None, *, currency: str = "USD"
) -> JsonlReport:
    """Read a training file once and report every problem; 16 bytes a line are kept in memory.

    Args:
        path: A file of chat examples, whoever wrote it.
        provider: The service whose limits it shall keep: a name such as `"azure"`, or a `Provider`; None
            takes the protocol's.
        currency: Of the prices in the replies.

    Raises:
        FileAccessError: The file cannot be read.
        NotConfigured: There is no provider of that name.
    """
    service = PROTOCOL if provider is None else get_provider(provider)
    source, seen, digest, number, size = Path(path), _Seen(), hashlib.sha256(), 0, 0
    try:
        with source.open("rb") as file:
            for number, line in enumerate(file, start=1):
                digest.update(line)
                size += len(line)
                seen.at_line(number, line, service, currency)
    except OSError as error:
        raise FileAccessError(f"cannot read {str(source)!r}: {error.strerror or error}") from error
    duplicates = seen.at_the_end(size, service)
    return JsonlReport(
        path=source,
        examples=seen.examples,
        bytes=size,
        sha256=digest.hexdigest(),
        problems=seen.problems(),
        provider=provider,
        currency=currency,
        duplicates=duplicates,
    )


@dataclass(slots=True)
class _Places:
    """A kind of fault, and where it was found so far."""

    first: Flaw
    lines: list[int]
    count: int = 1


@dataclass(slots=True)
class _Seen:
    """What has been seen of a file so far."""

    examples: int = 0
    found: dict[str, _Places] = field(default_factory=dict)
    hashes: array[int] = field(default_factory=lambda: array("q"))
    lines: array[int] = field(default_factory=lambda: array("Q"))
    system: str | None = None

    def tell(self, flaw: Flaw, line: int | None = None) -> None:
        """Note a fault of a line, or of the whole file."""
        known = self.found.get(flaw.code)
        if known is None:
            self.found[flaw.code] = _Places(flaw, [] if line is None else [line])
            return
        known.count += 1
        if line is not None and len(known.lines) < SHOWN and known.lines[-1] != line:
            known.lines.append(line)

    def at_line(self, number: int, line: bytes, service: Provider, currency: str) -> None:
        from orjson import dumps

        if number == 1:
            marked = line.startswith(codecs.BOM_UTF8)
            if service.file_encoding == "utf-8-sig" and not marked:
                self.tell(Flaw("mark", "", "missing"))
            line = line.removeprefix(codecs.BOM_UTF8)
        messages, flaws = look_at(line, service, currency)
        if messages is not None:
            self._at_messages(number, messages)
            self.hashes.append(hash(dumps(messages)))
            self.lines.append(number)
        if not flaws:
            self.examples += 1
            return
        for flaw in flaws:
            self.tell(flaw, number)
        self.examples += not any(FAULTS[flaw.code].level == "error" or flaw.code == "blank" for flaw in flaws)

    def _at_messages(self, number: int, messages: Messages) -> None:
        system = text_of(messages[0]) if messages[0]["role"] == "system" else None
        if not self.lines:
            self.system = system
        elif system != self.system:
            self.tell(Flaw("systems", "messages[0]"), number)

    def at_the_end(self, size: int, service: Provider) -> tuple[int, ...]:
        """Note what only the whole file shows; give the lines that repeat earlier ones."""
        import numpy as np

        if self.examples < service.min_examples:
            self.tell(Flaw("few", "", f"{self.examples:,} of {service.min_examples:,}"))
        if size > service.max_file_bytes:
            self.tell(Flaw("large", "", f"{size:,} of {service.max_file_bytes:,} bytes"))
        hashes = np.array(self.hashes, dtype=np.int64)
        order = np.argsort(hashes, kind="stable")
        ordered = hashes[order]
        again = order[1:][ordered[1:] == ordered[:-1]]
        repeated = sorted(self.lines[index] for index in again.tolist())
        for line in repeated:
            self.tell(Flaw("duplicate"), line)
        return tuple(repeated)

    def problems(self) -> tuple[JsonlProblem, ...]:
        """Give what was found, errors first, by their first lines."""
        made = [
            JsonlProblem(
                code=code,
                level=FAULTS[code].level,
                count=places.count,
                lines=tuple(places.lines),
                path=places.first.path,
                what=": ".join(filter(None, [FAULTS[code].what, places.first.detail])),
                mend=FAULTS[code].mend,
            )
            for code, places in self.found.items()
        ]
        return tuple(sorted(made, key=lambda each: (each.level, each.lines or (0,))))
